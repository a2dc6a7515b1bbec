"""Tests of the tables of published experiments beside their runs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from cifar_exp.review import published, sources
from cifar_exp.review.published import Entry
from cifar_exp.tracking.store import Store

Log = Callable[..., str]
COPY = "/data/cifar (not the official release: it differs)"


def table(entries: list[Entry], store: Store) -> pd.DataFrame:
    runs_by_name = published.match(entries, published.finished(store))
    return sources.table(entries, runs_by_name, store).set_index("name", drop=False)


def text(frame: pd.DataFrame) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=120).print(sources.terminal(frame))
    return buffer.getvalue()


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
    frame = table(entries, own_store)
    assert {name: ids for name, ids in frame["run_ids"].items() if ids} == {
        "s0_wide": [official],
        "s0_narrow": [copy_alone],
    }
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
