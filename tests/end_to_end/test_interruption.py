"""Tests of interrupted runs: they end as KILLED with their results so far; a closed terminal does not stop them."""

from __future__ import annotations

import csv
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import program
import pytest


def assert_stopped(done: program.Done, code: int) -> None:
    """The program ended with the exit code of the signal and one line on stderr."""
    assert done.returncode == code
    assert re.fullmatch(r"cifar_exp: stopped\b.*\n", done.stderr)
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "closed terminal"],
)
def test_a_stopped_run_keeps_its_results_so_far(tmp_path: Path, number: signal.Signals, code: int) -> None:
    done = program.run_until(tmp_path, r"epoch +2/500 ", number, "model=dense", "data=digits", "training.epochs=500")
    assert_stopped(done, code)
    seen = len(re.findall(r"^dense-adam  epoch +\d+/500 ", done.stdout, re.M))
    assert 2 <= seen < 500

    client, run = program.client(tmp_path), program.only_run(tmp_path)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("KILLED", "interrupted")
    assert run.info.end_time is not None
    logged = program.points(client, run.info.run_id, "train/loss")
    assert list(logged) == list(range(1, len(logged) + 1))
    assert seen - 1 <= len(logged) <= seen + 1 and logged  # the signal comes between an epoch's line and its metrics
    assert "test/accuracy" not in run.data.metrics
    log = program.artifact(client, run.info.run_id, "logs/run.log", tmp_path / "downloaded").read_text()
    assert seen - 1 <= len(re.findall(r"  epoch +\d+/500 ", log)) <= seen


def test_a_stopped_sweep_shows_the_state_of_each_job(tmp_path: Path) -> None:
    done = program.run_until(
        tmp_path,
        r"\[2/3\].*epoch +2/500 ",
        signal.SIGINT,
        "-m",
        "model=dense",
        "data=digits",
        "training.epochs=1,500,2",
    )
    assert_stopped(done, 130)
    names = [f"dense-adam-epochs={epochs}" for epochs in (1, 500, 2)]
    table = re.split(r"^ *job +name +status ", done.stdout, flags=re.M)[1].splitlines()[1:4]
    for number, (row, name, status) in enumerate(zip(table, names, ("FINISHED", "KILLED", "not run"), strict=True), 1):
        assert re.match(rf" *{number} +{name} +{status} ", row)

    client = program.client(tmp_path)
    parent, first, second = program.runs(client)
    assert [run.info.status for run in (parent, first, second)] == ["KILLED", "FINISHED", "KILLED"]
    assert [run.info.run_name for run in (first, second)] == names[:2]
    assert second.data.tags["cifar_exp.outcome"] == "interrupted" and "train/loss" in second.data.metrics
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in (first, second))
    assert "not run" in parent.data.tags["mlflow.note.content"]
    results = program.artifact(client, parent.info.run_id, "sweep/results.csv", tmp_path / "downloaded")
    with results.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["FINISHED", "KILLED", "not run"]
    assert [row["run_id"] for row in rows] == [first.info.run_id, second.info.run_id, ""]
    assert f"'{parent.info.run_id}'" in done.stdout.rstrip().splitlines()[-1]


def test_a_run_under_nohup_survives_a_closed_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*program.PROGRAM, "model=dense", "data=digits", "data.train_images=500", "training.epochs=12"],
        cwd=tmp_path,
        env=program.environment(TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(theirs)
    shown = b""
    while not re.search(rb"epoch +1/12 ", shown):
        shown += os.read(ours, 4096)
    running.send_signal(signal.SIGHUP)
    os.close(ours)  # from now on writing gives EIO
    assert running.wait(program.TIMEOUT) == 0
    client, run = program.client(tmp_path), program.only_run(tmp_path)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FINISHED", "completed")
    log = program.artifact(client, run.info.run_id, "logs/run.log", tmp_path / "downloaded").read_text()
    assert len(re.findall(r"  epoch +\d+/12 ", log)) == 12 and "test accuracy" in log
