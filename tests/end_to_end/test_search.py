"""Tests of hydra/sweeper=search with real trainings: killed and started again it is one search; its trials go on."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import program
import pytest
from sweeping import QUICK

from cifar_exp.config import composition
from cifar_exp.errors import UserError
from cifar_exp.search import records, trials
from cifar_exp.search import run as search
from cifar_exp.search.trials import Trial
from cifar_exp.tracking.store import Store

RATE = "optimizer.learning_rate"
SEARCH = ("-m", "hydra/sweeper=search", *QUICK, "training.epochs=4", "sweep.name=s", "hydra.sweeper.factor=2")
SPACE = ("optimizer=sgd,adam", f"{RATE}=tag(log,interval(1e-4,1e-1))")
GOOD_FIRST = 9  # the seed for which a grid of four points has the first two first
NEEDS_TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="workers at once need two cores")
COMMAND = (*SEARCH, *SPACE, "hydra.sweeper.n_trials=4")


def read(folder: Path) -> tuple[Trial, ...]:
    return trials.read(folder / "outputs" / "sweeps" / "s" / "artifacts" / trials.FILE).rows


def known(rows: tuple[Trial, ...]) -> list[tuple[object, ...]]:
    """What does not depend on time or machine."""
    return [(row.trial, row.state, dict(row.params), row.values, row.history, row.job, row.seed) for row in rows]


def kill_at(folder: Path, seen: str, *arguments: str) -> str:
    """Start the program and send SIGKILL when a line of its output matches; return the output."""
    done = program.run_until(folder, seen, signal.SIGKILL, *arguments)
    assert done.returncode == -signal.SIGKILL
    return done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A search that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = program.run(folder, *COMMAND)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same search, killed twice and started again."""
    folder = tmp_path_factory.mktemp("killed")
    kill_at(folder, r"\[1/4\] .* epoch 2/4", *COMMAND)
    kill_at(folder, r"\[3/4\] .* epoch 1/4", *COMMAND)
    done = program.run(folder, *COMMAND)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_search_that_was_killed_twice_is_the_one_that_was_not(
    whole: tuple[Path, str], killed: tuple[Path, str]
) -> None:
    rows = read(whole[0])
    assert known(read(killed[0])) == known(rows)
    assert [row.trial for row in rows] == [row.job for row in rows] == [1, 2, 3, 4]
    assert {"complete", "pruned"} == {row.state for row in rows}


def test_every_trial_is_one_run_under_one_parent(killed: tuple[Path, str]) -> None:
    client = program.client(killed[0])
    parent, *jobs = program.runs(client)
    assert parent.data.tags["cifar_exp.kind"] == "sweep" and parent.info.status == "FINISHED"
    assert sorted(run.data.tags["cifar_exp.trial"] for run in jobs) == ["1", "2", "3", "4"]
    states = {str(row.trial): row for row in read(killed[0])}
    for run in jobs:
        row = states[run.data.tags["cifar_exp.trial"]]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
        assert run.data.tags["cifar_exp.outcome"] == {"complete": "completed", "pruned": "pruned"}[row.state]
        accuracies = program.points(client, run.info.run_id, "val/accuracy")  # no step twice
        assert list(accuracies.values()) == list(row.history)
        assert ("test/accuracy" in run.data.metrics) == (row.state == "complete")
    assert {"search/trials.parquet", "sweep/report.html"} <= program.artifacts(client, parent.info.run_id)


