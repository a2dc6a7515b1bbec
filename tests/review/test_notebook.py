"""Tests of the tables for notebooks, and of the notebook in docs/, which is executed from start to end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import program
import pytest
from twelve import NAME, Twelve

import cifar_exp
from cifar_exp import review
from cifar_exp.errors import UserError
from cifar_exp.review import paired

NOTEBOOK = program.ROOT / "docs" / "compare.ipynb"


def test_a_table_holds_what_the_client_has(twelve: Twelve) -> None:
    frame = review.runs(sweep=NAME, uri=twelve.store.uri)
    assert len(frame) == 12
    for _, row in frame.iterrows():
        run = twelve.store.client.get_run(row["run_id"])
        assert (row["name"], row["status"]) == (run.info.run_name, "FINISHED")
        assert row["started"] == pd.Timestamp(run.info.start_time, unit="ms", tz="UTC")
        assert row["seconds"] == (run.info.end_time - run.info.start_time) / 1000
        assert {name: row[f"metrics.{name}"] for name in run.data.metrics} == run.data.metrics
        assert {name: row[f"tags.{name}"] for name in run.data.tags} == run.data.tags
        for name, text in run.data.params.items():
            value = row[f"params.{name}"]
            assert pd.isna(value) if text == "None" else str(value) == text or float(value) == float(text)


def test_histories_have_a_row_per_run_and_epoch(twelve: Twelve) -> None:
    frame = review.histories("baseline-sgd-seed=0", "one_conv-adam-seed=2", uri=twelve.store.uri)
    assert list(frame["epoch"]) == [1, 2, 1, 2]
    for run_id, rows in frame.groupby("run_id"):
        for metric in review.EVERY_EPOCH:
            points = program.points(twelve.store.client, run_id, metric)
            assert dict(zip(rows["epoch"], rows[metric], strict=True)) == points


def test_predictions_and_the_paired_test_are_those_of_the_runs(twelve: Twelve) -> None:
    images = review.predictions("one_conv-adam-seed=1", uri=twelve.store.uri)
    (row,) = review.runs("one_conv-adam-seed=1", uri=twelve.store.uri).to_dict("records")
    assert (images["label"] == images["predicted"]).mean() == pytest.approx(row["metrics.test/accuracy"])
    ids = list(review.runs("one_conv-sgd-seed=1", "one_conv-adam-seed=1", uri=twelve.store.uri)["run_id"])
    test = review.paired_test("one_conv-sgd-seed=1", "one_conv-adam-seed=1", uri=twelve.store.uri)
    assert test == paired.compare_runs(twelve.store, *ids)
    with pytest.raises(UserError, match="no run 'none'"):
        review.predictions("none", uri=twelve.store.uri)
    with pytest.raises(UserError, match="no runs in experiment 'other'"):
        review.runs(uri=twelve.store.uri, experiment="other")


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = '{"mlflow", "pandas", "numpy", "hydra", "plotly", "scipy"}'
    program_text = f"import sys; from cifar_exp import review; assert not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program_text], capture_output=True, text=True, cwd=program.ROOT)
    assert done.returncode == 0, done.stderr


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    twelve: Twelve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(program.ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert f"python -m cifar_exp {' '.join(_sweep())}" in notebook.cells[0].source
    written = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [[kind(output) for output in cell.outputs] for cell in written]
    shutil.copy(twelve.folder / "mlflow.db", tmp_path)  # it trains a run of its own
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell, expected in zip(written, kinds, strict=True):
        assert [kind(output) for output in cell.outputs if output.get("name") != "stderr"] == expected
    best = cifar_exp.find(uri=twelve.store.uri).best()
    words = review.paired_test("baseline-sgd-seed=0", best.name, uri=twelve.store.uri).words
    assert words in "".join(output.get("text", "") for cell in written for output in cell.outputs)


def _sweep() -> list[str]:
    from twelve import SWEEP

    return [*(part for part in SWEEP if not part.startswith("sweep.name")), "training.epochs=2"]


def kind(output: dict[str, object]) -> tuple[object, ...]:
    """Output type and MIME types of a cell's output."""
    data = output.get("data")
    return (output["output_type"], *(sorted(data) if isinstance(data, dict) else ()))
