"""Tests of the published experiments: matching runs, tables, and running the missing ones in order."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from cifar_exp.config.composition import CONF
from cifar_exp.errors import UserError
from cifar_exp.review import published, published_runner, sources
from cifar_exp.review.published import Entry
from cifar_exp.review.published_runner import Runner
from cifar_exp.tracking.store import Store

Log = Callable[..., str]
COPY = "/data/cifar (not the official release: it differs)"


def matched(entries: list[Entry], store: Store) -> dict[str, list[str]]:
    """Name of each entry that has runs -> their ids."""
    runs_by_name = published.match(entries, published.finished(store))
    return {name: [run.id for run in runs] for name, runs in runs_by_name.items() if runs}


def table(entries: list[Entry], store: Store) -> pd.DataFrame:
    runs_by_name = published.match(entries, published.finished(store))
    return sources.table(entries, runs_by_name, store).set_index("name", drop=False)


def text(frame: pd.DataFrame) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=120).print(sources.terminal(frame))
    return buffer.getvalue()


def test_every_preset_is_an_entry_and_a_sweep_one_for_each_reported_setting(entries: list[Entry]) -> None:
    names = [entry.name for entry in entries]
    presets = {path.stem for path in (CONF / "experiment").glob("s[0-9]_*.yaml")}
    assert {name.partition("=")[0] for name in names} == presets
    assert len(names) == len(set(names)) == len(presets) - 3 + 5 + 4 + 2
    assert names.index("s4_model_3") < names.index("s4_model_10") < names.index("s4_model_10_15")


def test_of_a_pattern_there_are_those_that_match_and_those_that_they_start_from(by_name: dict[str, Entry]) -> None:
    assert published.entries(pattern="s1_sub*") == [by_name["s1_bn"], by_name["s1_subset"]]
    listed = [entry.name for entry in published.entries(pattern="s0_dense_units=1*")]
    assert {"s0_dense_units=16", "s0_dense_units=128"} <= set(listed) <= set(by_name)
    assert published.entries(pattern="s0_wied") == []


def test_an_entry_of_a_sweep_has_the_reported_setting_and_its_figures(by_name: dict[str, Entry]) -> None:
    gelu, wide, sgd = (by_name[n] for n in ("s0_activation=gelu", "s0_dense_units=256", "s0_optimizer=sgd"))
    assert gelu.config.model.knobs["activation"] == "gelu"
    assert (gelu.reference.accuracy, gelu.reference.loss, gelu.reference.parameters) == (0.6976, 1.1008, 122_570)
    assert (wide.config.model.knobs["dense_units"], wide.reference.parameters) == (256, 321_290)
    assert by_name["s0_dense_units=16"].reference.parameters is None
    assert (sgd.config.optimizer.name, sgd.config.optimizer.learning_rate) == ("sgd", 0.01)
    assert sgd.overrides == ("experiment=s0_optimizer", "optimizer=sgd")


def test_a_run_is_found_under_its_own_entry_alone(entries: list[Entry], own_store: Store, log: Log) -> None:
    expected = {entry.name: [log(entry.name)] for entry in entries if not entry.config.training.start_from}
    assert matched(entries, own_store) == expected


@pytest.mark.parametrize(
    "logged",
    [
        {"params": {"seed": 7, "name": "mine", "note": "said", "tracking.uri": "http://elsewhere"}},
        {"params": {"data.dir": "/data", "data.verify": "size", "training.device": "gpu"}},
        {"params": {"training.steps_per_execution": 1}},
        {"without": ("training.start_from", "training.early_stopping.monitor", "augmentation.crop")},
    ],
    ids=str,
)
def test_settings_that_change_nothing_or_are_not_logged_may_differ(
    entries: list[Entry], own_store: Store, log: Log, logged: dict[str, Any]
) -> None:
    assert matched(entries, own_store) == {}
    run = log("s0_wide", **logged)
    assert matched(entries, own_store) == {"s0_wide": [run]}


@pytest.mark.parametrize(
    "logged",
    [
        {"params": {"training.epochs": 1}},
        {"params": {"data.name": "digits"}},
        {"params": {"data.train_images": 1000}},
        {"params": {"optimizer.learning_rate": 0.01}},
        {"params": {"model.filters": [1, 2, 3]}},
        {"params": {"model.another_knob": 1}},
        {"without": ("training.epochs",)},
        {"without": ("model.filters",)},
        {"without": ("test/accuracy",)},
        {"without": ("model/parameters",)},
        {"metrics": {"model/parameters": 1_151_691}},
        {"start_from": "0" * 32},
        {"status": "KILLED"},
        {"status": "FAILED"},
        {"status": "RUNNING"},
    ],
    ids=str,
)
def test_a_run_of_other_settings_or_another_size_is_not_of_the_experiment(
    entries: list[Entry], own_store: Store, log: Log, logged: dict[str, Any]
) -> None:
    log("s0_wide", **logged)
    assert matched(entries, own_store) == {}


def test_a_run_that_goes_on_counts_only_after_a_run_of_the_experiment_it_should_go_on_from(
    entries: list[Entry], own_store: Store, log: Log
) -> None:
    short = log("s1_bn", params={"training.epochs": 1})
    for origin in (None, short, "0" * 32, "/weights.keras"):
        log("s1_subset", start_from=origin)
    assert matched(entries, own_store) == {}
    whole = log("s1_bn", params={"seed": 3})
    subset = log("s1_subset", start_from=whole, params={"training.start_from": whole})
    assert matched(entries, own_store) == {"s1_bn": [whole], "s1_subset": [subset]}


def test_a_chain_is_followed_to_its_beginning(entries: list[Entry], own_store: Store, log: Log) -> None:
    short = log("s4_model_8_adagrad", params={"training.epochs": 1})
    log("s4_model_8_adamax", start_from=log("s4_model_8_adadelta", start_from=short))
    first = log("s4_model_8_adagrad")
    second = log("s4_model_8_adadelta", start_from=first)
    third = log("s4_model_8_adamax", start_from=second)
    expected = {"s4_model_8_adagrad": [first], "s4_model_8_adadelta": [second], "s4_model_8_adamax": [third]}
    assert matched(entries, own_store) == expected


def test_experiments_that_go_on_from_each_other_match_nothing_and_are_refused(by_name: dict[str, Entry]) -> None:
    circle = [
        replace(entry, config=replace(entry.config, training=replace(entry.config.training, start_from=start)))
        for entry, start in ((by_name["s0_wide"], "s0_narrow"), (by_name["s0_narrow"], "s0_wide"))
    ]
    assert published.match(circle, []) == {"s0_wide": [], "s0_narrow": []}
    with pytest.raises(UserError, match="s0_wide, s0_narrow start from each other"):
        published_runner.sort_by_cost(circle, {"s0_wide": 1, "s0_narrow": 1})


def test_a_store_that_is_not_there_holds_nothing_and_is_not_made(tmp_path: Path) -> None:
    assert published.finished(Store(f"sqlite:///{tmp_path / 'none.db'}", "e")) == []
    assert not list(tmp_path.iterdir())


def test_listing_runs_creates_no_experiment(store: Store) -> None:
    assert published.finished(Store(store.uri, "looked for")) == []
    assert store.client.get_experiment_by_name("looked for") is None


def test_a_row_is_the_mean_over_the_runs_and_the_median_over_their_epochs(
    entries: list[Entry], own_store: Store, log: Log
) -> None:
    ids = [log("s0_wide", 0.60 + seed / 100, params={"seed": seed}, seconds=(9, 3, 2 + seed)) for seed in range(3)]
    row = table(entries, own_store).loc["s0_wide"]
    assert row["accuracy"] == pytest.approx(0.61)
    assert row["difference"] == pytest.approx(0.61 - 0.7249)
    assert (row["loss"], row["source_loss"]) == (pytest.approx(0.39), 1.0319)
    assert (row["seconds"], row["source_seconds"]) == (pytest.approx((3 + 3 + 4) / 3), 10.5)
    assert (row["runs"], sorted(row["seeds"]), sorted(row["run_ids"])) == (3, ["0", "1", "2"], sorted(ids))


def test_notebook_4_is_compared_on_validation_images_and_the_others_on_test_images(
    entries: list[Entry], own_store: Store, log: Log
) -> None:
    log("s4_model_3", accuracy=0.71, val_accuracy=0.72)
    log("s2_cnn", accuracy=0.61, val_accuracy=0.62)
    frame = table(entries, own_store)
    assert list(frame.loc[["s4_model_3", "s2_cnn"], "accuracy"]) == [0.72, 0.61]
    assert list(frame.loc[["s4_model_3", "s2_cnn"], "loss"]) == pytest.approx([0.28, 0.39])
    assert {name for name in frame.index if frame.loc[name, "scored"] == "val"} == {
        name for name in frame.index if name.startswith("s4_")
    }


def test_ranks_are_among_what_has_both_accuracies(entries: list[Entry], own_store: Store, log: Log) -> None:
    log("s0_wide", 0.70)  # its source: 0.7249
    log("s0_narrow", 0.65)  # 0.6159
    frame = table(entries, own_store)
    assert sources.correlation(frame) is None
    assert "Ranking: none, 2 with both accuracies." in sources.notes(frame, own_store)
    log("s0_one_conv", 0.60)  # 0.6382
    log("s4_baseline", 0.99)  # nothing
    frame = table(entries, own_store)
    ranks = frame.loc[["s0_wide", "s0_narrow", "s0_one_conv"]]
    assert (list(ranks["source_rank"]), list(ranks["rank"])) == ([1, 3, 2], [1, 2, 3])
    assert frame["rank"].notna().sum() == frame["source_rank"].notna().sum() == 3
    assert sources.correlation(frame) == pytest.approx(0.5)
    assert any("Spearman correlation 0.50" in note for note in sources.notes(frame, own_store))


def test_runs_on_other_images_are_marked_and_give_way_to_those_on_the_official_ones(
    entries: list[Entry], own_store: Store, log: Log
) -> None:
    log("s0_wide", 0.6, source=COPY)
    copy_alone = log("s0_narrow", 0.6, source=COPY)
    official = log("s0_wide", 0.7)
    assert matched(entries, own_store) == {"s0_wide": [official], "s0_narrow": [copy_alone]}
    frame = table(entries, own_store)
    assert re.search(r"s0_wide .* 0\.7000 ", text(frame))
    assert re.search(r"s0_narrow .* 0\.6000\* ", text(frame))
    assert [
        note for note in sources.notes(frame, own_store) if note.startswith("* Not measured on the official images")
    ]
    assert frame.set_index("name").loc["s0_narrow", "images"] == [COPY]


def test_the_widest_table_fits_120_columns(entries: list[Entry], own_store: Store, log: Log) -> None:
    for seed in range(3):
        tags = {"cifar_exp.outcome": "collapsed"} if seed else {}
        log("s0_activation=leaky_relu", 0.1, params={"seed": seed}, source=COPY, tags=tags, seconds=(1234.5,))
        log("s0_wide", 0.7)
    last = log("s4_model_6", 0.1, tags={"cifar_exp.outcome": "collapsed"})
    shown = text(table(entries, own_store))
    lines = shown.splitlines()
    assert len(lines) == len(entries) + 2
    assert max(map(len, lines)) <= 120
    assert "…" not in shown
    row = next(line for line in lines if line.startswith("s0_activation=leaky_relu"))
    assert "0.1000* (3)" in row and "-0.6300" in row and row.endswith(" 2 collapsed")
    assert next(line for line in lines if line.startswith("s4_model_6")).rstrip().endswith(f"{last[:8]} collapsed")
    assert next(line for line in lines if line.startswith("s3_vgg ")).rstrip().endswith("not run")


def test_the_page_shows_runs_seeds_and_remarks(entries: list[Entry], own_store: Store, log: Log) -> None:
    ids = [log("s0_wide", 0.6 + seed / 10, params={"seed": seed}, source=COPY) for seed in range(2)]
    log("s0_narrow", 0.9)
    remarks = dict.fromkeys(("s0_wide", "s2_cnn"), "Its source | says so.")
    explained = [
        replace(entry, reference=replace(entry.reference, remark=remarks.get(entry.name))) for entry in entries
    ]
    frame = table(explained, own_store)
    page = sources.markdown(frame, own_store, "On a copy.")
    assert "\n\nOn a copy.\n\n" in page
    rows = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| s")}
    assert len(rows) == len(entries)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines() if line.startswith("|")}) == 1
    assert r"0.6500\* (2 runs: 0.7000, 0.6000)" in rows["| s0_wide[^1]"]
    assert rows["| s0_wide[^1]"].endswith(f"| {ids[1][:8]}, {ids[0][:8]} | 1, 0 |")
    assert "| not run |" in rows["| s2_cnn[^2]"]
    assert "\n[^1]: Its source | says so.\n[^2]: Its source | says so.\n" in page
    assert "without a remark: s0_narrow." in page
    assert sources.remarks(frame) == ["s0_wide: Its source | says so.", "s2_cnn: Its source | says so."]


def test_the_csv_has_a_row_per_entry_and_reads_back(entries: list[Entry], own_store: Store, log: Log) -> None:
    ids = [log("s0_wide", 0.6), log("s0_wide", 0.7)]
    frame = pd.read_csv(io.StringIO(sources.csv(table(entries, own_store)))).set_index("name")
    assert list(frame.index) == [entry.name for entry in entries]
    assert frame.loc["s0_wide", "run_ids"] == f"{ids[1]} {ids[0]}"
    assert frame.loc["s0_wide", "accuracy"] == pytest.approx(0.65)
    assert pd.isna(frame.loc["s0_narrow", "accuracy"])


def test_the_cheapest_comes_first_and_each_after_what_it_goes_on_from(by_name: dict[str, Entry]) -> None:
    names = ["s0_wide", "s4_model_8_adamax", "s4_model_8_adadelta", "s4_model_8_adagrad", "s1_subset"]
    costs = dict(zip(names, (5, 1, 2, 6, 3), strict=True))
    ordered = published_runner.sort_by_cost([by_name[name] for name in names], costs)
    assert [entry.name for entry in ordered] == [
        "s1_subset",  # the experiment it starts from is not missing
        "s0_wide",
        "s4_model_8_adagrad",
        "s4_model_8_adadelta",
        "s4_model_8_adamax",
    ]


def test_multiply_adds_are_those_of_the_layers(by_name: dict[str, Entry]) -> None:
    config = by_name["s0_one_conv"].config
    counts = published_runner.multiply_adds({"one": config.model, "wide": by_name["s0_wide"].config.model}, config)
    assert counts["one"] == (3 * 3 * 3 + 1) * 32 * 30 * 30 + (15 * 15 * 32 + 1) * 64 + (64 + 1) * 10
    assert counts["wide"] > counts["one"]


def test_an_experiment_starts_from_a_matching_run(
    entries: list[Entry], by_name: dict[str, Entry], own_store: Store, log: Log
) -> None:
    runner = Runner(entries, own_store, ["tracking.experiment=e"], ["data.verify=size"])
    assert runner.command(by_name["s1_subset"], {}) == (
        "python -m cifar_exp experiment=s1_subset data.verify=size tracking.experiment=e"
    )
    whole = log("s1_bn")
    log("s1_bn", params={"training.epochs": 1})
    runs_by_name = published.match(entries, published.finished(own_store))
    assert f" training.start_from={whole} " in runner.command(by_name["s1_subset"], runs_by_name)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["training.epochs=1"], "training.epochs"),
        (["data=digits"], "data.name"),
        (["seed=1", "model.filters=[1,1,1]"], "model.filters"),
        (["model.layers=[Flatten,{Dense:{units:10}}]"], "model.layers"),
        (["training.start_from=s1_bn"], "training.start_from"),
        (["tracking.uri=sqlite:///other.db"], "tracking.uri"),
        (["tracking.experiment=other"], "tracking.experiment"),
    ],
)
def test_overrides_after_which_a_run_would_not_count_are_refused(
    entries: list[Entry], by_name: dict[str, Entry], own_store: Store, overrides: list[str], key: str
) -> None:
    with pytest.raises(UserError, match=f": changes {re.escape(key)} of s0_wide, so the run") as refused:
        Runner(entries, own_store, overrides=overrides).run([by_name["s0_wide"]], {})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("two words", "'two words'"),
        ("a=b, 'c'", r"'a=b, \'c\''"),
    ],
)
def test_a_value_is_quoted_for_hydra_where_it_has_to_be(compose: Callable[..., Any], value: str, quoted: str) -> None:
    assert published_runner.format_override("note", value) == f"note={quoted}"
    assert compose(published_runner.format_override("note", value)).note == value
