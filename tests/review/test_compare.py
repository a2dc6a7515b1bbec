"""Tests of cifar-exp compare: values equal those of MLflow's client, and only differing settings are shown."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import program
import pytest
from scipy import stats
from twelve import Twelve

from cifar_exp.errors import UserError
from cifar_exp.review import comparison, paired, query, repeated, run_record, tables
from cifar_exp.review.multiple import holm
from cifar_exp.review.run_record import RunRecord
from cifar_exp.tracking.run_tags import HEARTBEAT

PARAMETERS = ("model.name", "optimizer.name", "optimizer.learning_rate", "seed")


@pytest.fixture(scope="module")
def logged(twelve: Twelve) -> dict[str, Any]:
    """Run id -> run of MLflow's client, without the parent run of the sweep."""
    runs = [run for run in program.runs(twelve.store.client) if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) == 12
    return {run.info.run_id: run for run in runs}


Compare = Callable[..., tuple[str, str]]


@pytest.fixture
def compare(twelve: Twelve, capsys: pytest.CaptureFixture[str]) -> Compare:
    """compare("--csv"): run the command and return its standard output and standard error."""
    return partial(twelve.answer, capsys, "compare")


def records_of(twelve: Twelve, wanted: Sequence[str] = ()) -> list[RunRecord]:
    return [run_record.from_run(run) for run in query.select(twelve.store, wanted)]


def test_the_table_is_what_the_client_has_to_the_digit(
    compare: Compare, twelve: Twelve, logged: dict[str, Any]
) -> None:
    as_csv = list(csv.DictReader(io.StringIO(compare("--sweep", "twelve", "--csv")[0])))
    as_json = json.loads(compare("--json")[0])
    assert {row["run_id"] for row in as_csv} == {row["run_id"] for row in as_json} == set(logged)
    for row in (*as_csv, *as_json):
        run = logged[row["run_id"]]
        assert row["name"] == run.info.run_name
        for name in comparison.METRICS:
            assert float(row[name]) == run.data.metrics[name]
        for name in PARAMETERS:
            assert str(row[name]) == run.data.params[name]
        assert (row["outcome"], row["review"]) == ("completed", "unreviewed")
    accuracies = [float(row["test/accuracy"]) for row in as_csv]
    assert accuracies == sorted(accuracies, reverse=True)


def test_only_what_differs_is_shown(twelve: Twelve, logged: dict[str, Any]) -> None:
    shown = comparison.compare(records_of(twelve))
    assert shown.differing == (*PARAMETERS, "parameters")
    assert "optimizer sgd: momentum 0.0, nesterov False" in shown.notes
    names = {run.info.run_name: run.info.run_id for run in logged.values()}
    pair = comparison.compare(records_of(twelve, [names["baseline-sgd-seed=0"], names["baseline-sgd-seed=1"]]))
    assert (pair.differing, pair.notes) == (("seed",), ())
    alone = comparison.compare(records_of(twelve, ["baseline-sgd-seed=0"]))
    assert alone.differing == () and len(alone.frame) == 1


def test_an_argument_that_varies_within_its_choice_is_a_column(twelve: Twelve) -> None:
    runs = records_of(twelve)
    runs[0] = replace(runs[0], params={**runs[0].params, "optimizer.beta_1": "0.5"})
    assert "optimizer.beta_1" in comparison.compare(runs).differing


def test_surroundings_that_differ_are_shown(twelve: Twelve) -> None:
    runs = records_of(twelve)[:2]
    runs[0] = replace(
        runs[0], tags={**runs[0].tags, "cifar_exp.device": "GPU: x"}, status="RUNNING", test_digest="ab" * 16
    )
    shown = comparison.compare(runs)
    assert {"device", "test images"} <= set(shown.differing)
    assert list(shown.frame["status"]) == ["RUNNING", "FINISHED"]