def test_the_trials_rebuilt_from_the_runs_are_the_live_ones(whole: tuple[Path, str]) -> None:
    planned = composition.plan(COMMAND[1:], multirun=True)
    checked, store = search.check(planned), Store.of(planned.jobs[0].tracking)
    assert planned.space is not None
    folder = whole[0] / "outputs" / "sweeps"
    rebuilt = records.read(folder / "s", store, "s", planned.space, checked)
    assert known(tuple(rebuilt)) == known(read(whole[0]))
    earlier = records.of_sweep(folder, store, "s", planned.space, checked)  # hydra.sweeper.from_sweep=s
    complete = [row for row in read(whole[0]) if row.state == "complete"]
    assert [(row.trial, row.params, row.values) for row in earlier] == [
        (-place, row.params, row.values) for place, row in enumerate(complete)
    ]
    other = composition.plan([*COMMAND[1:-2], f"{RATE}=interval(1,2)", COMMAND[-1]], multirun=True).space
    assert other is not None
    with pytest.raises(UserError, match=r"sweep.name=s: job \d of it is not of this space"):
        records.read(folder / "s", store, "s", other, checked)
    with pytest.raises(UserError, match="from_sweep=s: none of its 4 jobs has finished with settings of this space"):
        records.of_sweep(folder, store, "s", other, checked)
    with pytest.raises(UserError, match="from_sweep=t: no jobs of such a sweep"):
        records.of_sweep(folder, store, "t", planned.space, checked)


def test_what_is_said(whole: tuple[Path, str]) -> None:
    lines = whole[1].splitlines()
    said = [line for line in lines if line.startswith("Search: ")]
    assert re.match(r"Search: best val/accuracy 0\.\d+, trial \d \(optimizer=\w+, learning_rate=\S+\); ", said[-1])
    assert "4 of 4 trials done" in said[-1] and re.search(r"\d+ epochs, \d+% saved", said[-1])
    (best,) = (line for line in lines if line.startswith("The best is trial "))
    (row,) = (row for row in read(whole[0]) if best.startswith(f"The best is trial {row.trial},"))
    assert f"{RATE}={row.params[RATE]}" in best
    assert row.value == max(row.value or 0 for row in read(whole[0]) if row.state == "complete")


def test_the_search_goes_on_with_more_trials_and_confirms_the_best(killed: tuple[Path, str]) -> None:
    folder = killed[0]  # a copy would have another store; the tests above have seen the folder as it was
    before = read(folder)
    more = (*COMMAND[:-1], "hydra.sweeper.n_trials=5", "hydra.sweeper.confirm=1x2")
    done = program.run(folder, *more)
    assert done.returncode == 0, done.stderr
    rows = [row for row in read(folder) if not row.confirmed]
    assert [row.trial for row in rows] == list(range(1, 6))
    for row in before:
        if row.state == "complete":
            assert known((row,)) == known((rows[row.trial - 1],))
    confirmed = [row for row in read(folder) if row.confirmed]
    best = max((row for row in rows if row.state == "complete"), key=lambda row: row.value or 0)
    assert [(row.trial, row.seed, row.state, row.params) for row in confirmed] == [
        (best.trial, seed, "complete", best.params) for seed in (1, 2)
    ]
    assert f"Trial {best.trial} had the best val/accuracy of the search" in done.stdout
    assert "with 2 other seeds its mean is" in done.stdout
    again = program.run(folder, *more)
    assert again.returncode == 0 and " epoch " not in again.stdout  # nothing is left to do
    assert known(read(folder)) == known((*rows, *confirmed))


def test_a_pruned_trial_goes_on_from_its_checkpoint_once_it_is_among_the_best(tmp_path: Path) -> None:
    """Two good rates, then two bad ones: the second good trial pauses, and is promoted when the bad ones are known."""
    rates = f"{RATE}=0.003,0.001,0.00001,0.00002"
    grid = ("hydra.sweeper.sampler=grid", f"hydra.sweeper.seed={GOOD_FIRST}", "training.epochs=2")
    done = program.run(tmp_path, *SEARCH, *grid, "optimizer=adam", rates)
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path)
    assert {row.params[RATE] for row in rows[:2]} == {"0.003", "0.001"}
    assert [row.state for row in rows] == ["complete", "complete", "pruned", "pruned"]
    line = re.compile(r"\[2/4\] \S+  (pruned after epoch 1 of 2|goes on after epoch 1 of 2|epoch \d/2|test accuracy)")
    assert [match[1] for match in line.finditer(done.stdout)] == [
        *("epoch 1/2", "pruned after epoch 1 of 2", "goes on after epoch 1 of 2", "epoch 2/2", "test accuracy"),
    ]
    client = program.client(tmp_path)
    (promoted,) = (run for run in program.runs(client) if run.data.tags.get("cifar_exp.trial") == "2")
    assert (promoted.info.status, promoted.data.tags["cifar_exp.outcome"]) == ("FINISHED", "completed")
    assert list(program.points(client, promoted.info.run_id, "val/accuracy")) == [1, 2]  # no step twice
    assert rows[1].run_id == promoted.info.run_id and rows[1].epochs == 2
    folder = tmp_path / "outputs" / "sweeps" / "s"
    assert [(folder / str(job) / "checkpoints").exists() for job in range(4)] == [False, False, True, True]


