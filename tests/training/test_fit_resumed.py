"""Training that was interrupted: it goes on from its checkpoints, to the very same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trained import NAMES, SMALL, Trained, fit, go_on, measured

from cifar_exp.errors import Diverged, UserError
from cifar_exp.training.checkpoint import Checkpoints

EXACT = "training.deterministic=true"
# Everything that has a state of its own, and early stopping that counts across each interruption.
STATEFUL = {
    "dropout, augmentation, mixed images, focal loss, momentum, inverse time": (
        "augmentation=flip_zoom",
        "augmentation.rotation=20",
        "augmentation.mixup=0.2",
        "augmentation.cutmix=1",
        "training.focal_gamma=1",
        "optimizer.momentum=0.9",
        "optimizer.nesterov=true",
        "optimizer/schedule=inverse_time",
        "optimizer.schedule.decay=0.1",
        "training.steps_per_execution=3",
    ),
    "batch normalization, spatial dropout, noise, adam, one cycle": (
        "model.layers=[{Conv2D:{filters:4,kernel_size:3}},BatchNormalization,{SpatialDropout2D:{rate:0.2}},"
        "{GaussianNoise:{stddev:0.1}},GlobalAveragePooling2D,{Dense:{units:10}}]",
        "augmentation=flip_crop",
        "optimizer=adam",
        "optimizer/schedule=one_cycle",
        "training.epochs=4",
    ),
    "early stopping": (
        "training.epochs=30",
        "optimizer.learning_rate=1.5",
        "training.early_stopping.monitor=val/accuracy",
        "training.early_stopping.patience=2",
    ),
    "accumulated gradients, muon, plateau, averaged weights": (
        "optimizer.ema=0.9",
        "model.layers=[Flatten,{Dense:{units:12}},{Dense:{units:10}}]",
        "optimizer=muon",
        "optimizer.gradient_accumulation_steps=3",
        "optimizer.no_weight_decay=[bias]",
        "optimizer/schedule=plateau",
        "optimizer.schedule.patience=1",
        "optimizer.learning_rate=0.3",
    ),
    "half precision and its loss scale": ("training.precision=mixed_float16", "optimizer=nadam", "optimizer.ema=0.8"),
}


def assert_equal(one: Trained, other: Trained) -> None:
    assert measured(one.history) == measured(other.history)
    for first, second in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("overrides", STATEFUL.values(), ids=STATEFUL)
def test_interrupted_after_every_epoch_it_comes_to_the_very_same(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    undisturbed = fit(EXACT, *overrides)
    epochs = len(undisturbed.history["val/loss"])
    assert epochs > 2
    for epoch in range(1, epochs + 1):
        with pytest.raises(KeyboardInterrupt):
            go_on((EXACT, *overrides), tmp_path, stop_after=epoch)
    resumed = go_on((EXACT, *overrides), tmp_path)
    assert resumed.told == []  # the last epoch was trained, and saved before it was told
    assert set(resumed.history) == NAMES
    assert_equal(resumed, undisturbed)


def test_what_is_told_after_an_interruption_is_what_is_new(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT,), tmp_path, stop_after=1)
    resumed = go_on((EXACT,), tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2, 3]
    assert [metrics["val/loss"] for _, metrics in resumed.told] == resumed.history["val/loss"][1:]
    assert_equal(resumed, fit(EXACT))


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    assert_equal(go_on((EXACT,), tmp_path), fit(EXACT))


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"\0" * len(content)])
def test_from_a_damaged_checkpoint_it_goes_on_an_epoch_earlier(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT,), tmp_path, stop_after=2)
    newest = tmp_path / "epoch-00002.checkpoint"
    newest.write_bytes(damage(newest.read_bytes()))
    resumed = go_on((EXACT,), tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2, 3]
    assert_equal(resumed, fit(EXACT))


def test_how_often_it_is_saved(tmp_path: Path) -> None:
    overrides = ("training.checkpoint.every=2", "training.epochs=5")
    folder = Checkpoints(tmp_path / "every second")
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT, *overrides), folder.folder, stop_after=3)
    assert folder.epochs() == [2]
    resumed = go_on((EXACT, *overrides), folder.folder)
    assert [epoch for epoch, _ in resumed.told] == [3, 4, 5]
    assert folder.epochs()[-2:] == [4, 5]  # the last epoch is saved whatever it is
    assert_equal(resumed, fit(EXACT, *overrides))
    go_on(("training.checkpoint.every=null",), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    go_on((), tmp_path)
    for override, name in (
        (
            "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10,use_bias:false}}]",
            "dense/bias is 10 float32 in the checkpoint and missing in the model",
        ),
        ("optimizer=adam", "/adam/iteration is missing in the checkpoint"),
        ("augmentation=flip_zoom", "seed_generator_state is missing in the checkpoint"),
        ("training.early_stopping.patience=1", "/dense/kernel is missing in the checkpoint"),
    ):
        # The best epoch is not the last one: what is missing then is its weights.
        checkpoint = Checkpoints(tmp_path).newest()
        assert checkpoint is not None
        checkpoint.history["val/loss"][0] = 0.0
        checkpoint.write(tmp_path / "epoch-00003.checkpoint")
        with pytest.raises(UserError, match=r"^checkpoint .*epoch-00003\.checkpoint does not fit: ") as refused:
            go_on((override, "training.epochs=6"), tmp_path)
        assert name in str(refused.value)


def test_a_training_that_diverged_leaves_no_checkpoint_of_that_epoch(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        go_on(("optimizer.learning_rate=1e38",), tmp_path)
    assert Checkpoints(tmp_path).epochs() == []


def test_a_full_disk_ends_the_training_and_the_epoch_before_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 2:  # a file and its folder
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="checkpoint not written: No space left on device"):
            go_on((EXACT,), tmp_path)
    resumed = go_on((EXACT,), tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2, 3]
    assert_equal(resumed, fit(EXACT))


PROCESS = """
import hashlib, json, os, pathlib, signal, sys
from cifar_exp.data import datasets
from cifar_exp.training import runtime
from cifar_exp.training.checkpoint import Checkpoints
from cifar_exp.config.composition import plan

folder, killed_after, overrides = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
config = plan(overrides, multirun=False).jobs[0]
splits = datasets.load(config.data)
runtime.prepare(config.training, config.seed)
from cifar_exp.training import models
from cifar_exp.training.fit import fit

def on_epoch(epoch, metrics):
    if epoch == killed_after:
        os.kill(os.getpid(), signal.SIGKILL)

model, _ = models.build(config.model, config.data.image_shape)
history = fit(model, splits, config, on_epoch, Checkpoints(pathlib.Path(folder)))
weights = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
print(json.dumps([history, weights]))
"""


def test_killed_and_trained_on_in_another_process_it_comes_to_the_very_same(tmp_path: Path) -> None:
    overrides = [*SMALL, EXACT, *STATEFUL["batch normalization, spatial dropout, noise, adam, one cycle"]]

    def process(folder: Path, killed_after: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROCESS, str(folder), str(killed_after), *overrides]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    killed = process(tmp_path / "killed", 2)
    assert killed.returncode == -signal.SIGKILL and not killed.stdout
    (resumed, weights), (undisturbed, same) = (
        json.loads(process(tmp_path / folder, 0).stdout.splitlines()[-1]) for folder in ("killed", "undisturbed")
    )
    assert len(resumed["val/loss"]) == 4
    assert measured(resumed) == measured(undisturbed)
    assert weights == same
