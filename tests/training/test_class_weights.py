"""Weighted losses, wide labels and images of one channel, on every backend."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_exp.training.runtime import BACKENDS

# Trains one epoch with a learning rate of 0 on images of 12 x 20 x 1 in 300 classes: the loss is then a mean over
# the images at the initial weights, which NumPy computes as well.
SCRIPT = """
import json
from dataclasses import replace
import numpy as np
from scipy.special import log_softmax
from cifar_exp.config.architecture import parse
from cifar_exp.config.composition import plan
from cifar_exp.config.schema import ModelConfig
from cifar_exp.data.datasets import Split, Splits, label_type
from cifar_exp.training import runtime

overrides = ["data=digits", "optimizer=sgd", "optimizer.learning_rate=1e-30", "training.epochs=1",
             "training.device=cpu", "training.batch_size=40", "augmentation=flip_crop"]
config = plan(overrides, multirun=False).jobs[0]
layers = parse(["Flatten", {"Dense": {"units": 300}}], "m")
config = replace(config, model=ModelConfig("m", layers, {}), data=replace(config.data, image_shape=(12, 20, 1)))
runtime.prepare(config.training, 0)
from cifar_exp.evaluation.evaluation import evaluate
from cifar_exp.training import fit, models

generator = np.random.default_rng(0)
labels = generator.integers(0, 300, 200).astype(label_type(300))
labels[:120] = 299
images = np.repeat(np.repeat(generator.integers(0, 256, (200, 1, 1, 1)), 12, 1), 20, 2).astype(np.uint8)
names = tuple(f"c{i}" for i in range(300))
split = Split(images, labels)
splits = Splits(split, split, split, names, "random")
answers = {}
for weights in ("none", {"c299": 5.0}):
    for smoothing in (0.0, 0.1):
        job = replace(config, data=replace(config.data, class_weights=weights),
                      training=replace(config.training, label_smoothing=smoothing),
                      augmentation=replace(config.augmentation, fill="nearest"))
        model, _ = models.build(job.model, job.data.image_shape)
        history = fit.fit(model, splits, job, lambda epoch, metrics: None)
        result = evaluate(model, models.classifier(model), split, names)
        logits = log_softmax(model.predict(images, verbose=0).astype(np.float64), axis=1)
        wanted = np.full((200, 300), smoothing / 300)
        wanted[np.arange(200), labels] += 1 - smoothing
        of_class = np.where((labels == 299) & (weights != "none"), 5.0, 1.0)
        expected = float((-(wanted * logits).sum(axis=1) * of_class).mean())
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        answers[f"{weights} {smoothing}"] = [
            history["train/loss"][0], expected, history["train/accuracy"][0], accuracy,
            history["val/loss"][0], result.loss, result.metrics()["test/balanced_accuracy"],
            str(result.predicted.dtype)]
print(json.dumps(answers))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_loss_of_each_image_is_weighted_by_its_class(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == 4
    for loss, expected, trained, accuracy, validated, tested, balanced, kind in answers.values():
        assert loss == pytest.approx(expected, rel=1e-4)
        assert (trained, validated) == (pytest.approx(accuracy, abs=1e-6), pytest.approx(tested, rel=1e-4))
        assert 0 <= balanced <= 1 and kind == "uint16"
    losses = {setting: values[0] for setting, values in answers.items()}
    assert losses["{'c299': 5.0} 0.0"] > 2 * losses["none 0.0"]
