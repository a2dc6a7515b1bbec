"""Tests of commands that cannot run: they are refused in one line before anything is created."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import program
import pytest
import yaml

HEAVY = {"tensorflow", "jax", "torch", "keras", "mlflow"}

LAYERS = {
    "unknown_layer": "{Conv2d: {filters: 8, kernel_size: 3}}",
    "unknown_argument": "{Conv2D: {filter: 8, kernel_size: 3}}",
    "wrong_argument": "{Conv2D: {filters: many, kernel_size: 3}}",
}


def assert_refused(done: program.Done, *says: str) -> None:
    """The exit code is 2, and stderr has one line that contains all of `says`."""
    assert done.returncode == 2
    assert done.stderr.startswith("cifar_exp: ") and done.stderr.endswith("\n") and done.stderr.count("\n") == 1
    for text in says:
        assert text in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for opening, closing in ("()", "[]", "{}"):  # the message was not cut off
        assert done.stderr.count(opening) == done.stderr.count(closing)


def assert_nothing_was_made(folder: Path) -> None:
    """The folder is still empty: no outputs, no store."""
    assert list(folder.iterdir()) == []


def modules(done: program.Done) -> set[str]:
    """Top-level modules that a process started with -X importtime has imported."""
    names = set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\w+)", done.stderr, re.M))
    assert {"hydra", "cifar_exp"} <= names
    return names


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["model=lrge"], ["model 'lrge'", "did you mean 'large'?", "baseline, blocks"], id="unknown model"),
        pytest.param(["trainig.epochs=3"], ["trainig.epochs", "did you mean 'training.epochs'?"], id="unknown key"),
        pytest.param(["training.epochs=ten"], ["training.epochs", "'ten'", "a whole number"], id="wrong type"),
        pytest.param(["training.epochs=-1"], ["training.epochs", "got -1", "at least 1"], id="out of range"),
        pytest.param(["data=digits", "data.name=imagenet"], ["data.name", "'imagenet'", "digits"], id="no choice"),
        pytest.param(["optimizer.momentum=0.9"], ["optimizer.momentum", "adam"], id="another optimizer's argument"),
        pytest.param(
            ["model.pool_size=[8,8]"], ["model 'baseline'", "layer 4 (MaxPooling2D)", "8x8", "1x1"], id="large window"
        ),
        pytest.param(["model=large,bn"], ["model=large,bn", "add -m"], id="several values without -m"),
        pytest.param(["model"], ["'model'", "key=value"], id="no value"),
        pytest.param(
            ["-m", "optimizer=sgd,adam,adamm,nadam"],
            ["job 3 of 4", "optimizer=adamm", "did you mean 'adam'?"],
            id="unknown optimizer in a sweep",
        ),
        pytest.param(
            ["-m", "model=large,bn", "training.batch_size=32,0"],
            ["job 2 of 4", "training.batch_size", "got 0"],
            id="out of range in a sweep",
        ),
        pytest.param(["optimizer=sgd,adamm", "-m", "model=bn"], ["job 2 of 2", "'adam'?"], id="-m between overrides"),
        pytest.param(["--mulitrun"], ["--mulitrun", "--help"], id="unknown option"),
        pytest.param(["model=bn", "--cfg"], ["--cfg", "expected one argument"], id="option without its value"),
        pytest.param(["--experimental-rerun", "x.pickle"], ["can run any code", "reproduce"], id="a pickle of Hydra"),
        pytest.param(["--run", "-m", "seed=1,2"], ["--run and --multirun"], id="two modes"),
        pytest.param(["--resolve"], ["--resolve", "--cfg"], id="--resolve alone"),
        pytest.param(["-p", "model"], ["--package", "--cfg"], id="--package alone"),
        pytest.param(
            ["-m", "seed=1,2", "hydra.sweep.subdir=x${hydra.job.num}"], ["hydra.sweep.subdir"], id="folders of jobs"
        ),
        pytest.param(['note="caf\udce9"'], ["is not UTF-8"], id="Latin-1"),
        pytest.param([f"name={'n' * 251}"], ["name: got 251 characters", "at most 250"], id="a long name"),
        pytest.param([f"note={'n' * 2001}"], ["note: got 2,001 characters"], id="a long note"),
        pytest.param(["tracking.experiment=' '"], ["tracking.experiment: got no name"], id="a blank name"),
        pytest.param(["-m", f"sweep.name={'n' * 201}"], ["sweep.name: got 201 characters"], id="a long sweep"),
        pytest.param(["~optimizer.schedule"], ["optimizer.schedule", "cannot be removed"], id="a removed setting"),
        pytest.param(["--cfg", "job", "model=lrge"], ["model 'lrge'", "did you mean 'large'?"], id="asked for --cfg"),
        pytest.param(["--cfg", "job", "trainig.epochs=3"], ["'training.epochs'?"], id="unknown key with --cfg"),
        pytest.param(["--help", "trainig.epochs=3"], ["'training.epochs'?"], id="unknown key with --help"),
        pytest.param(["--cfg", "all", "optimizer.schedule=cosine"], ["optimizer/schedule=cosine"], id="cfg of a group"),
        pytest.param(["--cfg", "job", "seed=1,2"], ["seed=1,2", "add -m"], id="several values with --cfg"),
        pytest.param(["--cfg", "job", "-m", "seed=1,2"], ["--multirun", "--explain-config"], id="cfg of a sweep"),
        pytest.param(["--cfg", "job", "-p", "modle"], ["-p modle", "did you mean 'model'?"], id="cfg of no part"),
        pytest.param(["--cfg", "job", "-p", "note"], ["-p note", "is null"], id="cfg of null"),
        pytest.param(["--cfg", "job", "-p", "hydra"], ["-p hydra", "--cfg hydra"], id="cfg without Hydra's part"),
        pytest.param(["--shell-completion", "install=zshx"], ["'zshx'", "bash fish zsh"], id="unknown shell"),
        pytest.param(["--explain-config", "-p", "modle"], ["-p modle", "did you mean 'model'?"], id="unknown part"),
    ],
)
def test_wrong_configurations_are_refused(tmp_path: Path, arguments: list[str], says: list[str]) -> None:
    done = program.run(tmp_path, *arguments)
    assert_refused(done, *says)
    assert done.stdout == ""
    assert_nothing_was_made(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unknown_layer", ["layer 1 (Conv2d)", "is not a Keras layer", "did you mean 'Conv2D'?"]),
        ("unknown_argument", ["layer 1 (Conv2D)", "no argument 'filter'", "did you mean 'filters'?"]),
        ("wrong_argument", ["layer 1 (Conv2D)", "filters", "'many'"]),
    ],
)
def test_models_in_the_users_config_folder_are_found_and_checked(tmp_path: Path, name: str, says: list[str]) -> None:
    own, here = tmp_path / "own", tmp_path / "here"
    (own / "model").mkdir(parents=True)
    here.mkdir()
    layers = f"[{LAYERS[name]}, Flatten, {{Dense: {{units: 10}}}}]"
    (own / "model" / f"{name}.yaml").write_text(f"name: {name}\nlayers: {layers}\n")
    done = program.run(here, "--config-dir", str(own), f"model={name}")
    assert_refused(done, f"model '{name}'", *says)
    assert done.stdout == ""
    assert_nothing_was_made(here)


@pytest.mark.parametrize(
    "arguments",
    [["hydra.run.dir=."], ["-m", "hydra.sweep.dir=own"], ["hydra.run.dir=${model.folder}", "+model.folder=own"]],
)
def test_a_folder_of_the_user_is_not_taken_for_a_run(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").touch()
    assert_refused(program.run(tmp_path, "data=digits", *arguments), ".dir: got ", ", expected a ")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["own", "own/thesis.txt"]


def test_a_missing_config_folder_is_refused(tmp_path: Path) -> None:
    done = program.run(tmp_path, "--config-dir", "nowhere", "data=digits", "training.epochs=1", "model=dense")
    assert_refused(done, "nowhere")
    assert_nothing_was_made(tmp_path)


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_an_unusable_server_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    host = "no-such-host.invalid"
    where = {"MLFLOW_TRACKING_URI": f"http://{host}:5000", "no_proxy": host, "NO_PROXY": host}
    done = program.run(tmp_path, *arguments, "model=dense", "data=digits", **where)
    assert_refused(done, host, "MLFLOW_TRACKING_URI")
    assert_nothing_was_made(tmp_path)


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_images_that_cannot_be_downloaded_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    empty, here = tmp_path / "empty", tmp_path / "here"
    empty.mkdir()
    here.mkdir()
    done = program.run(here, *arguments, f"data.dir={empty}")  # all connections to other machines are refused
    assert_refused(done, str(empty), "cs.toronto.edu", "data=digits", "Connection refused")
    assert "downloading" in done.stdout
    assert_nothing_was_made(here)
    assert_nothing_was_made(empty)


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_missing_gpu_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a GPU")
    done = program.run(tmp_path, *arguments, "model=dense", "data=digits", "training.device=gpu")
    assert_refused(done, "training.device=gpu", "training.device=auto")
    assert_nothing_was_made(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--help"], 0, id="help"),
        pytest.param(["--version"], 0, id="version"),
        pytest.param(["--cfg", "job"], 0, id="cfg"),
        pytest.param(["--explain-config", "experiment=best"], 0, id="explain config"),
        pytest.param(["model=lrge"], 2, id="unknown model"),
        pytest.param(["model.pool_size=[8,8]"], 2, id="large window"),
        pytest.param(["-m", "optimizer=sgd,adma"], 2, id="sweep"),
    ],
)
def test_help_and_errors_come_without_the_large_imports(tmp_path: Path, arguments: list[str], code: int) -> None:
    done = program.execute([sys.executable, "-X", "importtime", "-m", "cifar_exp", *arguments], tmp_path)
    assert done.returncode == code
    assert not modules(done) & HEAVY
    assert_nothing_was_made(tmp_path)


def test_help_lists_choices_and_settings(tmp_path: Path) -> None:
    done = program.run(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^model: .*\bbaseline, blocks\b", done.stdout, re.M)
    assert "learning_rate: 0.001" in done.stdout


def test_cfg_shows_the_configuration_that_would_run(tmp_path: Path) -> None:
    done = program.run(
        tmp_path, "model=bn", "--cfg", "job", "optimizer=sgd"
    )  # Hydra itself takes them on one side only
    assert (done.returncode, done.stderr) == (0, "")
    shown = yaml.safe_load(done.stdout)
    assert (shown["model"]["name"], shown["optimizer"]["name"], shown["optimizer"]["momentum"]) == ("bn", "sgd", 0.0)
