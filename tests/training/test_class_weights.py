"""Objectives with weights, smoothing and penalties, wide labels and images of one channel, on every backend."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_exp.training.runtime import BACKENDS

# Trains one epoch with a learning rate of 0 on images of 12 x 20 x 1 in 300 classes: losses are then means over the
# images at the initial weights, which NumPy computes as well.
SCRIPT = """
import json
from dataclasses import replace
import numpy as np
from scipy.special import log_softmax
from cifar_exp.config.layers import parse
from cifar_exp.config.composition import plan
from cifar_exp.config.schema import ModelConfig
from cifar_exp.data.datasets import Split, Splits, label_type
from cifar_exp.training import runtime

overrides = ["data=digits", "optimizer=sgd", "optimizer.learning_rate=1e-30", "training.epochs=1",
             "training.device=cpu", "training.batch_size=40", "augmentation=flip_crop"]
config = plan(overrides, multirun=False).jobs[0]
layers = parse(["Flatten", {"Dense": {"units": 300, "kernel_regularizer": {"L2": {"l2": 0.01}}}}], "m")
config = replace(config, model=ModelConfig("m", layers, {}), data=replace(config.data, image_shape=(12, 20, 1)))
runtime.prepare(config.training, 0)
from cifar_exp.evaluation.evaluation import evaluate
from cifar_exp.training import fit, models, objective

generator = np.random.default_rng(0)
labels = generator.integers(0, 300, 200).astype(label_type(300))
labels[:120] = 299
images = np.repeat(np.repeat(generator.integers(0, 256, (200, 1, 1, 1)), 12, 1), 20, 2).astype(np.uint8)
names = tuple(f"c{i}" for i in range(300))
split = Split(images, labels)
splits = Splits(split, split, split, names, "random")
answers = {}
weighted = {"c299": 5.0}
for weights, smoothing, gamma in (("none", 0.0, 0.0), ("none", 0.1, 0.0), (weighted, 0.0, 0.0), (weighted, 0.1, 0.0),
                                  (weighted, 0.1, 2.0)):
    job = replace(config, data=replace(config.data, class_weights=weights),
                  training=replace(config.training, label_smoothing=smoothing, focal_gamma=gamma),
                  augmentation=replace(config.augmentation, fill="nearest"))
    model, _ = models.build(job.model, job.data.image_shape)
    history = fit.fit(model, splits, job, lambda epoch, metrics: None)
    result = evaluate(model, models.classifier(model), splits).test
    logits = log_softmax(model.predict(images, verbose=0).astype(np.float64), axis=1)
    wanted = np.full((200, 300), smoothing / 300)
    wanted[np.arange(200), labels] += 1 - smoothing
    of_class = np.where((labels == 299) & (weights != "none"), 5.0, 1.0)
    penalty = 0.01 * float(np.square(model.layers[-2].get_weights()[0], dtype=np.float64).sum())
    of_image = -(wanted * (1 - np.exp(logits)) ** gamma * logits).sum(axis=1)
    minimized = float((of_image * of_class).mean()) + penalty
    loss = float(-logits[np.arange(200), labels].mean())
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    test = objective.value(model, objective.loss(job, splits), labels, result.log_probabilities)
    answers[f"{weights} {smoothing} {gamma}"] = {
        "objectives": [minimized, history["train/objective"][0], history["val/objective"][0], test],
        "losses": [loss, history["train/loss"][0], history["val/loss"][0], result.loss],
        "accuracies": [accuracy, history["train/accuracy"][0]],
        "balanced": result.metrics()["test/balanced_accuracy"],
        "type": str(result.predicted.dtype)}
print(json.dumps(answers))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_objective_is_weighted_smoothed_and_penalized_and_the_loss_is_not(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == 5
    for answer in answers.values():
        for expected, *logged in (answer["objectives"], answer["losses"], answer["accuracies"]):
            assert logged == pytest.approx([expected] * len(logged), rel=1e-4)
        assert 0 <= answer["balanced"] <= 1 and answer["type"] == "uint16"
    objectives = {setting: answer["objectives"][0] for setting, answer in answers.items()}
    assert objectives["{'c299': 5.0} 0.0 0.0"] > 2 * objectives["none 0.0 0.0"]
