"""Sending a journal in the background of its run."""

from __future__ import annotations

import logging
import random
import threading
import time

from cifar_exp import exits
from cifar_exp.tracking.delivery import Away
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.store import import_mlflow

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds, between two tries
_POLL = 0.05
_BEAT = 30.0  # seconds; heartbeat.GONE_AFTER is several of it


class Uploader:
    """A thread that sends what is written and that the run lives; while the store is away it tries ever less often."""

    def __init__(self, replayer: Replayer) -> None:
        self.away: str | None = None
        """Why nothing can be sent just now."""
        self._replayer = replayer
        self._written, self._ending, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send, name="journal", daemon=True)
        self._thread.start()

    def written(self) -> None:
        """There is something to send."""
        self._written.set()

    def first(self) -> bool:
        """Wait for the first event to be sent, or the first sign that the store is away; whether it was sent."""
        while self._replayer.run_id is None and self.away is None:
            time.sleep(_POLL)
        return self._replayer.run_id is not None

    def drain(self, seconds: float) -> bool:
        """Wait until all is sent, until for so long nothing was, or for a further Ctrl-C; whether it is."""
        self._ending.set()
        sent, until = self._replayer.progress.lines, time.monotonic() + seconds
        while self._replayer.waiting():
            if sent != (now := self._replayer.progress.lines):
                sent, until = now, time.monotonic() + seconds
            if time.monotonic() > until or exits.hurried():
                return False
            time.sleep(_POLL)
        return True

    def stop(self) -> None:
        """Send nothing more, once what is being sent is."""
        self._stopped.set()
        self._ending.set()
        self._written.set()
        self._thread.join(timeout=20)

    def _send(self) -> None:
        pause = _FIRST_PAUSE
        beaten = time.monotonic()
        while not self._stopped.is_set():
            self._written.wait(_BEAT)
            self._written.clear()
            try:
                import_mlflow()
                self._replayer.send()
                if time.monotonic() - beaten >= _BEAT and not self._ending.is_set():
                    self._replayer.beat()
                    beaten = time.monotonic()
                self.away, pause = None, _FIRST_PAUSE
            except Exception as error:  # of whatever kind: it must not end the run
                if not isinstance(error, Away):
                    log.debug("sending failed", exc_info=True)
                self.away = str(error) or type(error).__name__
                self._written.set()
                if self._ending.wait(pause * random.uniform(0.5, 1.5)):  # so that many runs do not come back at once
                    self._stopped.wait(_FIRST_PAUSE)
                pause = min(2 * pause, _LONGEST_PAUSE)
