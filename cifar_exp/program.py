"""`python -m cifar_exp` in a process of its own, which stops when this one is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from cifar_exp import console, exits


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run the program and wait for its end. It reads nothing from stdin.

    Args:
        arguments: of the program.
        environment: variables; None for those of this process.

    Returns:
        Its exit code.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the program has logged what it ran as KILLED and has ended.
    """
    command = [sys.executable, "-m", "cifar_exp", *arguments]
    # In a process group of its own, Ctrl-C reaches it only once.
    program = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            code = program.wait()
            break
        except KeyboardInterrupt as error:
            interrupt = error
            program.send_signal(signal.SIGTERM)  # SIGINT may be ignored, as where a script started this with &
    if interrupt:
        if code not in (0, exits.SIGNALLED + signal.SIGTERM):
            console.say(f"The run did not stop as it should: it ended with exit code {code}")
        raise interrupt
    return code
