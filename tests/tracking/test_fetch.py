"""Tests of reading the files of a logged model."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_exp.errors import UserError
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store


@pytest.fixture
def model(store: Store, tmp_path: Path) -> str:
    """Id of a logged model with a text and folders in place of files."""
    client = store.client
    made = client.create_logged_model(store.experiment_id, "model").model_id
    for name in ("MLmodel/a", "data/model.keras/a", "text"):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
    client.log_model_artifacts(made, str(tmp_path / "model"))
    client.finalize_logged_model(made, "READY")
    return str(made)


def test_a_folder_in_place_of_a_file_is_refused(model: str, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MLmodel is a folder, expected a file"):
        fetch.model_text(store, model, "MLmodel", 1000)
    with pytest.raises(UserError, match=r"data/model\.keras is a folder, expected a file"):
        fetch.keras_file(store, model, tmp_path / "fetched")


def test_a_text_is_read_up_to_its_limit(model: str, store: Store) -> None:
    assert fetch.model_text(store, model, "text", 5) == "12345"
    with pytest.raises(UserError, match="it holds 5 bytes; at most 4 are read"):
        fetch.model_text(store, model, "text", 4)