def test_over_seeds_mean_deviation_and_interval_are_scipy_s(compare: Compare, logged: dict[str, Any]) -> None:
    rows = json.loads(compare("--group", "seed", "--json")[0])
    assert {row["name"] for row in rows} == {"baseline-sgd", "baseline-adam", "one_conv-sgd", "one_conv-adam"}
    assert len(rows) == 4 and rows == sorted(rows, key=lambda row: -row["mean"])
    for row in rows:
        runs = [logged[run_id] for run_id in row["run_ids"].split()]
        assert [run.info.run_name for run in runs] == [f"{row['name']}-seed={seed}" for seed in range(3)]
        accuracies = [run.data.metrics["test/accuracy"] for run in runs]
        interval = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
        assert (row["n"], row["seed"], row["outcome"]) == (3, "0 1 2", "completed")
        assert row["mean"] == pytest.approx(statistics.fmean(accuracies), rel=1e-12)
        assert row["std"] == pytest.approx(statistics.stdev(accuracies), rel=1e-12)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
        for name in ("test/loss", "val/best_accuracy", "train/seconds"):
            mean = statistics.fmean(run.data.metrics[name] for run in runs)
            assert row[f"{name}, mean"] == pytest.approx(mean, rel=1e-12)


def test_of_runs_with_one_seed_the_last_counts_and_one_run_has_no_interval(twelve: Twelve) -> None:
    runs = records_of(twelve, ["baseline-sgd-seed=0"])
    later = replace(
        runs[0], id="later", start_time=runs[0].start_time + 1, metrics={**runs[0].metrics, "test/accuracy": 0.25}
    )
    unfinished = replace(runs[0], id="unfinished", metrics={})
    shown = repeated.grouped([later, *runs, unfinished])
    (row,) = shown.frame.to_dict("records")
    assert (row["n"], row["mean"], row["run_ids"]) == (1, 0.25, "later")
    assert pd.isna(row["std"]) and pd.isna(row["low"])
    assert {"1 left out: a later run has the same seed", "1 left out: without a test accuracy"} <= set(shown.notes)
    with pytest.raises(UserError, match="none of these runs has a test accuracy"):
        repeated.grouped([unfinished])


def test_each_is_tested_against_the_baseline(compare: Compare, twelve: Twelve, logged: dict[str, Any]) -> None:
    out, err = compare("--baseline", "one_conv-adam-seed=1", "--json")
    assert err == ""
    (baseline,) = (run for run in logged.values() if run.info.run_name == "one_conv-adam-seed=1")
    rows = json.loads(out)
    tested = [row for row in rows if row["p_value"] is not None]
    assert len(tested) == 11
    assert [row["p_holm"] for row in tested] == holm([row["p_value"] for row in tested])
    for row in rows:
        if row["run_id"] == baseline.info.run_id:
            assert row["difference"] is row["p_value"] is row["p_holm"] is None
            continue
        test = paired.compare_runs(twelve.store, baseline.info.run_id, row["run_id"])
        assert (row["difference"], row["low"], row["high"], row["p_value"]) == (
            *(test.difference, *test.interval),
            test.p_value,
        )
        own = logged[row["run_id"]].data.metrics["test/accuracy"]
        assert row["difference"] == pytest.approx(own - baseline.data.metrics["test/accuracy"], rel=1e-9)
    assert "corrected for 11 pairs (Holm)" in compare("--baseline", "one_conv-adam-seed=1")[0]
    output = compare("--baseline", "one_conv-adam-seed=1", "baseline-sgd-seed=0")[0]
    assert "baseline-sgd-seed=0 is worse than one_conv-adam-seed=1 by 0." in output
    assert "larger than chance would make it (McNemar p < 0.0001, 360 images)." in output


def test_the_printed_table_has_the_selected_rows_and_columns(compare: Compare) -> None:
    out, _ = compare("--filter", "params.seed = '0' AND params.`model.name` = 'baseline'")
    lines = out.splitlines()
    assert len(lines) == 2 + 2 + 2  # headings, runs, notes of the optimizers
    assert lines[1].split()[:4] == ["run", "name", "name", "learning_rate"]
    assert not any(line.startswith("seed") for line in lines)
    page, _ = compare("--group", "seed", "--markdown")
    assert page.splitlines()[0].startswith("| name | model.name | optimizer.name | optimizer.learning\\_rate |")
    assert len([line for line in page.splitlines() if line.startswith("| ")]) == 2 + 4


def test_columns_are_hidden_on_a_narrow_terminal(twelve: Twelve) -> None:
    shown = comparison.compare(records_of(twelve))
    text = tables.to_text(shown, width=130)
    rows = [line for line in text.splitlines() if "completed" in line]
    assert len(rows) == 12 and all("unreviewed" in row and "seed=" in row and len(row) <= 130 for row in rows)
    assert "Hidden for lack of space: parameters, val/best_epoch, val/loss" in text


