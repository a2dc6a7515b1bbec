"""Send the journal of a run in the background."""

from __future__ import annotations

import logging
import random
import threading
import time

from cifar_exp import exits
from cifar_exp.tracking.delivery import StoreAway
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.store import import_mlflow

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds between two attempts
_POLL = 0.05  # seconds
_BEAT = 30.0  # seconds between two heartbeats; heartbeat.DEAD_AFTER is several times as long


class Uploader:
    """Background thread that sends the events of a journal and heartbeats.

    While the store is away, the time between two attempts doubles up to one minute.
    """

    def __init__(self, replayer: Replayer) -> None:
        self.away: str | None = None
        """Why nothing can be sent now; None if the last attempt succeeded."""
        self._replayer = replayer
        self._notified, self._ending, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send, name="journal", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Tell the thread that the journal has new events."""
        self._notified.set()

    def wait_for_start(self) -> bool:
        """Wait until the run is created in the store, the store refuses it or turns out to be away.

        Returns:
            Whether the run is created.
        """
        while self._replayer.run_id is None and self.away is None and not self._replayer.progress.lines:
            time.sleep(_POLL)
        return self._replayer.run_id is not None

    def drain(self, seconds: float) -> bool:
        """Wait until all events are sent or another signal asks the process to stop.

        Args:
            seconds: stop waiting if nothing was sent for so long.

        Returns:
            Whether all events are sent.
        """
        self._ending.set()
        sent, until = self._replayer.progress.lines, time.monotonic() + seconds
        while self._replayer.waiting():
            if sent != (now := self._replayer.progress.lines):
                sent, until = now, time.monotonic() + seconds
            if time.monotonic() > until or exits.stop_pending():
                return False
            time.sleep(_POLL)
        return True

    def stop(self) -> None:
        """Stop the thread after the event that it is sending."""
        self._stopped.set()
        self._ending.set()
        self._notified.set()
        self._thread.join(timeout=20)

    def _send(self) -> None:
        pause = _FIRST_PAUSE
        beaten = time.monotonic()
        while not self._stopped.is_set():
            self._notified.wait(_BEAT)
            self._notified.clear()
            try:
                import_mlflow()
                self._replayer.send()
                if time.monotonic() - beaten >= _BEAT and not self._ending.is_set():
                    self._replayer.beat()
                    beaten = time.monotonic()
                self.away, pause = None, _FIRST_PAUSE
            except Exception as error:  # no error of the store may end the run
                if not isinstance(error, StoreAway):
                    log.debug("sending failed", exc_info=True)
                self.away = str(error) or type(error).__name__
                self._notified.set()
                if self._ending.wait(pause * random.uniform(0.5, 1.5)):  # random, so that runs do not retry together
                    self._stopped.wait(_FIRST_PAUSE)
                pause = min(2 * pause, _LONGEST_PAUSE)
