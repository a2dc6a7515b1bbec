"""Values that any user of a store can log, on which no command may break."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cifar_exp import review
from cifar_exp.analysis import card
from cifar_exp.review import comparison, query, queue, repeated, report, run_record, tables
from cifar_exp.tracking.store import Store

Log = Callable[..., str]

FAR = 10**17  # milliseconds: three million years
INFINITE = float("inf")


@pytest.fixture
def odd(own_store: Store, log: Log) -> Store:
    """A store with three usual runs and odd ones."""
    from mlflow.entities import Dataset, DatasetInput

    client = own_store.client
    for accuracy in (0.6, 0.7, 0.8):
        log("s0_wide", accuracy)
    log("s0_wide", float("nan"), params={"seed": "9" * 400}, metrics={"test/f1/cat": float("nan")})
    log("s0_wide", 0.5, params={"seed": "inf"}, metrics={"train/seconds": INFINITE, "model/parameters": INFINITE})
    log("s0_wide", INFINITE, params={"seed": "9" * 6000})
    run = client.create_run(own_store.experiment_id, start_time=FAR, run_name="late").info.run_id
    profile, source = json.dumps({"images": 10**30}), json.dumps({"tags": "a"})
    client.log_inputs(run, [DatasetInput(Dataset("x-test", "d", "local", source, profile=profile))])
    client.log_metric(run, "test/accuracy", 0.5)
    client.set_terminated(run, end_time=FAR)
    return own_store


def test_odd_runs_are_compared_listed_and_drawn(odd: Store) -> None:
    runs = query.select(odd)
    assert [run.data.metrics["test/accuracy"] for run in runs[1:4]] == [0.8, 0.7, 0.6]
    assert len(queue.waiting_runs(odd)) == len(runs) == 7
    compared = comparison.compare([run_record.from_run(run) for run in runs])
    rows = json.loads(tables.to_json(compared), parse_constant=pytest.fail)
    assert {row["seed"] for row in rows if row["name"] != "late"} >= {"inf", "9" * 400, "9" * 6000}
    assert "9" * 400 in tables.to_text(compared)
    page = report.from_store(odd, runs, "Odd runs")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0], parse_constant=pytest.fail)
    assert data["charts"]["parallel"]
    assert review.runs(uri=odd.uri, experiment=odd.experiment)["started"].max().year == 9999


def test_a_state_that_was_set_by_hand_is_not_compared_as_a_verdict(own_store: Store, log: Log) -> None:
    by_hand, without = log("s0_wide", tags={"review.state": "approved"}), log("s0_wide")
    records = [run_record.from_run(own_store.client.get_run(run)) for run in (by_hand, without)]
    assert [record.review for record in records] == ["unreviewed", ""]


def test_parameters_may_be_named_as_columns_of_the_tables(own_store: Store, log: Log) -> None:
    foreign = dict.fromkeys(("run_id", "n", "mean", "low", "high", "review", "device", "test/loss"), "first")
    log("s0_wide", 0.7, params=foreign)
    log("s0_wide", 0.8, params=dict.fromkeys(foreign, "second"))
    log("s0_wide", 0.9, params=dict.fromkeys(foreign, "second") | {"seed": 7})
    runs = query.select(own_store)
    records = [run_record.from_run(run) for run in runs]
    for compared in (comparison.compare(records), repeated.grouped(records), repeated.grouped(records, "mean")):
        text = tables.to_text(compared)
        assert "first" in text and "second" in text
        assert {f"params.{name}" for name in foreign} <= set(compared.frame.columns)
    assert "<td>second</td>" in report.from_store(own_store, runs, "Foreign runs")


@pytest.mark.parametrize("name", ["it's", 'say "x"'])
def test_a_name_with_a_quote_is_found(own_store: Store, name: str) -> None:
    tags = {"cifar_exp.sweep": name, "cifar_exp.outcome": "completed"}
    run = own_store.client.create_run(own_store.experiment_id, run_name=name, tags=tags).info.run_id
    assert query.get(own_store, name).info.run_id == run
    assert [one.info.run_id for one in query.select(own_store, sweep=name)] == [run]


def test_the_card_of_an_odd_run_is_written(odd: Store) -> None:
    late = query.get(odd, "late")
    assert card.read(odd, late, {}).title == "late"
