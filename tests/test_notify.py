"""Messages to receivers: what reaches them, and that one that is dead or misspelt neither delays nor shows a secret."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from receiver import SECRET, Receiver, receiving

from cifar_exp import notify
from cifar_exp.config.schema import Config
from cifar_exp.experiment import requirements
from cifar_exp.sweep import messages
from cifar_exp.sweep.result import JobResult

DEAD = f"json://user:{SECRET}@127.0.0.1:9/"  # nothing listens on the discard port


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_message_reaches_all_receivers_and_a_dead_one_is_counted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(notify.ADDRESSES, f"{DEAD} {receiver.address}")
    with caplog.at_level(logging.DEBUG):
        notify.send("Sweep s has finished", "<b>2 of 2</b> & more\nsecond line")
        until(lambda: bool(receiver.messages))
    assert receiver.messages == [("Sweep s has finished", "<b>2 of 2</b> & more\nsecond line")]
    assert "did not reach receiver 1 of 2: Sweep s has finished" in caplog.text
    assert SECRET not in caplog.text


def test_addresses_come_from_the_environment_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "receivers"
    file.write_text("# the team\nslack://a/b/c/#general\n\n  ntfy://topic\n")
    monkeypatch.setenv(notify.ADDRESSES, "json://one json://two")
    monkeypatch.setenv(notify.FILE, str(file))
    assert notify.addresses() == ["json://one", "json://two", "slack://a/b/c/#general", "ntfy://topic"]


def test_without_addresses_nothing_is_sent_or_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notify.ADDRESSES, raising=False)
    assert notify.mistake() is None
    notify.send_once(tmp_path, "failed", "a run failed")
    assert list(tmp_path.iterdir()) == []


def test_the_same_event_is_told_once(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notify.ADDRESSES, receiver.address)
    for event in ("failed", "failed", "collapsed"):
        notify.send_once(tmp_path, event, event)
    notify.send("last")
    until(lambda: len(receiver.messages) == 3)
    assert [body for _, body in receiver.messages] == ["failed", "collapsed", "last"]


@pytest.mark.parametrize("is_told", [True, False])
def test_a_server_that_is_away_stops_no_message_and_no_run(
    is_told: bool, receiver: Receiver, compose: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_told:
        monkeypatch.setenv(notify.ADDRESSES, receiver.address)
    config = compose("data=digits")
    config = replace(config, tracking=replace(config.tracking, uri="http://127.0.0.1:9"))
    messages.about_run(config, JobResult("a run", "FAILED", 1.0, "id", error="it broke"), tmp_path)
    until(lambda: len(receiver.messages) == is_told)
    assert receiver.messages == [("Run a run failed", "it broke")] * is_told


@pytest.mark.parametrize("address", [f"jsn://user:{SECRET}@host", f"user:{SECRET}@host", "json://"])
def test_an_address_of_no_known_form_is_named_without_showing_it(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(notify.ADDRESSES, f"json://localhost {address}")
    named = "CIFAR_EXP_NOTIFY: address 2 of 2 is of no form that Apprise knows: no messages are sent to it"
    assert notify.mistake() == named
    assert SECRET not in caplog.text


def test_a_mistake_is_told_once_before_anything_trains_and_stops_nothing(
    compose: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(notify.FILE, str(tmp_path / "none"))
    for seed in (0, 1):
        config = compose("data=digits", f"seed={seed}")
        tracking = replace(config.tracking, uri=f"sqlite:///{tmp_path}/m.db")
        requirements.check(replace(config, tracking=tracking))
    told = f"CIFAR_EXP_NOTIFY_FILE: {tmp_path / 'none'} cannot be read: no messages are sent"
    assert capsys.readouterr().out.count(told) == 1


def test_a_file_that_is_missing_later_on_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(notify.FILE, str(tmp_path / "none"))
    notify.send("a run failed")
    assert "none cannot be read" in caplog.text
    notify.send_once(tmp_path, "failed", "a run failed")  # as the job of a sweep does, which this must not end


def test_a_dead_receiver_never_makes_the_sender_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = notify._queue()
    with queue.all_tasks_done:
        while queue.unfinished_tasks:
            queue.all_tasks_done.wait()
    monkeypatch.setattr(notify, "_queue", lambda: full)
    full = type(queue)(1)
    full.put_nowait(([], "", ""))
    monkeypatch.setenv(notify.ADDRESSES, DEAD)
    notify.send("dropped")  # rather than wait
    assert full.qsize() == 1
