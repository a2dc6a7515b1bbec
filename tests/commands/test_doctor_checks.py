"""cifar-exp doctor: what it says of this machine, of one that lacks something, and its exit code."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import program
import pytest

from cifar_exp.commands import doctor_checks
from cifar_exp.commands.doctor_checks import NOTE, OK, PROBLEM
from cifar_exp.config.schema import Config
from cifar_exp.data import archive, cifar10, official
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

Compose = Callable[..., Config]

NOBODY = "http://127.0.0.1:9"
NO_PATH = {"PATH": "/nonexistent"}


def cli(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    done = program.execute([*program.COMMAND, "doctor", *arguments], folder, variables)
    return done.returncode, done.stdout, done.stderr


def test_a_machine_that_is_ready_says_so_and_nothing_is_made(tmp_path: Path) -> None:
    code, out, err = cli(tmp_path, "data=digits", **NO_PATH)
    assert (code, err) == (0, "")
    about = [line.split()[1] for line in out.splitlines() if line[:2] in ("ok", "--", "!!")]
    assert about == [
        "versions",
        "backend",
        "data",
        "disk",
        "docker",
        "stack",
        "journals",
        "leftovers",
        "tracking",
        "settings",
        "device",
    ]
    assert ("mlflow 3." in out and "made by the first run" in out and "CPU: " in out) or "GPU: " in out
    assert "--  docker    not installed" in out
    assert out.endswith("\nA run could start now.\n")
    assert list(tmp_path.iterdir()) == []


def test_what_keeps_a_run_from_starting_gives_1_and_says_what_to_do(tmp_path: Path) -> None:
    code, out, _ = cli(
        *(tmp_path, "--quick", "--json"),
        **(NO_PATH | {"KERAS_BACKEND": "theano", "CIFAR_EXP_DATA": str(tmp_path / "none"), "https_proxy": NOBODY}),
    )
    found = {one["about"]: one for one in json.loads(out)}
    assert code == 1 and "device" not in found
    assert {name for name, one in found.items() if one["state"] == PROBLEM} == {"backend", "data"}
    assert "cannot be downloaded" in found["data"]["said"] and "data=digits needs none" in found["data"]["todo"]
    assert found["backend"]["todo"] == "set it to one of tensorflow, jax, torch"
    direct = NO_PATH | {"http_proxy": "", "HTTP_PROXY": ""}
    code, out, _ = cli(tmp_path, "--quick", "data=digits", "--uri", "http://no.such.host.invalid:5000", **direct)
    assert code == 1 and "!!  tracking" in out and out.endswith("\nA run could not start: tracking.\n")


def test_a_server_that_is_away_keeps_no_run_from_starting(tmp_path: Path) -> None:
    code, out, _ = cli(tmp_path, "--quick", "data=digits", "--uri", NOBODY, **NO_PATH)
    assert code == 0 and f"--  tracking  {NOBODY} is away: " in out and "cifar-exp sync" in out


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("training.start_from=nope", "settings  training.start_from: no finished run 'nope'"),
        ("tracking.experiment=' '", "settings  tracking.experiment: got no name"),
        ("tracking.uri=sqlite:///", "tracking  tracking store sqlite:/// "),
    ],
)
def test_what_a_run_would_be_refused_for_is_a_problem(wrong: str, says: str, tmp_path: Path) -> None:
    code, out, _ = cli(tmp_path, "--quick", "data=digits", wrong, **NO_PATH)
    assert code == 1 and f"!!  {says}" in out and out.endswith(f"\nA run could not start: {says.split()[0]}.\n")


def test_a_wrong_setting_is_refused(tmp_path: Path) -> None:
    code, out, err = cli(tmp_path, "data=digit")
    assert (code, out) == (2, "") and "did you mean 'digits'" in err and err.count("\n") == 1


def test_a_server_is_named_with_its_version_and_login(mlflow_server: str) -> None:
    import mlflow

    found = doctor_checks.tracking(Store(mlflow_server, "unit"))
    assert found.state == OK
    assert found.said.startswith(f"{mlflow_server}: MLflow {mlflow.__version__}, it asks for no login; ")


def test_a_file_that_is_no_store_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all, but long enough to be read as one " * 20)
    found = doctor_checks.tracking(Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "unit"))
    assert found.state == PROBLEM and "it is no SQLite file" in found.said and "\n" not in found.said


def test_the_images_are_looked_at(small_cifar10: Path, compose: Compose) -> None:
    def look(*overrides: str) -> doctor_checks.Finding:
        return doctor_checks.data(compose(f"data.dir={small_cifar10}", *overrides))

    assert look().state == PROBLEM and "data.verify=size" in look().said
    assert look("data.verify=size").state == NOTE and "not verified" in look("data.verify=size").said
    sums = "".join(f"{official.md5(small_cifar10 / name)}  {name}\n" for name in cifar10.FILES)
    (small_cifar10 / archive.CHECKSUMS).write_text(sums)
    assert look().state == OK and "MD5 is the official release's" in look().said
    (small_cifar10 / cifar10.FILES[0]).write_bytes(b"cut")
    assert look().state == PROBLEM and "3 bytes, expected" in look().said
    unreadable = look(f"data.dir={'x' * 300}")
    assert unreadable.state == PROBLEM and "File name too long" in unreadable.said


def test_journals_that_wait_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor_checks.journals().said == "0 runs in outputs, nothing waits"
    store = Store(NOBODY, "unit")
    with Run.start(store, Path("outputs") / "runs" / "one", "one", {}, {}, drain_seconds=0) as run:
        run.log_metrics({"x": 1.0})
        assert doctor_checks.journals().said == "1 run in outputs, nothing waits; 1 live"
    found = doctor_checks.journals()
    assert found.state == NOTE and found.todo == "cifar-exp sync sends them"
    assert found.said.endswith(" of 1 run to be sent")


def test_what_killed_sweeps_have_left_is_named_and_removed_on_demand(tmp_path: Path) -> None:
    left, lives = tmp_path / "cifar-abcdefgh", tmp_path / "cifar-hgfedcba"
    for folder in (left, lives):
        folder.mkdir()
        (folder / "driver.lock").touch()
    arguments = ("--quick", "--json", "data=digits")
    variables = NO_PATH | {"TMPDIR": str(tmp_path)}
    with (lives / "driver.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (named,) = (one for one in json.loads(cli(tmp_path, *arguments, **variables)[1]) if one["about"] == "leftovers")
        assert named["state"] == NOTE and named["todo"] == "cifar-exp doctor --clean removes them"
        assert str(left) in named["said"] and str(lives) not in named["said"] and left.exists()
        cli(tmp_path, "--clean", *arguments, **variables)
        assert lives.exists() and not left.exists()


def test_an_engine_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (doctor_checks.docker().state, doctor_checks.docker().said.split(";")[0]) == (NOTE, "not installed")
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    assert (doctor_checks.docker().state, doctor_checks.docker().said.split(";")[0]) == (NOTE, "no engine answers")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_a_problem(tmp_path: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)]).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        monkeypatch.chdir(tmp_path)
        found = doctor_checks.space(compose())
        assert found.state == PROBLEM and "outputs needs 1 GiB on the disk of " in found.todo
    finally:
        monkeypatch.undo()
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
