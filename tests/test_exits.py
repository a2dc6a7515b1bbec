"""Exit codes of what was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

STOPPED = """
import os, signal, sys, time
from cifar_exp import exits
exits.take_signals()
try:
    try:
        os.kill(os.getpid(), signal.Signals(int(sys.argv[1])))
        time.sleep(60)
    except KeyboardInterrupt:
        if sys.argv[2] == "replaced":
            raise KeyboardInterrupt from None  # as Ray does while it waits
        raise
except KeyboardInterrupt:
    sys.exit(exits.of_stop())
"""


@pytest.mark.parametrize("interrupt", ["as raised", "replaced"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_code_names_the_signal_whoever_raises(number: signal.Signals, code: int, interrupt: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(int(number)), interrupt],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        timeout=60,
    )
    assert done.returncode == code
