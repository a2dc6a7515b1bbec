"""Tests of the card of a run: what was logged is on it, what was not measured is named, and text is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_slices import predictions

from cifar_exp.analysis import artifacts, card, card_pages, slices
from cifar_exp.analysis.card import Card, Section, Table
from cifar_exp.errors import UserError
from cifar_exp.tracking.store import Store

Log = Callable[..., str]

EVIL = '<script>alert("x")</script>'


def sections(read: Card) -> dict[str, Section]:
    return {section.title: section for section in read.sections}


def rows(section: Section) -> dict[str, tuple[str, ...]]:
    assert section.table is not None
    return {row[1]: row for row in reversed(section.table.rows)}


def test_the_card_holds_what_was_logged_and_names_what_was_not(own_store: Store, log: Log) -> None:
    run = own_store.client.get_run(log("s0_wide", 0.7, params={"note": "for a test", "seed": 3}))
    defaults = run.data.params | {"seed": "0", "training.epochs": "77", "note": "None"}
    found = sections(card.read(own_store, run, defaults))
    assert list(found) == ["Intended use", "Data", "Recipe", "Results", "How to reproduce", "Known limits"]
    assert found["Intended use"].paragraphs == ("for a test",)
    epochs = run.data.params["training.epochs"]
    assert found["Recipe"].table == Table(
        ("setting", "value", "default"), (("seed", "3", "0"), ("training.epochs", epochs, "77"))
    )
    results = rows(found["Results"])
    assert results["accuracy"] == ("test", "accuracy", "0.7000", "")  # the number of images was not logged: no interval
    assert "macro F1" not in results
    assert ("validation, last epoch", "accuracy", "0.7000", "") in found["Results"].table.rows  # type: ignore[union-attr]
    assert found["Known limits"].paragraphs[-1] == "Not measured, or not logged: calibration, slices, robustness."
    assert "seed 3" in found["Known limits"].paragraphs[-2]


def test_calibration_robustness_and_slices_are_shown_where_they_were_measured(own_store: Store, log: Log) -> None:
    measured = {
        "test/ece": 0.0312,
        "test/nll": 0.9,
        "test/recall/cat": 0.5,
        "test/support/cat": 8,
    }
    run = own_store.client.get_run(log("s0_wide", metrics=measured))
    results = {"evaluation/accuracy": 0.6, "robustness/mce": 0.71, "attack/accuracy/pgd_8": 0.05}
    tags = {"cifar_exp.kind": "evaluation", "cifar_exp.evaluates": run.info.run_id}
    log("s0_wide", metrics=results, tags=tags, params={"data": "cifar10", "part": "test"})
    right = np.array([False] * 15 + [True] * 5 + [True] * 60)
    content = slices.to_json(slices.measure(predictions(right), {"place": np.array(["hall"] * 20 + ["yard"] * 60)}))
    artifacts.log(own_store, run, {slices.FILE: content})
    found = sections(card.read(own_store, run, {}))
    assert [row[1:] for row in found["Calibration"].table.rows] == [("0.9000", "test/nll"), ("0.0312", "test/ece")]  # type: ignore[union-attr]
    on = "test images of cifar10"
    assert found["Evaluations"].table == Table(("on", "accuracy", "95 % interval"), ((on, "0.6000", ""),))
    assert [row[1:] for row in found["Robustness"].table.rows] == [  # type: ignore[union-attr]
        ("mean corruption error", "0.7100"),
        ("accuracy under PGD, epsilon 8/255", "0.0500"),
    ]
    assert found["Classes"].table.rows == (("cat", "0.5000", "-", "-", "8"),)  # type: ignore[union-attr]
    assert "place hall: 0.2500 against 1.0000 on the rest" in found["Slices"].paragraphs[1]
    assert not [line for line in found["Known limits"].paragraphs if "Not measured" in line]


@pytest.mark.parametrize("content", ["[", '[{"column": 1}]', "{}", "7"])
def test_slices_that_were_tampered_with_are_not_shown(own_store: Store, log: Log, content: str) -> None:
    run = own_store.client.get_run(log("s0_wide"))
    artifacts.log(own_store, run, {slices.FILE: content})
    assert "Slices" not in sections(card.read(own_store, run, {}))


def test_what_speaks_against_a_run_is_among_its_limits(own_store: Store, log: Log) -> None:
    warning = "validation on the test images: the best epoch was chosen on them"
    tags = {"cifar_exp.warning": warning, "cifar_exp.git_dirty": "true", "cifar_exp.outcome": "collapsed"}
    limits = sections(card.read(own_store, own_store.client.get_run(log("s0_wide", tags=tags)), {}))["Known limits"]
    text = " ".join(limits.paragraphs)
    for part in ("it collapsed", "it was validated on the test images", "uncommitted changes", f"Warning: {warning}."):
        assert part in text
    chosen = own_store.client.get_run(log("s0_wide", params={"ensemble.selected": True}))
    assert "Its members were chosen on the validation images" in str(
        sections(card.read(own_store, chosen, {}))["Known limits"]
    )
    parent = own_store.client.get_run(log("s0_wide", tags={"cifar_exp.kind": "sweep"}))
    with pytest.raises(UserError, match="is the sweep"):
        card.read(own_store, parent, {})


def test_the_interval_is_wilson_s_for_the_logged_number_of_images(own_store: Store) -> None:
    from mlflow.entities import Dataset, DatasetInput

    client = own_store.client
    run_id = client.create_run(own_store.experiment_id, run_name="x").info.run_id
    client.log_metric(run_id, "test/accuracy", 0.5)
    profile = json.dumps({"images": 60, "shape": [60, 8, 8, 3]})
    client.log_inputs(run_id, [DatasetInput(Dataset("d-test", "ab" * 16, "code", "{}", profile=profile))])
    found = sections(card.read(own_store, client.get_run(run_id), {}))
    assert rows(found["Results"])["accuracy"][3] == "0.3774 to 0.6226 (Wilson, 60 images)"
    assert found["Data"].table.rows == (("d-test", "60", "8 x 8 x 3", "ab" * 16, ""),)  # type: ignore[union-attr]


@pytest.mark.parametrize("source", ['{"tags": ["x"]}', '{"tags": "x"}', '["x"]', "{", ""])
def test_a_source_of_another_form_is_not_shown(own_store: Store, source: str) -> None:
    from mlflow.entities import Dataset, DatasetInput

    client = own_store.client
    run_id = client.create_run(own_store.experiment_id).info.run_id
    name = f"d{len(source)}-test"  # the store keeps one data set per name and digest
    client.log_inputs(run_id, [DatasetInput(Dataset(name, "ab" * 16, "code", source))])
    table = sections(card.read(own_store, client.get_run(run_id), {}))["Data"].table
    assert table and table.rows == ((name, "", "", "ab" * 16, ""),)


def test_text_from_the_store_is_escaped_in_both_pages() -> None:
    table = Table(("a", "b"), ((f"{EVIL}|x", "1.5"),))
    made = Card(EVIL, EVIL, (Section("Intended use", (EVIL, "# x"), table, f"echo {EVIL}\n```\nx"),))
    page = card_pages.to_html(made, b"\x89PNG\r\n\x1a\n")
    assert "<script" not in page and page.count("&lt;script&gt;") == 6
    assert "default-src 'none'" in page and not re.search(r'(?:src|href)="(?!data:)', page)
    text = card_pages.to_markdown(made)
    assert text.startswith('# \\<script\\>alert("x")\\</script\\>\n')
    assert '| \\<script\\>alert("x")\\</script\\>\\|x | 1.5 |' in text and "\n\\# x\n" in text
    assert f"````sh\necho {EVIL}\n```\nx\n````" in text  # the fence is longer than any in the command


def test_only_a_png_is_taken_for_a_picture(own_store: Store, log: Log) -> None:
    run = own_store.client.get_run(log("s0_wide"))
    assert card_pages.picture(own_store, run) is None
    artifacts.log(own_store, run, {"figures/confusion_matrix.png": "<svg onload=alert(1)>"})
    assert card_pages.picture(own_store, run) is None


def test_columns_of_numbers_are_aligned_right_and_names_are_not(tmp_path: Path) -> None:
    table = Table(("class", "n", "source"), (("0", "1,234.5", "scaled to 8"), ("1", "-", "x")))
    page = card_pages.to_html(Card("x", "y", (Section("Data", (), table),)))
    assert page.count('<td class="number">') == 2 and '<th class="number">n</th>' in page
