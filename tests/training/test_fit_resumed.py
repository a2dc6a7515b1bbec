"""Training that was interrupted: it goes on from its checkpoints, to the very same result."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from trained import EXACT, NAMES, SMALL, assert_equal, fit, go_on, measured

from cifar_exp.errors import UserError
from cifar_exp.training.checkpoint import Checkpoints

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
    "muon of convolutions": ("optimizer=muon_conv", "training.epochs=3"),
    "half precision and its loss scale": ("training.precision=mixed_float16", "optimizer=nadam", "optimizer.ema=0.8"),
}


@pytest.mark.parametrize("overrides", STATEFUL.values(), ids=STATEFUL)
def test_interrupted_twice_it_comes_to_the_very_same_and_tells_what_is_new(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    undisturbed = fit(EXACT, *overrides)
    epochs = len(undisturbed.history["val/loss"])
    assert epochs > 2
    for epoch in (1, epochs - 1):
        with pytest.raises(KeyboardInterrupt):
            go_on((EXACT, *overrides), tmp_path, stop_after=epoch)
    resumed = go_on((EXACT, *overrides), tmp_path)
    assert resumed.told == [(epochs, {name: values[-1] for name, values in resumed.history.items()})]
    assert set(resumed.history) == NAMES
    assert_equal(resumed, undisturbed)


def test_the_last_epoch_is_saved_before_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT,), tmp_path, stop_after=3)
    resumed = go_on((EXACT,), tmp_path)
    assert resumed.told == []
    assert_equal(resumed, fit(EXACT))


def test_a_full_disk_ends_the_training_and_from_a_damaged_checkpoint_it_goes_on_an_epoch_earlier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 4:  # a file and its folder, twice
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="checkpoint not written: No space left on device"):
            go_on((EXACT,), tmp_path)
    newest = tmp_path / "epoch-00002.checkpoint"
    newest.write_bytes(newest.read_bytes()[:-1])
    resumed = go_on((EXACT,), tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2, 3]
    assert_equal(resumed, fit(EXACT))


def test_how_often_it_is_saved(tmp_path: Path) -> None:
    second, never = Checkpoints(tmp_path / "every second"), tmp_path / "never"
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT, "training.checkpoint.every=2"), second.folder, stop_after=1)
    assert second.epochs() == []
    resumed = go_on((EXACT, "training.checkpoint.every=2"), second.folder)
    assert [epoch for epoch, _ in resumed.told] == [1, 2, 3]
    assert second.epochs() == [2, 3]  # the last epoch is saved whatever it is
    assert_equal(resumed, fit(EXACT))
    go_on(("training.checkpoint.every=null", "training.epochs=1"), never)
    assert not never.exists()


def test_a_checkpoint_without_a_metric_of_a_training_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go_on(("training.epochs=1",), tmp_path)
    checkpoint = Checkpoints(tmp_path).newest()
    assert checkpoint is not None and checkpoint.file is not None
    del checkpoint.history["val/objective"]
    checkpoint.write(checkpoint.file)
    again = go_on(("training.epochs=2",), tmp_path)
    assert [epoch for epoch, _ in again.told] == [1, 2]
    assert "is not used: its header is not valid: its metrics are not those of a training" in caplog.text


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    go_on(("training.epochs=2",), tmp_path)
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
        checkpoint.write(tmp_path / "epoch-00002.checkpoint")
        with pytest.raises(UserError, match=r"^checkpoint .*epoch-00002\.checkpoint does not fit: ") as refused:
            go_on((override, "training.epochs=6"), tmp_path)
        assert name in str(refused.value)


# The parent continues the training of a child that was killed.
PROCESS = """
import hashlib, json, os, pathlib, signal, sys
from cifar_exp.data import datasets
from cifar_exp.training import runtime
from cifar_exp.training.checkpoint import Checkpoints
from cifar_exp.config.composition import plan

folder, overrides = pathlib.Path(sys.argv[1]), sys.argv[2:]
config = plan(overrides, multirun=False).jobs[0]
splits = datasets.load(config.data)
from cifar_exp.training import models
from cifar_exp.training.fit import fit

child, told = os.fork(), []

def on_epoch(epoch, metrics):
    told.append(epoch)
    if not child and epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

if child:
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
runtime.prepare(config.training, config.seed)
model, _ = models.build(config.model, config.data.image_shape)
history = fit(model, splits, config, on_epoch, Checkpoints(folder))
weights = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
print(json.dumps([history, weights, told]))
"""


def test_killed_and_trained_on_in_another_process_it_comes_to_the_very_same(tmp_path: Path) -> None:
    overrides = (EXACT, *STATEFUL["batch normalization, spatial dropout, noise, adam, one cycle"])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PROCESS, str(tmp_path), *SMALL, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    history, weights, told = json.loads(done.stdout.splitlines()[-1])
    undisturbed = fit(*overrides)
    assert told == [3, 4]
    assert measured(history) == measured(undisturbed.history)
    assert weights == hashlib.sha256(b"".join(w.tobytes() for w in undisturbed.model.get_weights())).hexdigest()
