"""The description of an experiment: its best run, kept current, beside the text of its users."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.entities import Metric

from cifar_exp.tracking import addresses, experiment_note
from cifar_exp.tracking.store import Store

NOTE = "mlflow.note.content"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('noted') / 'mlflow.db'}", "noted")


def log(
    store: Store,
    name: str,
    validation: float,
    test: float | None,
    validated_on: str = "split",
    state: str = "unreviewed",
) -> str:
    client = store.client
    run = client.create_run(store.experiment_id, tags={"review.state": state})
    client.log_param(run.info.run_id, "data.validation", validated_on)
    metrics = [Metric("val/best_accuracy", validation, 0, 0)]
    metrics += [Metric("test/accuracy", test, 0, 0)] if test is not None else []
    client.log_batch(run.info.run_id, metrics)
    client.update_run(run.info.run_id, "FINISHED", name)
    return str(run.info.run_id)


def note(store: Store) -> str:
    return str(store.client.get_experiment(store.experiment_id).tags.get(NOTE, ""))


def test_it_names_the_best_run_by_validation_images_and_is_kept_current(own: Store) -> None:
    _ = own.experiment_id
    experiment_note.update(own)
    assert "No finished run was chosen by validation images yet." in note(own)
    first = log(own, "first", 0.6, 0.58)
    log(own, "better-on-test", 0.5, 0.9)
    log(own, "chosen-on-test", 0.9, 0.9, validated_on="test")
    log(own, "rejected", 0.95, 0.9, state="rejected")
    log(own, "pruned", 0.99, None)
    experiment_note.update(own)
    assert f"[first]({addresses.run(own, first)})**, validation accuracy 0.6000, test accuracy 0.5800." in note(own)
    log(own, "second", 0.7, 0.65)
    experiment_note.update(own)
    assert "[second](" in note(own) and "[first](" not in note(own)
    assert note(own).count("`test/accuracy` is the share of test images") == 1


def test_text_of_users_around_it_is_kept(own: Store) -> None:
    before = note(own)
    own.client.set_experiment_tag(own.experiment_id, NOTE, f"Our *best* work.\n\n{before}\n\nAsk Ann.")
    log(own, "third", 0.8, 0.75)
    experiment_note.update(own)
    text = note(own)
    assert text.startswith("Our *best* work.\n\n") and text.endswith("\n\nAsk Ann.") and "[third](" in text
    own.client.set_experiment_tag(own.experiment_id, NOTE, "Only ours.")
    experiment_note.update(own)
    assert note(own).startswith("Only ours.\n\n") and "[third](" in note(own)


def test_it_never_fails(tmp_path: Path) -> None:
    missing = Store(f"sqlite:///{tmp_path / 'none.db'}", "none")
    experiment_note.update(missing)
    assert not (tmp_path / "none.db").exists()
    experiment_note.update(Store("http://127.0.0.1:9", "away"))
