"""Tests of cifar-exp mislabeled, from predictions in a store to lists that a training takes."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from browsing import chromium, opened

from cifar_exp import cli, exits
from cifar_exp.analysis import mislabeled
from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError
from cifar_exp.evaluation import mislabeled_page
from cifar_exp.experiment import artifacts
from cifar_exp.tracking.store import Store

pytest.importorskip("cleanlab", reason="needs the extra mislabeled")

PLANTED = 70  # of 1,437
Answer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def answer(own_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    """answer("--json", ...) -> exit code, stdout and stderr of cifar-exp mislabeled."""
    monkeypatch.setattr(exits, "take_signals", lambda: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        where = ["--uri", own_store.uri, "--experiment", own_store.experiment]
        monkeypatch.setattr(sys, "argv", ["cifar-exp", "mislabeled", *arguments, *where])
        code = cli.main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def flipped(tmp_path: Path) -> dict[str, str]:
    """Index -> right label of images whose label tmp_path/flips.csv changes."""
    whole = datasets.load(DataConfig("digits")).training
    generator = np.random.default_rng(0)
    assert whole.numbers is not None
    chosen = generator.choice(len(whole), PLANTED, replace=False)
    right = {str(whole.numbers[at]): str(whole.labels[at]) for at in chosen}
    with (tmp_path / "flips.csv").open("w") as file:
        print("index,suggested,decision", file=file)
        for index, label in right.items():
            print(f"{index},{(int(label) + generator.integers(1, 10)) % 10},confirm", file=file)
    return right


def log(store: Store, config: Config, predictions: dict[str, pd.DataFrame]) -> str:
    """Log config and predictions of a run that was not trained."""
    client = store.client
    run = client.create_run(store.experiment_id, run_name=f"fold={config.data.fold}")
    client.log_text(run.info.run_id, yaml.safe_dump(artifacts._composable(config)), "config/config.yaml")
    for name, frame in predictions.items():
        folder = Path(client.get_run(run.info.run_id).info.artifact_uri.removeprefix("file://")) / "evaluation"
        folder.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(folder / name)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def predicted(labels: np.ndarray, right: np.ndarray, seed: int) -> pd.DataFrame:
    """What a good model says: the right labels, with some doubt."""
    logits = np.random.default_rng(seed).normal(0, 1, (len(labels), 10))
    logits[np.arange(len(labels)), right] += 5
    frame = pd.DataFrame(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).add_prefix("p_")
    frame.insert(0, "index", range(len(labels)))
    frame.insert(1, "label", labels)
    frame.insert(2, "predicted", logits.argmax(axis=1))
    return frame


@pytest.fixture
def folds(own_store: Store, compose: Callable[..., Config], flipped: dict[str, str], tmp_path: Path) -> list[str]:
    """Five logged runs of a cross-validation with the flipped labels."""
    runs = []
    for fold in range(5):
        config = compose("data=digits", "data.folds=5", f"data.fold={fold}", f"data.relabel={tmp_path / 'flips.csv'}")
        split = datasets.load(config.data).validation
        numbers = enumerate(split.numbers.tolist())  # type: ignore[union-attr]
        right = np.array([int(flipped.get(str(number), split.labels[at])) for at, number in numbers])
        frames = {"predictions_validation.parquet": predicted(split.labels, right, fold)}
        runs.append(log(own_store, config, frames))
    return runs


def test_planted_errors_are_listed_and_decided_on_the_page(
    answer: Answer, folds: list[str], flipped: dict[str, str], tmp_path: Path
) -> None:
    page, file = tmp_path / "page.html", tmp_path / "list.csv"
    code, out, err = answer(*folds, "--json", "--top", str(PLANTED), "--save", str(file), "-o", str(page))
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["runs"], found["split"], found["images"]) == (5, "validation", 1437)
    assert 0.7 * PLANTED < found["wrong"] <= PLANTED
    hits = [row for row in found["listed"] if row["index"] in flipped]
    assert len(hits) >= 0.9 * PLANTED
    assert sum(row["suggested"] == flipped[row["index"]] for row in hits) >= 0.9 * len(hits)
    with file.open() as lines:
        assert [row["index"] for row in csv.DictReader(lines)] == [row["index"] for row in found["listed"]]
    code, _, err = answer(*folds, "--save", str(file))
    assert code == 2 and "may hold decisions" in err

    with chromium() as browser, opened(browser, 900) as (shown, recorded):
        shown.goto(page.as_uri())
        shown.locator("fieldset").nth(0).get_by_label("confirm").check()
        shown.locator("fieldset").nth(1).get_by_label("dismiss").check()
        assert shown.locator("#count").text_content() == f"1 confirmed, 1 dismissed, {PLANTED - 2} open"
        with shown.expect_download() as download:
            shown.locator("#save").click()
        download.value.save_as(tmp_path / "decided.csv")
    assert recorded.errors == [] and [url for url in recorded.requests if url.startswith("http")] == []
    with (tmp_path / "decided.csv").open() as lines:
        decided = [(row["index"], row["suggested"], row["decision"]) for row in csv.DictReader(lines)]
    assert [row[2] for row in decided] == ["confirm", "dismiss", *[""] * (PLANTED - 2)]
    assert [row[:2] for row in decided] == [(row["index"], row["suggested"]) for row in found["listed"]]
    with pytest.raises(UserError, match="which is of other data"):  # the digits without the flipped labels
        datasets.load(DataConfig("digits", relabel=str(tmp_path / "decided.csv")))


def test_test_images_are_ranked_across_seeds_and_folds_that_are_missing_are_said(
    answer: Answer, own_store: Store, compose: Callable[..., Config]
) -> None:
    config = compose("data=digits")
    splits = datasets.load(config.data)
    right = splits.test.labels.astype(int)
    frames = [
        {
            "predictions.parquet": predicted(splits.test.labels, right, seed),
            "predictions_validation.parquet": predicted(splits.validation.labels, splits.validation.labels, seed),
        }
        for seed in (1, 2)
    ]
    runs = [log(own_store, config, of_seed) for of_seed in frames]
    ranked = mislabeled.find(own_store, [own_store.client.get_run(run) for run in runs], mislabeled.TEST).images
    mean = sum(of_seed["predictions.parquet"].filter(like="p_").to_numpy() for of_seed in frames) / 2
    expected = dict(zip(splits.test.numbers.tolist(), mean[np.arange(len(right)), right], strict=True))  # type: ignore[union-attr]
    assert set(ranked["runs"]) == {2}
    assert dict(zip(ranked["number"], ranked["score"], strict=True)) == pytest.approx(expected)
    _, out, _ = answer(*runs)
    assert "1,293 images never validated; folds cover all: data.folds=5 data.fold=0,1,2,3,4." in out


def test_runs_that_cannot_be_used_are_refused_or_named(
    answer: Answer, own_store: Store, compose: Callable[..., Config]
) -> None:
    config = compose("data=digits")
    labels = datasets.load(config.data).validation.labels
    good = predicted(labels, labels, 0)
    other = good.assign(label=good["label"].to_numpy()[::-1])
    name = "predictions_validation.parquet"
    runs = [log(own_store, config, frames) for frames in ({name: good}, {}, {name: other})]
    code, _, err = answer(*runs[:2])
    assert code == 0 and f"left out: run {runs[1]}" in err and f"has no evaluation/{name}" in err
    assert answer(runs[1])[0] == 2
    code, _, err = answer(runs[2])
    assert code == 2 and "its images are not those on this machine" in err
    code, _, err = answer()
    assert code == 2 and "name runs of one data set, or --sweep NAME" in err
    peeking = log(own_store, compose("data=digits", "data.validation=test"), {name: good})
    code, _, err = answer(peeking)
    assert code == 2 and "validated on the test images; add --split test" in err


def test_everything_on_the_page_is_escaped() -> None:
    row = {"path": '"><script>x', "label": "<b>", "suggested": "'&", "score": 0.25, "decision": ""}
    page = mislabeled_page.render("<i>", "words", [row], [np.zeros((2, 2, 3), np.uint8)])
    assert page.count("<script>") == 1 and "<b><b>" not in page and "<i>" not in page
    assert "(25.0 %)" in page and "data:image/png;base64," in page
