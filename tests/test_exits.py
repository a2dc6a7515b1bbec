"""Exit codes of what was stopped, and what a second signal may interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, time
from cifar_exp import exits

def send(number):
    os.kill(os.getpid(), number)
    for _ in range(100):  # a handler runs between two steps of Python
        time.sleep(0.01)
"""
STOPPED = """
exits.take_signals()
try:
    try:
        send(int(sys.argv[1]))
    except KeyboardInterrupt:
        if sys.argv[2] == "replaced":
            raise KeyboardInterrupt from None  # as Ray does while it waits
        raise
except KeyboardInterrupt:
    code = exits.of_stop()
    send(int(sys.argv[1]))  # the end is not stopped
    sys.exit(code)
"""
CODES = [
    (signal.SIGINT, 130),
    (signal.SIGTERM, 143),
    (signal.SIGHUP, 129),
    (signal.SIGUSR1, 138),
    (signal.SIGUSR2, 140),
    (signal.SIGXCPU, 152),
]
# The second signal comes at once, as when a terminal and a shell both send one; the third is a person's.
HELD = """
exits.take_signals()
ended = []
try:
    try:
        send(signal.SIGHUP)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        with exits.held():
            ended.append(exits.hurried())
            time.sleep(1)
            send(signal.SIGINT)
            ended.append(exits.hurried())
        ended.append("not reached")
except KeyboardInterrupt:
    print(ended, exits.received(), exits.hurried())
    sys.exit(exits.of_stop())
"""
IGNORED = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
exits.take_signals()
send(signal.SIGHUP)
print("goes on", exits.received())
"""
BLOCKED = """
import subprocess
exits.take_signals()
try:
    with exits.blocked():
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            child = "import os, time; os.kill(os.getpid(), %d); print('lives')" % number
            print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip())
        send(signal.SIGHUP)
        print("not lost", exits.received())
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(exits.of_stop())
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("interrupt", ["as raised", "replaced"])
@pytest.mark.parametrize(("number", "code"), CODES)
def test_code_names_the_signal_whoever_raises(number: signal.Signals, code: int, interrupt: str) -> None:
    done = run(STOPPED, str(int(number)), interrupt)
    assert (done.returncode, done.stderr) == (code, "")


def test_what_is_held_is_done_whole_and_a_later_signal_asks_it_to_hurry() -> None:
    done = run(HELD)
    received = [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]
    assert done.stdout == f"{[False, True]} {[int(number) for number in received]} False\n", done.stderr
    assert done.returncode == 129


def test_what_nohup_has_ignored_stays_ignored() -> None:
    done = run(IGNORED)
    assert (done.returncode, done.stdout) == (0, "goes on []\n")


def test_processes_that_are_started_blocked_outlive_what_the_group_gets() -> None:
    done = run(BLOCKED)
    assert done.stdout.splitlines() == ["lives"] * 4 + ["not lost []"], done.stderr
    assert done.returncode == 129
