"""Tests of train, sweep and find: real runs of the digits in this process, which is to stay as it was."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tensorflow.python.framework import config

import cifar_exp
from cifar_exp import __main__
from cifar_exp.config.composition import CONF
from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import Stopped, UserError
from cifar_exp.notebook import process
from cifar_exp.notebook.origin import Folder
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.store import Store

DIGITS = ("data=digits", "data.train_images=100", "model=dense", "model.layers=[Flatten,{Dense:{units:10}}]")
SMALL = (*DIGITS, "training.device=cpu", "tracking.system_metrics=false")
LOGGERS = ("alembic", "mlflow", "tensorflow")
NOTE = "it's a, [note]: x=1"
SWEEP = (*SMALL, "optimizer=sgd,adam", "sweep.name=first", "hydra.job.chdir=true", "training.precision=mixed_bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Current folder of this module, with its runs and its store."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)  # which MLflow's own calls in other tests have set
        patched.chdir(made := tmp_path_factory.mktemp("notebook"))
        for logger in map(logging.getLogger, LOGGERS):
            patched.setattr(logger, "level", logging.INFO)  # which a run sets
        yield made


@pytest.fixture(scope="module")
def run(folder: Path) -> cifar_exp.Run:
    with unchanged():
        return cifar_exp.train(*SMALL, epochs=2, note=NOTE)


@pytest.fixture(scope="module")
def found(run: cifar_exp.Run) -> cifar_exp.Run:
    assert run.run_id
    return cifar_exp.find(run.run_id)[0]


@pytest.fixture(scope="module")
def runs(folder: Path) -> cifar_exp.Runs:
    with unchanged():
        return cifar_exp.sweep(*SWEEP, epochs=1)


@pytest.fixture(scope="module")
def stopped(folder: Path) -> tuple[cifar_exp.Run, cifar_exp.Run]:
    """A run as it was found after an interrupt, and what the same call made of it. It validates on its test images."""

    class InterruptsAfterTheFirstEpoch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "epoch 1/2" in record.getMessage():
                signal.raise_signal(signal.SIGINT)

    def train() -> cifar_exp.Run:
        return cifar_exp.train(*SMALL, "data.validation=test", epochs=2, name="stopped")

    handler = InterruptsAfterTheFirstEpoch()
    logging.getLogger("cifar_exp").addHandler(handler)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a kernel; a background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt) as interrupted:
            train()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        logging.getLogger("cifar_exp").removeHandler(handler)
    assert isinstance(interrupted.value, Stopped)
    (killed,) = cifar_exp.find("stopped")
    with pytest.raises(UserError, match="logged no model"):
        killed.model()
    with pytest.raises(UserError, match="no evaluation/predictions"):
        _ = killed.predictions
    return killed, train()


def state() -> dict[str, Any]:
    """What a command must not change in a process."""
    logger = logging.getLogger("cifar_exp")
    return {
        "environment": dict(os.environ),
        "arguments": list(sys.argv),
        "folder": os.getcwd(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "logging": (list(logger.handlers), logger.level, logger.propagate, list(logging.getLogger().handlers)),
        "levels": [logging.getLogger(name).level for name in LOGGERS],
        "hydra": GlobalHydra.instance().hydra,
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "precision": keras.config.dtype_policy().name,
        "determinism": config.is_op_determinism_enabled(),
    }


@contextmanager
def unchanged() -> Iterator[None]:
    """Context manager in a notebook that uses Hydra itself; nothing of its process may differ at its end."""
    random.seed(7)
    np.random.seed(7)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        before = state()
        yield
        assert state() == before


def test_a_run_holds_what_it_has_logged(run: cifar_exp.Run) -> None:
    assert (run.status, run.outcome, run.config.note) == ("FINISHED", "completed", NOTE)
    assert list(run.history.index) == [1, 2]
    assert run.metrics["val/best_accuracy"] == run.history["val/accuracy"].max()
    assert (run.predictions["label"] == run.predictions["predicted"]).mean() == pytest.approx(
        run.metrics["test/accuracy"]
    )
    assert run.page and run.run_id and run.run_id in run.page
    assert run.figure("confusion_matrix").format == "PNG"


def test_a_run_that_was_found_is_the_run_that_was_trained(run: cifar_exp.Run, found: cifar_exp.Run) -> None:
    assert found == run
    pd.testing.assert_frame_equal(found.history, run.history)
    pd.testing.assert_frame_equal(found.predictions, run.predictions)
    assert (found.config, found.page) == (run.config, run.page)
    assert found.figure("curves").tobytes() == run.figure("curves").tobytes()
    assert found._repr_html_() == run._repr_html_()


def test_the_model_gives_the_probabilities_of_the_predictions(run: cifar_exp.Run, found: cifar_exp.Run) -> None:
    images = datasets.load(run.config.data).test.images[:]
    for model in (run.model(), found.model()):
        np.testing.assert_allclose(model.predict(images, verbose=0), run.predictions.filter(like="p_"), atol=1e-5)


@pytest.mark.parametrize("name", ["curvs", "../config/config", ""])
def test_a_figure_that_the_run_has_not_is_refused(run: cifar_exp.Run, found: cifar_exp.Run, name: str) -> None:
    for each in (run, found):
        with pytest.raises(UserError, match=r"has no figure .*it has: calibration, confusion_matrix, curves"):
            each.figure(name)


def test_nothing_stays_in_the_process(run: cifar_exp.Run, runs: cifar_exp.Runs) -> None:
    with unchanged():
        with pytest.raises(UserError, match="at least 1"):
            cifar_exp.train(*SMALL, epochs=0)
        for _ in range(2):
            cifar_exp.train(*SMALL, epochs=1, deterministic=True, resume="never")
        run.model()
        cifar_exp.find()


def test_a_run_is_that_of_the_command_line(run: cifar_exp.Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quoted = NOTE.replace("'", r"\'")
    monkeypatch.setattr(sys, "argv", ["cifar_exp", *SMALL, "training.epochs=2", f"note='{quoted}'"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with process.environment():  # the command sets TensorFlow's threads for itself and its children
            assert __main__.main() == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    other = next(each for each in cifar_exp.find() if each.run_id != run.run_id and each.config.note == NOTE)
    client = Store(f"sqlite:///{folder / 'mlflow.db'}", "cifar10").client
    own, theirs = (client.get_run(each.run_id) for each in (run, other))
    assert own.data.params == theirs.data.params
    assert own.data.tags.keys() == theirs.data.tags.keys()
    for tag in ("cifar_exp.fingerprint", "cifar_exp.overrides", "mlflow.runName"):
        assert own.data.tags[tag] == theirs.data.tags[tag]
    pd.testing.assert_frame_equal(*(each.predictions for each in (run, other)))
    assert isinstance(run._origin, Folder)
    (folder_of_other,) = [
        path for path in run._origin.path.parent.iterdir() if Progress.read(path).run_id == other.run_id
    ]
    files = [
        {
            path.relative_to(root): path.read_text()
            for path in (root / ".hydra").iterdir()
            if path.name != "hydra.yaml"  # has the folder in it
        }
        for root in (run._origin.path, folder_of_other)
    ]
    assert files[0] == files[1]
    names = [{path.relative_to(root) for path in root.rglob("*")} for root in (run._origin.path, folder_of_other)]
    assert names[0] == names[1]


def test_an_interrupted_run_is_logged_and_the_same_call_goes_on_with_it(
    stopped: tuple[cifar_exp.Run, cifar_exp.Run],
) -> None:
    killed, resumed = stopped
    assert (killed.status, killed.outcome) == ("KILLED", "interrupted")
    assert (resumed.run_id, resumed.status, len(resumed.history)) == (killed.run_id, "FINISHED", 2)


def test_a_sweep_has_a_run_for_each_job_and_the_store_has_them(runs: cifar_exp.Runs) -> None:
    assert [run.name for run in runs] == ["dense-sgd", "dense-adam"]
    stored = cifar_exp.find(sweep="first")
    assert {run.run_id for run in stored} == {run.run_id for run in runs}
    table = runs.compare()
    assert list(table["optimizer.name"]) == ["sgd", "adam"]
    assert list(table["run_id"]) == [run.run_id for run in runs]
    assert [run.name for run in runs[1:]] == ["dense-adam"]


def test_the_best_run_is_chosen_on_validation_images(
    runs: cifar_exp.Runs, stopped: tuple[cifar_exp.Run, cifar_exp.Run]
) -> None:
    for metric, better in (("val/best_accuracy", max), ("val/loss", min)):
        assert runs.best(metric).metrics[metric] == better(run.metrics[metric] for run in runs)
    with pytest.raises(UserError, match="test/accuracy: the best run is chosen on the validation images"):
        runs.best("test/accuracy")
    with pytest.raises(UserError, match="val/los: none of 2 runs has this metric"):
        runs.best("val/los")
    with pytest.raises(UserError, match="stopped validated on its test images"):
        cifar_exp.Runs(stopped).best()


def test_jobs_of_the_same_call_are_not_run_again(runs: cifar_exp.Runs) -> None:
    again = cifar_exp.sweep(*SWEEP, epochs=1)
    assert [run.run_id for run in again] == [run.run_id for run in runs]


@pytest.mark.parametrize(
    ("overrides", "keywords", "message"),
    [
        (["model=lrge"], {}, "model 'lrge' not found; did you mean 'large'"),
        ([], {"epoch": 3}, "epoch: no such keyword; did you mean 'epochs'"),
        (["-m"], {}, "'-m': got an option, expected 'key=value'"),
        (["hydra.mode=MULTIRUN"], {}, "hydra.mode=MULTIRUN: got a sweep, expected one run"),
        (["++hydra.mode=MULTIRUN"], {}, "hydra.mode=MULTIRUN: got a sweep, expected one run"),
        ([["model=bn"]], {}, "got list, expected 'key=value', each on its own"),
        ([], {"config_dir": Path("nowhere")}, "--config-dir nowhere: no such folder"),
        (["seed=0,1"], {}, "several values are a sweep: add -m, or call cifar_exp.sweep"),
        ([], {"name": object()}, "name: got object, expected a number, a text"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(
    overrides: list[Any], keywords: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cifar_exp.UserError, match=message):
        cifar_exp.train("data=digits", *overrides, **keywords)
    assert not list(tmp_path.iterdir())


def test_classes_that_were_added_between_two_commands_are_seen(tmp_path: Path) -> None:
    images = DataConfig("folder", dir=str(tmp_path), size=(4, 4))
    for names in ("ab", "abc"):
        for name in names:
            (tmp_path / name).mkdir(exist_ok=True)
        with process.command():
            assert datasets.describe(images).class_names == tuple(names)
