"""Evaluation of a trained model on a split: predictions and scores."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import log_softmax
from sklearn import metrics

from cifar_exp.data.datasets import Labels, Split
from cifar_exp.training.feeding import batches

SERVED_BATCH = 32  # Keras's default, used when the logged model is served; other sizes round differently

# logged name -> key of scikit-learn's report
_OF_CLASS = {"recall": "recall", "precision": "precision", "f1": "f1-score", "support": "support"}


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a model for N images of C classes, and the scores computed from them.

    Attributes:
        classes: C class names in the order of the labels.
        labels: true classes, (N,) uint8 or uint16.
        probabilities: predicted class probabilities, (N, C) float32.
        loss: mean cross-entropy in nats.
    """

    classes: tuple[str, ...]
    labels: Labels
    probabilities: npt.NDArray[np.float32]
    loss: float

    @cached_property
    def predicted(self) -> Labels:
        """The most probable class of each image, (N,), of the type of the labels."""
        predicted: Labels = self.probabilities.argmax(axis=1).astype(self.labels.dtype)
        return predicted

    @cached_property
    def confusion_matrix(self) -> npt.NDArray[np.int64]:
        """Counts (C, C): rows true, columns predicted."""
        matrix: npt.NDArray[np.int64] = metrics.confusion_matrix(
            self.labels, self.predicted, labels=np.arange(len(self.classes))
        )
        return matrix

    @cached_property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have test images (`sklearn.metrics.balanced_accuracy_score`)."""
        with warnings.catch_warnings():  # scikit-learn warns of a predicted class that no image has
            warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
            return float(metrics.balanced_accuracy_score(self.labels, self.predicted))

    @cached_property
    def report(self) -> dict[str, Any]:
        """scikit-learn's classification report: precision, recall, f1-score and support by class name."""
        report: dict[str, Any] = metrics.classification_report(
            self.labels,
            self.predicted,
            labels=np.arange(len(self.classes)),
            target_names=list(self.classes),
            output_dict=True,
            zero_division=0,
        )
        return report

    def metrics(self) -> dict[str, float]:
        """Test metrics by logged name: loss, accuracy, balanced accuracy, macro F1, and those of each class.

        Of each class: recall, precision, F1 and support, the number of its images.
        """
        scores = {
            "test/loss": self.loss,
            "test/accuracy": float(np.mean(self.predicted == self.labels)),
            "test/balanced_accuracy": self.balanced_accuracy,
            "test/f1_macro": float(self.report["macro avg"]["f1-score"]),
        }
        for name in self.classes:
            for metric, key in _OF_CLASS.items():
                scores[f"test/{metric}/{metric_name(name)}"] = float(self.report[name][key])
        return scores

    def predictions(self) -> pd.DataFrame:
        """One row per test image: index, label, predicted, p_<class>."""
        frame = pd.DataFrame(self.probabilities, columns=[f"p_{name}" for name in self.classes])
        frame.insert(0, "index", np.arange(len(self.labels)))
        frame.insert(1, "label", self.labels)
        frame.insert(2, "predicted", self.predicted)
        return frame

    def submission(self) -> pd.DataFrame:
        """One row per test image in the format of Kaggle's CIFAR-10 competition: id (from 1) and label (class name).

        The ids number the test images of this data set; the 300,000 test images of the competition are different ones.
        """
        ids = np.arange(1, len(self.labels) + 1)
        return pd.DataFrame({"id": ids, "label": np.array(self.classes)[self.predicted]})


def metric_name(class_name: str) -> str:
    """Replace each character that MLflow does not allow in the name of a metric, or that splits it, by `_`."""
    return re.sub(r"[^\w.\- ]", "_", class_name)


def evaluate(model: keras.Model, classifier: keras.Model, split: Split, classes: tuple[str, ...]) -> Evaluation:
    """Predict every image of a split.

    Args:
        model: outputs logits. The loss is computed from them, without underflow.
        classifier: the same model with probabilities as its output; these are logged.
        split: images (N, H, W, C) uint8 and labels (N,) uint8 or uint16.
        classes: class names in the order of the labels.

    Returns:
        The predictions and scores.
    """
    true_class = np.arange(len(split)), split.labels
    images = batches(SERVED_BATCH, split.images)
    if classifier.input is model.input:
        combined = keras.Model(model.input, [model.output, classifier.output])
        logits, probabilities = combined.predict(**images, verbose=0)
        log_likelihood = log_softmax(logits.astype(np.float64), axis=1)[true_class]
    else:  # a mean over several views of an image has no logits
        probabilities = classifier.predict(**images, verbose=0)
        log_likelihood = np.log(np.maximum(probabilities[true_class], np.finfo(np.float32).tiny), dtype=np.float64)
    return Evaluation(classes, split.labels, probabilities, float(-log_likelihood.mean()))
