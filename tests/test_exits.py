"""Tests of the exit codes after signals, and of code that a second signal must not interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from forked import heed_signals

BEGIN = """
import os, signal, sys, time
from cifar_exp import exits

def send(number):
    os.kill(os.getpid(), number)
    for _ in range(100):  # Python runs a handler between two of its instructions
        time.sleep(0.01)
"""
STOPPED = """
exits.take_signals()
try:
    try:
        send(int(sys.argv[1]))
    except KeyboardInterrupt:
        if sys.argv[2] == "replaced":
            raise KeyboardInterrupt from None  # Ray does this while it waits
        raise
except KeyboardInterrupt:
    code = exits.stop_code()
    send(int(sys.argv[1]))  # ignored while the process ends
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
# The second signal follows at once, as if a terminal and a shell both sent one; the third is sent by a person.
DELAYED = """
exits.take_signals()
ended = []
try:
    try:
        send(signal.SIGHUP)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        with exits.delay_signals():
            ended.append(exits.stop_pending())
            time.sleep(1)
            send(signal.SIGINT)
            ended.append(exits.stop_pending())
        ended.append("not reached")
except KeyboardInterrupt:
    print(ended, exits.received(), exits.stop_pending())
    sys.exit(exits.stop_code())
"""
IGNORED = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup does this
exits.take_signals()
send(signal.SIGHUP)
print("goes on", exits.received())
"""
BLOCKED = """
import subprocess
exits.take_signals()
try:
    with exits.block_group_signals():
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            child = "import os, time; os.kill(os.getpid(), %d); print('lives')" % number
            print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip())
        send(signal.SIGHUP)
        print("not lost", exits.received())
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(exits.stop_code())
"""
# Python drops an exception that is raised in these functions.
DROPPED = """
import gc, weakref

class Interrupted:
    def __init__(self, times):
        self.times = times

    def __call__(self, *_):
        if self.times:
            self.times -= 1
            os.kill(os.getpid(), signal.SIGTERM)

    def __del__(self):
        self()

exits.take_signals()
try:
    if sys.argv[1] == "garbage collector":
        gc.callbacks.append(Interrupted(1))
        gc.collect()
    elif sys.argv[1] == "weak reference":
        target = {1}
        reference = weakref.ref(target, Interrupted(1))
        del target
    else:
        deleted = Interrupted(1)
        del deleted
    for second in range(30):
        time.sleep(1)
except KeyboardInterrupt:
    print(exits.received(), exits.stop_pending(), sys.gettrace())
    sys.exit(exits.stop_code())
"""
# `compute` seems to be a function of TensorFlow. Its C code calls a function that is not.
COMPUTING = """
framework = {"__name__": "tensorflow.python.framework"}
exec("def compute(values, key): return sorted(values, key=lambda value: key(value))", framework)
exits.take_signals()
events = []

def interrupted(value):
    send(signal.SIGTERM)
    events.append((value, exits.stop_pending()))
    return value

def call():
    framework["compute"]([1, 2], interrupted)
    events.append("not reached")

try:
    with exits.on_stop(lambda: events.append("asked")):
        call()
except KeyboardInterrupt:
    print(events, exits.stop_pending(), sys.gettrace())
    sys.exit(exits.stop_code())
"""
# C++ code of TensorFlow calls methods of a shape. After an exception in `__getitem__` the process crashes, and one in
# `__len__` is ignored.
IN_TENSORFLOW = """
import tensorflow as tf
from tensorflow.python.framework.tensor_shape import TensorShape

original = getattr(TensorShape, sys.argv[1])

def interrupted(self, *arguments):
    if sys._getframe(1).f_code.co_name == "anonymous_iterator_v3":
        send(signal.SIGTERM)
    return original(self, *arguments)

def iterate():
    for _ in tf.data.Dataset.from_tensors([1]):
        return "not reached"

exits.take_signals()
setattr(TensorShape, sys.argv[1], interrupted)
try:
    print(iterate())
except KeyboardInterrupt:
    print(exits.received()[0], exits.stop_pending(), sys.gettrace())
    sys.exit(exits.stop_code())
"""
OTHER_DROPPED = """
class Wrong:
    def __del__(self):
        raise ValueError("shown")

exits.take_signals()
Wrong()
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=heed_signals,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("interrupt", ["as raised", "replaced"])
@pytest.mark.parametrize(("number", "code"), CODES)
def test_exit_code_names_the_signal_even_if_the_exception_was_replaced(
    number: signal.Signals, code: int, interrupt: str
) -> None:
    done = run(STOPPED, str(int(number)), interrupt)
    assert (done.returncode, done.stderr) == (code, "")


def test_delayed_signals_interrupt_nothing_and_are_reported_as_pending() -> None:
    done = run(DELAYED)
    received = [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]
    assert done.stdout == f"{[False, True]} {[int(number) for number in received]} False\n", done.stderr
    assert done.returncode == 129


def test_signals_that_nohup_ignores_stay_ignored() -> None:
    done = run(IGNORED)
    assert (done.returncode, done.stdout) == (0, "goes on []\n")


def test_processes_started_while_group_signals_are_blocked_survive_them() -> None:
    done = run(BLOCKED)
    assert done.stdout.splitlines() == ["lives"] * 4 + ["not lost []"], done.stderr
    assert done.returncode == 129


@pytest.mark.parametrize("place", ["garbage collector", "weak reference", "finalizer"])
def test_a_signal_is_not_lost_where_python_drops_exceptions(place: str) -> None:
    done = run(DROPPED, place)
    assert (done.stdout, done.stderr) == ("[15] False None\n", "")
    assert done.returncode == 143


def test_other_dropped_exceptions_are_shown() -> None:
    assert "ValueError: shown" in run(OTHER_DROPPED).stderr


def test_a_signal_waits_until_a_framework_returns_and_asks_it_to_end_early() -> None:
    done = run(COMPUTING)
    assert done.stdout == "['asked', (1, True), 'asked', (2, True)] False None\n", done.stderr
    assert done.returncode == 143


@pytest.mark.parametrize("method", ["__getitem__", "__len__"])
def test_a_signal_does_not_interrupt_the_code_of_tensorflow(method: str) -> None:
    done = run(IN_TENSORFLOW, method)
    assert (done.returncode, done.stdout) == (143, "15 False None\n"), done.stderr