def test_the_best_trial_becomes_a_preset(whole: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "preset"
    shutil.copytree(whole[0], folder)
    best = max((row for row in read(folder) if row.state == "complete"), key=lambda row: row.value or 0)
    done = program.execute([*program.COMMAND, "preset", str(best.run_id), "found"], folder)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip()
        == "my_conf/experiment/found.yaml: python -m cifar_exp --config-dir my_conf experiment=found"
    )
    shown = program.run(folder, "--config-dir", "my_conf", "experiment=found", "--cfg", "job", "-p", "optimizer")
    assert f"learning_rate: {best.params[RATE]}" in shown.stdout
    again = program.execute([*program.COMMAND, "preset", str(best.run_id), "found"], folder)
    assert (again.returncode, again.stdout) == (2, "")
    assert "my_conf/experiment/found.yaml exists: choose another name" in again.stderr


@NEEDS_TWO_CORES
def test_a_conditional_space_and_a_pareto_front_on_several_workers(tmp_path: Path) -> None:
    (tmp_path / "my_conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my_conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "search:\n"
        "  optimizer: [sgd, adam]\n"
        "  optimizer.momentum: {values: 'interval(0.5,0.9)', when: {optimizer: sgd}}\n"
        "  model.layers.2.Dense.units: 'int(interval(8,64))'\n"
    )
    two = "hydra.sweeper.metric=[val/accuracy,model/parameters]"
    layers = "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:32}},{Dense:{units:10}}]"
    arguments = ("--config-dir", "my_conf", *SEARCH, "experiment=mine", layers, two, "hydra/launcher=parallel")
    done = program.execute([*program.PROGRAM, *arguments, "training.epochs=1", "hydra.sweeper.n_trials=4"], tmp_path)
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path)
    assert [(row.trial, row.state) for row in rows] == [(number, "complete") for number in range(1, 5)]
    assert all(("optimizer.momentum" in row.params) == (row.params["optimizer"] == "sgd") for row in rows)
    assert len({row.values[1] for row in rows}) > 1
    front = re.search(r"No trial is better in every metric than these (\d):", done.stdout)
    assert front and len(re.findall(r"^trial \d, val/accuracy .*, model/parameters ", done.stdout, re.M)) == int(
        front[1]
    )
    assert trials.to_study(trials.read(tmp_path / "outputs/sweeps/s/artifacts" / trials.FILE)).best_trials


def test_a_search_in_which_every_trial_fails_says_so(tmp_path: Path) -> None:
    done = program.run(tmp_path, *SEARCH, "optimizer=sgd", f"{RATE}=interval(1e36,1e37)", "hydra.sweeper.n_trials=2")
    assert done.returncode == 1
    assert "All 2 trials failed: there is no best one." in done.stdout
    assert [(row.state, row.diverged) for row in read(tmp_path)] == [("failed", True)] * 2


def test_a_bad_request_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    done = program.run(tmp_path, *COMMAND, "hydra.sweeper.timeout=0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cifar_exp: hydra.sweeper.timeout: got 0, expected seconds above 0\n"
    assert not (tmp_path / "outputs").exists()
