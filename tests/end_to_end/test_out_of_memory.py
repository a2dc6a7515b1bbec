"""Tests of trainings that run out of memory: they fail in one line, and those that cannot fit are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import program
import pytest

SMALL = "[Flatten,{Dense:{units:10}}]"
# Its first layer makes 3.3 GB of 100 images: less than a process has, more than the one below has left.
LARGE = "[{UpSampling2D:{size:52}},GlobalAveragePooling2D,{Dense:{units:10}}]"
QUICK = ("data=digits", "data.train_images=100", "training.batch_size=100", "training.epochs=1", "model=dense")
WHOLE = "training.deterministic=true"  # batches are not split between cores
# The program in a process that may take 3 GB of memory more than it has once all is imported.
LIMITED = """
import resource, sys
from cifar_exp import __main__
from cifar_exp.config.schema import TrainingConfig
from cifar_exp.training import runtime
runtime.prepare(TrainingConfig(epochs=1, batch_size=1), 0)
import mlflow, psutil
limit = psutil.Process().memory_info().vms + 3_000_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(__main__.main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_job_that_runs_out_of_memory_fails_in_one_line_and_the_others_run(tmp_path: Path) -> None:
    settings = (f"model.layers={SMALL},{LARGE},{SMALL}", "sweep.name=s", WHOLE, *QUICK)
    done = program.execute([sys.executable, "-c", LIMITED, "-m", *settings], tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "FAILED: " in line)
    assert line.startswith("[2/3] ") and "FAILED: out of memory: " in line and "training.batch_size" in line

    client = program.client(tmp_path)
    _, *jobs = program.runs(client)
    assert [job.info.status for job in jobs] == ["FINISHED", "FAILED", "FINISHED"]
    trace = program.artifact(client, jobs[1].info.run_id, "logs/traceback.txt", tmp_path / "downloaded").read_text()
    assert "cifar_exp.errors.OutOfMemory: out of memory: " in trace


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ["model.layers=[Flatten,{Dense:{units:100000000}},{Dense:{units:10}}]"],
            ["model 'dense', layer 2 (Dense)", "308,300,000,010 parameters", "TB"],
            id="a run",
        ),
        pytest.param(
            ["-m", f"model.layers={SMALL},[Flatten,{{Dense:{{units:100000000}}}},{{Dense:{{units:10}}}}]"],
            ["job 2 of 2", "layer 2 (Dense)", "308,300,000,010 parameters"],
            id="a sweep",
        ),
        pytest.param(
            ["--config-dir", "own", "experiment=wide"],
            ["layer 3 (Dense)", "10,240,000,000,000,010 of them"],
            id="an experiment file",
        ),
    ],
)
def test_a_model_that_cannot_fit_in_memory_is_refused_before_anything_is_created(
    tmp_path: Path, arguments: list[str], says: list[str]
) -> None:
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "wide.yaml").write_text(
        "# @package _global_\nmodel:\n  layers:\n    - Dense: {units: 1000000000000}\n    - Flatten\n"
        "    - Dense: {units: 10}\n"
    )
    done = program.run(tmp_path, *arguments, *QUICK[:-1], *(["model=dense"] if "own" not in arguments else []))
    assert done.returncode == 2
    assert done.stderr.startswith("cifar_exp: ") and done.stderr.count("\n") == 1
    assert all(text in done.stderr for text in says), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
