"""Predictions of a model and their scores, by the names under which runs log them. They need no Keras."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics

from cifar_exp.data.splits import Labels
from cifar_exp.evaluation import calibration
from cifar_exp.evaluation.intervals import wilson

_LONGEST_CLASS = 200  # characters of a class in the name of a metric, which has at most 250 in MLflow


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a model for N images of C classes, and the scores computed from them.

    Attributes:
        classes: C class names in the order of the labels.
        labels: true classes, (N,) uint8 or uint16.
        probabilities: predicted class probabilities, (N, C) float32.
        log_probabilities: their natural logarithms, (N, C) float32; finite where a probability underflows to 0.
    """

    classes: tuple[str, ...]
    labels: Labels
    probabilities: npt.NDArray[np.float32]
    log_probabilities: npt.NDArray[np.float32]

    @cached_property
    def loss(self) -> float:
        """Mean cross-entropy of the labels, in nats."""
        return float(-self.log_probabilities[np.arange(len(self.labels)), self.labels].mean(dtype=np.float64))

    @cached_property
    def predicted(self) -> Labels:
        """The most probable class of each image, (N,), of the type of the labels."""
        predicted: Labels = self.probabilities.argmax(axis=1).astype(self.labels.dtype)
        return predicted

    @cached_property
    def accuracy(self) -> float:
        """Share of the images whose most probable class is the true one."""
        return float(np.mean(self.predicted == self.labels))

    @cached_property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(int(np.sum(self.predicted == self.labels)), len(self.labels))

    @cached_property
    def confusion_matrix(self) -> npt.NDArray[np.int64]:
        """Counts (C, C): rows true, columns predicted."""
        matrix: npt.NDArray[np.int64] = metrics.confusion_matrix(
            self.labels, self.predicted, labels=np.arange(len(self.classes))
        )
        return matrix

    @cached_property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have test images."""
        recall, support = self.of_classes["recall"].to_numpy(), self.of_classes["support"].to_numpy()
        return float(recall[support > 0].mean())

    @cached_property
    def of_classes(self) -> pd.DataFrame:
        """Recall, precision, F1 and support, the number of images, of each class (row)."""
        measured = metrics.precision_recall_fscore_support(
            self.labels, self.predicted, labels=np.arange(len(self.classes)), zero_division=0
        )
        return pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), measured, strict=True)))

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

    @cached_property
    def calibration(self) -> dict[str, float]:
        """Scores of the probabilities by name; see `calibration.scores`."""
        return calibration.scores(self.labels, self.probabilities, self.log_probabilities)

    def metrics(self, prefix: str = "test") -> dict[str, float]:
        """Metrics by logged name: loss, accuracy, balanced accuracy, macro F1, and those of each class.

        Of each class: recall, precision, F1 and support, the number of its images.

        Args:
            prefix: what stands before the first slash of each name.
        """
        scores = {
            f"{prefix}/loss": self.loss,
            f"{prefix}/accuracy": self.accuracy,
            f"{prefix}/balanced_accuracy": self.balanced_accuracy,
            f"{prefix}/f1_macro": float(self.of_classes["f1"].mean()),
        }
        for name, of_class in zip(metric_names(self.classes), self.of_classes.to_dict("records"), strict=True):
            scores |= {f"{prefix}/{metric}/{name}": float(value) for metric, value in of_class.items()}
        return scores

    def scaled(self, temperature: float) -> npt.NDArray[np.float64]:
        """Probabilities after temperature scaling, (N, C)."""
        scaled: npt.NDArray[np.float64] = np.exp(calibration.scale(self.log_probabilities, temperature))
        return scaled

    def reliability(self) -> dict[str, Any]:
        """What is known of the calibration, for JSON: its scores, bins and the accuracy by coverage."""
        bins = calibration.reliability(self.labels, self.probabilities)
        coverage = calibration.accuracy_at_coverage(self.labels, self.probabilities)
        return {**self.calibration, "bins": bins.rows(), "accuracy_at_coverage": coverage}

    def predictions(self) -> pd.DataFrame:
        """One row per image: index, label, predicted, p_<class>."""
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


def metric_names(classes: Sequence[str]) -> list[str]:
    """Names of classes in the names of metrics, all different.

    Each character that MLflow does not allow there, or that splits the name of a metric, becomes `_`. A long name is
    cut. A name that is then not that of one class alone ends in the number of the class, from 0.
    """
    names = [re.sub(r"[^\w.\- ]", "_", name)[:_LONGEST_CLASS] for name in classes]
    return [f"{name}.{number}" if names.count(name) > 1 else name for number, name in enumerate(names)]


@dataclass(frozen=True)
class Results:
    """Evaluation of a trained model on the test images and on the validation images.

    Attributes:
        test: on the test images.
        validation: on the validation images; the same object if these are the test images.
    """

    test: Evaluation
    validation: Evaluation

    @cached_property
    def temperature(self) -> float:
        """Temperature that calibrates the probabilities, fitted on the validation images."""
        return calibration.fit_temperature(self.validation.labels, self.validation.log_probabilities)

    @cached_property
    def scaled(self) -> npt.NDArray[np.float64] | None:
        """Test probabilities after temperature scaling, (N, C); None if it was fitted on the same images."""
        return None if self.validation is self.test else self.test.scaled(self.temperature)

    def metrics(self) -> dict[str, float]:
        """Final metrics by logged name: those of the test, and the calibration on both splits."""
        metrics = self.test.metrics() | {"val/temperature": self.temperature}
        for split, evaluation in (("val", self.validation), ("test", self.test)):
            metrics |= {f"{split}/{name}": value for name, value in evaluation.calibration.items()}
        if self.scaled is not None:
            metrics["test/ece_scaled"] = calibration.reliability(self.test.labels, self.scaled).error
        return metrics

    def calibration(self) -> dict[str, Any]:
        """What is known of the calibration, for JSON: temperature, and by split its scores, bins and coverage."""
        splits = {"validation": self.validation.reliability(), "test": self.test.reliability()}
        return {"temperature": self.temperature, **splits}
