"""Explanations of logged models, logged beside the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from cifar_exp.analysis import explain
from cifar_exp.errors import UserError
from cifar_exp.evaluation import explanation_grids, style
from cifar_exp.review import query
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]


def artifact(run: Run, name: str) -> Path:
    """Local path of an artifact."""
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def test_chosen_images_and_the_most_confident_mistakes_are_explained(
    own_store: Store, log_trained: LogTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = log_trained("weak")
    explain.explain(own_store, run, ["7", "wrong", "7"], None, (), "test")
    explains = f"tags.`cifar_exp.explains` = '{run.info.run_id}'"
    (logged,) = own_store.client.search_runs([own_store.experiment_id], explains)
    assert logged.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert [one.info.run_id for one in query.select(own_store)] == [run.info.run_id]

    frame = pd.read_parquet(artifact(run, "evaluation/predictions.parquet"))
    wrong = frame[frame["label"] != frame["predicted"]]
    confidence = wrong.filter(like="p_").max(axis=1).sort_values(ascending=False)
    rows = json.loads(artifact(logged, "explanations/explanations.json").read_text())["images"]
    assert [row["index"] for row in rows[:4]] == [7, *confidence.index[:3]]
    assert len(rows) in (12, 13) and rows[1]["probability"] == pytest.approx(confidence.iloc[0], abs=1e-5)
    with np.load(artifact(logged, "explanations/maps.npz"), allow_pickle=False) as maps:
        assert maps["occlusion"].shape == (len(rows), 32, 32)  # the model has no convolution
        assert set(maps) == {"index", "occlusion"}
    for name in ("images", "confusions"):
        assert artifact(logged, f"explanations/{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("word", ["360", "-1", "seven", ""])
def test_a_number_that_no_image_has_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=f"--images: got '{word}', expected numbers from 0 to 359, or wrong"):
        explain.parse(["3", word], 360)


def test_a_picture_without_any_mistake() -> None:
    labels = np.array([0, 1], np.uint8)
    images = np.zeros((2, 8, 8, 1), np.uint8)
    assert style.to_png(explanation_grids.confusions(images, labels, np.eye(2), ("a", "b")))
