"""Tests of the journal: events are read back as they were written, and damaged lines are recognized."""

from __future__ import annotations

import fcntl
import math
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cifar_exp.errors import UserError
from cifar_exp.tracking import journal
from cifar_exp.tracking.journal import FILE, Damage, Event, Journal

WRITER = """
import sys, time
from pathlib import Path
from cifar_exp.tracking.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(100_000):
    journal.append("metrics", {"step": number, "padding": "x" * 500})
    if number == 50:
        print("begun", flush=True)
"""


def written(folder: Path, *steps: float) -> None:
    with Journal(folder) as one:
        for step in steps:
            one.append("metrics", {"step": step})


def steps(folder: Path) -> list[float | None]:
    """Steps of the events in a journal; None for a damaged line."""
    return [event.content["step"] if isinstance(event, Event) else None for event in journal.read(folder)]


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    content = {"text": "ä\n\u2028", "values": {"a": 0.1, "b": 1e-300, "c": math.inf}, "none": None}
    with Journal(tmp_path) as one:
        one.append("tags", content)
        one.append("finish", {}, safe=True)
    first, second = journal.read(tmp_path)
    assert isinstance(first, Event) and isinstance(second, Event)
    assert (first.kind, first.content, second.kind) == ("tags", content, "finish")
    assert 1_700_000_000_000 < first.time <= second.time


def test_nan_is_read_as_it_was_written(tmp_path: Path) -> None:
    written(tmp_path, math.nan)
    (step,) = steps(tmp_path)
    assert step is not None and math.isnan(step)


def test_a_journal_can_be_continued_and_read_from_any_line(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    written(tmp_path, 3)
    assert steps(tmp_path) == [1, 2, 3]
    assert [event.content["step"] for event in journal.read(tmp_path, 2) if isinstance(event, Event)] == [3]


def test_only_one_process_can_write_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path):
        assert journal.is_live(tmp_path)
        with pytest.raises(UserError, match="another process is writing this run"):
            Journal(tmp_path)
    assert not journal.is_live(tmp_path)
    written(tmp_path, 1)


def test_a_flipped_bit_damages_only_its_line(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    written(tmp_path, 1, 2, 3)
    whole = (tmp_path / FILE).read_bytes()
    ends = [0] + [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for _ in range(200):
        place = chance.randrange(ends[1], ends[2] - 1)  # in the second line, not its end
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        if damaged[place] == ord("\n"):
            continue  # two damaged lines
        (tmp_path / FILE).write_bytes(damaged)
        assert steps(tmp_path) == [1, None, 3], (place, whole[place], damaged[place])
    _, damage, _ = journal.read(tmp_path)
    assert isinstance(damage, Damage) and damage.line == 2


def test_a_partial_last_line_is_skipped_and_is_damage_once_others_follow(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-10])
    assert steps(tmp_path) == [1]
    written(tmp_path, 3)
    assert steps(tmp_path) == [1, None, 3]


def test_all_events_of_a_killed_process_are_read(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    assert journal.is_live(tmp_path)
    process.kill()
    process.wait()
    assert not journal.is_live(tmp_path)
    found = steps(tmp_path)
    assert len(found) > 50
    assert found == list(range(len(found)))


def test_threads_can_write_at_the_same_time(tmp_path: Path) -> None:
    with Journal(tmp_path) as one:

        def write(first: int) -> None:
            for step in range(first, first + 100):
                one.append("metrics", {"step": step})

        threads = [threading.Thread(target=write, args=(100 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(step for step in steps(tmp_path) if step is not None) == list(range(800))


def test_who_asks_whether_a_journal_is_written_does_not_stop_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 1)
    with (tmp_path / FILE).open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert not journal.is_live(tmp_path)
        monkeypatch.setattr(journal.time, "sleep", lambda _: asking.close())  # it has its answer
        written(tmp_path, 2)
    assert steps(tmp_path) == [1, 2]


def test_space_is_reserved_while_the_journal_is_open(tmp_path: Path) -> None:
    with Journal(tmp_path) as one:
        assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) >= 1 << 18
        one.release_reserve()
        assert [path.name for path in tmp_path.iterdir()] == [FILE]
    written(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
