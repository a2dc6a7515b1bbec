"""Tests of the progress file: if it is damaged, the journal is sent again without duplicates."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_exp.tracking import journal, sync
from cifar_exp.tracking.progress import SENT, Progress
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"lines": 3',
        b"[]",
        b'{"lines": 1000}',  # of another journal, or the end of this journal was lost
        b'{"lines": 3, "run_id": 7}',
        b'{"lines": 3, "refused": {"x": "why"}}',
        b'{"lines": 3, "refused": {"99": "why"}}',
        b'{"lines": 3, "surprise": 1}',
        b"\xff\xfe",
    ],
)
def test_a_journal_is_sent_again_without_duplicates_if_its_progress_is_damaged(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    with Run.start(store, tmp_path, "a run", {}, {"seed": 0}) as run:
        for epoch in (1, 2):
            run.log_metrics({"train/loss": 1 / epoch}, step=epoch)
    (tmp_path / SENT).write_bytes(content)
    state = sync.send(tmp_path)
    assert (state.run_id, state.waiting, state.problems) == (run.id, 0, [])
    assert [p.step for p in store.client.get_metric_history(run.id, "train/loss")] == [1, 2]
    assert f"{tmp_path / SENT} is damaged" in caplog.text
    assert Progress.read(tmp_path).lines == len(list(journal.read(tmp_path)))


def test_events_after_a_truncated_journal_are_sent(store: Store, tmp_path: Path) -> None:
    with Run.start(store, tmp_path, "a run", {}, {}) as run:
        for epoch in (1, 2, 3):
            run.log_metrics({"train/loss": 1 / epoch}, step=epoch)
    path = tmp_path / journal.FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with Run.resume(store, tmp_path, {}) as resumed:
        resumed.log_metrics({"val/loss": 1.0}, step=1)
    assert resumed.id == run.id
    found = store.client.get_run(run.id)
    assert (found.info.status, found.data.metrics["val/loss"]) == ("FINISHED", 1.0)


def test_a_partially_sent_journal_is_sent_completely_to_another_store(store: Store, tmp_path: Path) -> None:
    folder, other = tmp_path / "run", Store(f"sqlite:///{tmp_path / 'other.db'}", "elsewhere")
    with Run.start(store, folder, "a run", {}, {"seed": 0}) as run:
        run.log_metrics({"train/loss": 1.0}, step=1)
        run.write("figures/curves.png", "drawn")
        run.upload("figures")
    for _ in range(2):
        state = sync.send(folder, other.uri, other.experiment)
        assert state.is_whole and state.run_id not in (None, run.id)
    (found,) = other.client.search_runs([other.experiment_id])
    assert (found.info.run_id, found.info.status, found.data.params) == (state.run_id, "FINISHED", {"seed": "0"})
    assert [item.path for item in other.client.list_artifacts(found.info.run_id)] == ["figures"]
    assert sync.send(folder).sent == 0  # it was sent completely

    with Run.resume(store, folder, {}) as resumed:  # the store that the journal names still has the run
        resumed.log_metrics({"train/loss": 0.5}, step=2)
    assert resumed.id == run.id
    assert [p.step for p in store.client.get_metric_history(run.id, "train/loss")] == [1, 2]
