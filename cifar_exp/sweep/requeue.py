"""Jobs of submitit, for example on Slurm: stop a job whose time is almost over, then queue it again."""

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
    """Context manager that lets the run of a submitit job end before the job is queued again.

    submitit's signal handler (SIGUSR2, or SUBMITIT_PREEMPT_SIGNAL) queues the job again and ends the process at once.
    Here the run first ends as KILLED with its checkpoint, and then the handler is called: it exits, or raises if the
    job has timed out too often. SIGTERM, which submitit ignores, also stops the run, so that a cancelled job does not
    stay RUNNING. In other processes this has no effect.
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
    """Signals on which submitit queues this job again -> its handler; empty in other processes."""
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