def test_long_names_are_cut_in_a_terminal_alone(twelve: Twelve) -> None:
    records = [replace(record, name=f"{record.name}-{'x' * 200}") for record in records_of(twelve)]
    shown = comparison.compare(records)
    assert "x" * 200 in tables.to_text(shown)
    text = tables.to_text(shown, width=200)
    assert "x" * 60 not in text and "x…" in text and max(map(len, text.splitlines())) <= 200


def test_text_from_the_store_is_escaped(twelve: Twelve) -> None:
    run = replace(records_of(twelve)[0], name="\x1b[31m|<script>\n*x*", review="[bold]a[/bold]")
    shown = comparison.compare([run])
    text = tables.to_text(shown)
    assert "\x1b" not in text and len(text.splitlines()) == 3
    assert "[bold]a[/bold]" in text
    row = tables.to_markdown(shown).splitlines()[2]
    assert "\\|\\<script\\> \\*x\\*" in row


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing-of-the-kind"], "no run 'nothing-of-the-kind' in experiment 'cifar10'"),
        (["baseline-sgd-sed=0"], "its name; did you mean 'baseline-sgd-seed=0'?"),
        (["baseline-sgd-seed=0", "--sweep", "twelve"], "give either single runs, or --sweep and --filter, not both"),
        (["sweep of model, optimizer, seed"], "is a sweep; select its runs with --sweep twelve"),
        (["--sweep", "twelv"], "no runs of sweep 'twelv' in experiment 'cifar10'"),
        (["--sweep", "twelv"], "did you mean 'twelve'?"),
        (["--sweep", "it's"], 'no runs of sweep "it\'s"'),
        (["--filter", "metrics.x >> 2"], "--filter 'metrics.x >> 2': Invalid comparator"),
        (["--filter", "seed = 0"], "--filter 'seed = 0': Invalid"),
        (["--filter", "metrics.`test/accuracy` > 2"], "meets 'metrics.`test/accuracy` > 2'"),
        (["--experiment", "none"], "no runs in experiment 'none'"),
        (["--group", "sed"], "--group sed: no such parameter; did you mean 'seed'?"),
        (["--group", "seed", "--baseline", "x"], "--baseline: not allowed with argument --group"),
        (["--baseline", "sweep of model, optimizer, seed"], "has no evaluation/predictions.parquet"),
        (["--uri", program.NOWHERE], f"tracking server {program.NOWHERE}"),
        (["--uri", "sqlite:///none.db"], "no runs in experiment 'cifar10' of sqlite:///none.db"),
    ],
)
def test_a_wrong_selection_is_refused_in_one_line(compare: Compare, arguments: list[str], message: str) -> None:
    out, err = compare(*arguments, code=2)
    assert out == "" and message in err and err.startswith("cifar_exp: ") and err.count("\n") == 1
    assert not Path("none.db").exists()


def test_a_run_without_predictions_is_reported_and_the_others_are_compared(compare: Compare, twelve: Twelve) -> None:
    client = twelve.store.client
    run = client.create_run(twelve.store.experiment_id, run_name="bare")
    try:
        out, err = compare("bare", "baseline-sgd-seed=0", "--baseline", "baseline-sgd-seed=1", code=1)
        assert "baseline-sgd-seed=0 is better than baseline-sgd-seed=1" in out
        assert err == (
            f"cifar_exp: run {run.info.run_id} (bare) of {twelve.store.uri} has no evaluation/predictions.parquet\n"
        )
    finally:
        client.delete_run(run.info.run_id)


def test_the_record_of_a_folder_equals_that_of_the_store(twelve: Twelve, logged: dict[str, Any]) -> None:
    folders = list((twelve.folder / "outputs" / "sweeps" / "twelve").glob("*/journal.jsonl"))
    assert len(folders) == 12
    for path in folders:
        local = run_record.from_folder(path.parent)
        assert local is not None and local.id is not None
        stored = run_record.from_run(logged[local.id])
        added = {key: value for key, value in stored.tags.items() if key not in local.tags}
        assert all(key.startswith(("mlflow.", "cifar_exp.journal")) for key in added)
        times = {"start_time": stored.start_time, "end_time": stored.end_time}
        beat = {HEARTBEAT: stored.tags[HEARTBEAT]}  # sent every half minute while the run goes on
        assert replace(local, **times, tags={**local.tags, **added, **beat}) == stored
