"""Tests of failing runs: they are logged as FAILED with a traceback, and the other jobs of a sweep run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import program

GOOD = "[Flatten,{Dense:{units:10}}]"
BAD = "[{Cropping2D:{cropping:20}},Flatten,{Dense:{units:10}}]"  # more than there is; only Keras knows
QUICK = ("data=digits", "training.epochs=1")


def test_a_failing_job_does_not_affect_the_other_jobs_of_its_sweep(tmp_path: Path) -> None:
    done = program.run(tmp_path, "-m", "model=dense", f"model.layers={GOOD},{BAD},{GOOD}", *QUICK)
    assert done.returncode == 1
    assert done.stderr == "" and "Traceback" not in done.stdout
    statuses = ["FINISHED", "FAILED", "FINISHED"]
    table = re.split(r"^ *job +name +status ", done.stdout, flags=re.M)[1].splitlines()[1:4]
    for number, (row, status) in enumerate(zip(table, statuses, strict=True), 1):
        assert re.match(rf" *{number} +dense-adam-layers=\S+ +{status} ", row)
    (line,) = (line for line in done.stdout.splitlines() if "FAILED: " in line)
    assert line.startswith("[2/3] ") and "model 'dense', layer 1 (Cropping2D)" in line

    client = program.client(tmp_path)
    parent, *children = program.runs(client)
    assert parent.info.status == "FAILED"
    assert [run.info.status for run in children] == statuses
    assert [run.data.tags["cifar_exp.outcome"] for run in children] == ["completed", "failed", "completed"]
    for run in children:
        names = program.artifacts(client, run.info.run_id)
        assert ("logs/traceback.txt" in names) == (run.info.status == "FAILED")
        assert "logs/run.log" in names
    trace = program.artifact(client, children[1].info.run_id, "logs/traceback.txt", tmp_path / "downloaded").read_text()
    assert trace.startswith("Traceback") and "layer 1 (Cropping2D)" in trace
    assert "FAILED" in parent.data.tags["mlflow.note.content"]
    with program.artifact(client, parent.info.run_id, "sweep/results.csv", tmp_path / "downloaded").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == statuses
    assert [row["run_id"] for row in rows] == [run.info.run_id for run in children]
    assert [bool(row["error"]) for row in rows] == [False, True, False]


def test_a_layer_that_keras_refuses_fails_the_run_with_a_one_line_reason(tmp_path: Path) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "folded.yaml").write_text(f"name: folded\nlayers: {BAD.replace(':', ': ')}\n")
    done = program.run(tmp_path, "--config-dir", "own", "model=folded", *QUICK)
    assert done.returncode == 2
    assert re.fullmatch(r"cifar_exp: model 'folded', layer 1 \(Cropping2D\): .*\n", done.stderr)
    assert "((20, 20), (20, 20))" in done.stderr and "\x1b" not in done.stderr
    assert "Traceback" not in done.stdout

    run = program.only_run(tmp_path)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FAILED", "failed")
    assert "logs/traceback.txt" in program.artifacts(program.client(tmp_path), run.info.run_id)


def test_file_that_cannot_be_written_fails_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "journal.jsonl").touch()  # the folder of a run
    (folder / "artifacts" / "evaluation").write_text("in the way")  # a folder of this name is written after training
    done = program.run(tmp_path, f"hydra.run.dir={folder}", "model=dense", *QUICK)
    assert done.returncode == 1
    assert re.match(r"cifar_exp: failed: .*(File exists|Not a directory).*evaluation", done.stderr.splitlines()[-1])

    client, run = program.client(tmp_path), program.only_run(tmp_path)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FAILED", "failed")
    assert list(program.points(client, run.info.run_id, "val/loss")) == [1]
    assert "logs/traceback.txt" in program.artifacts(client, run.info.run_id)


def test_a_model_that_cannot_be_packaged_fails_the_run_but_its_metrics_are_logged(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "journal.jsonl").touch()  # the folder of a run
    (folder / "model").write_text("in the way")
    done = program.run(tmp_path, f"hydra.run.dir={folder}", "model=dense", *QUICK)
    assert done.returncode == 1
    assert re.match(r"cifar_exp: failed: .*Not a directory.*model", done.stderr.splitlines()[-1])

    client, run = program.client(tmp_path), program.only_run(tmp_path)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FAILED", "failed")
    assert 0 <= run.data.metrics["test/accuracy"] <= 1
    names = program.artifacts(client, run.info.run_id)
    assert {"evaluation/predictions.parquet", "figures/predictions.png", "figures/curves.png"} <= set(names)
    assert client.search_logged_models([run.info.experiment_id]) == []


def test_a_job_without_enough_images_is_refused_before_any_trains(tmp_path: Path) -> None:
    done = program.run(tmp_path, "-m", "model=dense", "data.train_images=100,6000", *QUICK)  # of 1,437 digits
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("cifar_exp: job 2 of 2 (model=dense data.train_images=6000 ")
    assert list(tmp_path.iterdir()) == []


def in_the_way(folder: Path) -> Path:
    """Create a file that makes the first job of sweep `s` fail after its training."""
    path = folder / "outputs" / "sweeps" / "s" / "0" / "artifacts" / "evaluation"
    path.parent.mkdir(parents=True)
    (path.parents[2] / "journal.jsonl").touch()  # the folder of a sweep
    path.write_text("in the way")
    return path


def test_the_same_failure_twice_is_final_and_can_stop_the_sweep(tmp_path: Path) -> None:
    in_the_way(tmp_path)
    settings = ("sweep.name=s", "sweep.retries=5", "sweep.fail_fast=true")
    done = program.run(tmp_path, "-m", "seed=1,2", "model=dense", *QUICK, *settings)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("FAILED: ") == 2 and done.stdout.count("it is tried again") == 1
    assert "[2/2] dense-adam-seed=2  is not started: job 1 failed" in done.stdout
    _, job = program.runs(program.client(tmp_path))
    assert (job.info.status, job.data.tags["cifar_exp.outcome"]) == ("FAILED", "failed")


def test_a_failed_job_is_retried_under_the_same_run_after_its_cause_is_removed(tmp_path: Path) -> None:
    obstacle = in_the_way(tmp_path)
    command = ("-m", "seed=1", "model=dense", *QUICK, "sweep.name=s", "sweep.retries=1")
    process = program.popen([*program.PROGRAM, *command], tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "it is tried again" in line:
            obstacle.unlink()
    assert process.wait() == 0
    client = program.client(tmp_path)
    _, job = program.runs(client)
    assert (job.info.status, job.data.tags["cifar_exp.outcome"]) == ("FINISHED", "completed")
    assert len(client.get_metric_history(job.info.run_id, "train/loss")) == 1


def test_an_invalid_number_of_retries_is_refused(tmp_path: Path) -> None:
    done = program.run(tmp_path, "-m", "seed=1,2", *QUICK, "sweep.retries=-1")
    assert (done.returncode, done.stderr) == (2, "cifar_exp: sweep.retries: got -1, expected at least 0\n")
    assert list(tmp_path.iterdir()) == []
