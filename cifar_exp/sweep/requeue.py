"""Jobs of submitit, as on Slurm: one that is warned of its end stops as on Ctrl-C, and then is queued again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cifar_exp import exits

Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def once_stopped() -> Iterator[None]:
    """Let signals stop a job of submitit whole; nothing in any other process.

    submitit queues a job again from within the handler of the signal (SIGUSR2, or SUBMITIT_PREEMPT_SIGNAL), and ends
    the process there. Here the job's run ends first, KILLED with its checkpoint, and then the handler is called: it
    exits, or raises if the job has been out of time too often. SIGTERM, which submitit ignores, stops the run too, so
    that one that is cancelled is not RUNNING for ever.
    """
    requeue = _handlers()
    if not requeue:
        yield
        return
    exits.take_signals()
    try:
        yield
    except KeyboardInterrupt:
        for number in exits.received():
            if number in requeue:
                requeue[number](number, None)
        raise


def _handlers() -> dict[int, Handler]:
    """The signals on which submitit queues this job again -> what does so."""
    if "submitit" not in sys.modules:
        return {}
    from submitit.core.job_environment import SignalHandler

    installed = {number: signal.getsignal(number) for number in exits.STOPPING}
    queues_again = SignalHandler.checkpoint_and_try_requeue
    return {
        number: handler
        for number, handler in installed.items()
        if callable(handler) and getattr(handler, "__func__", None) is queues_again
    }
