"""A run's journal -> MLflow: the one piece of code that sends, while a run lives, after an outage, after a crash.

Sending an event twice leaves what sending it once does, so that an answer that was lost does no harm. How far it got is
in `sent.json` beside the journal.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from pathlib import Path

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking import deleted, heartbeat, journal, local_run
from cifar_exp.tracking.delivery import Away, Delivery, Missing
from cifar_exp.tracking.journal import Damage, Event
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.store import Store

# What may be answered otherwise later: the login may be put right, the server may come back.
_LATER = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}


class Replayer:
    """Sends one journal. Only the process that holds the journal may."""

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        """With the folder of the journal, and another store than the one it names."""
        self.folder = folder
        self.progress = Progress.read(folder)
        if store and self.progress.uri not in (None, store.absolute_uri):
            self.progress = Progress()  # that store has none of it, or knows each event that it has
        self._store = store
        self._may_be_anothers = self.run_id is not None

    @property
    def run_id(self) -> str | None:
        """Of the run in MLflow, once there is one."""
        return self.progress.run_id

    def waiting(self) -> int:
        """How many events have not been sent."""
        return sum(1 for _ in journal.read(self.folder, self.progress.lines))

    def send(self, again: bool = False) -> None:
        """Send all that waits.

        Args:
            again: also try what was refused before.

        Raises:
            Away: if the store cannot take it now, or another process has taken the run over; what was sent is noted.
        """
        try:
            if self._may_be_anothers and self.waiting():
                self._try(self._claim)
                self._may_be_anothers = False
            if again:
                self._send_refused()
            self._send_waiting()
        except Away:
            self._may_be_anothers = self.run_id is not None
            raise

    def _send_refused(self) -> None:
        for line in [int(line) for line in self.progress.refused]:
            event = self._event(line)
            if isinstance(event, Event) and (self._is_superseded(event, line) or self._send(event) is None):
                del self.progress.refused[str(line)]
                self.progress.write(self.folder)

    def _send_waiting(self) -> None:
        for event in journal.read(self.folder, self.progress.lines):
            line = self.progress.lines + 1
            if isinstance(event, Damage):
                self.progress.refused[str(line)] = event.reason
            elif (problem := self._send(event)) and not self._is_superseded(event, line):
                self.progress.refused[str(line)] = f"{event.kind}: {problem}"
            self.progress.lines += 1
            self.progress.write(self.folder)

    def beat(self) -> None:
        """Tell that the process of this run lives.

        Raises:
            Away: if the store cannot take it now.
        """
        if self.run_id:
            self._send(Event("tags", heartbeat.beat()))

    def _send(self, event: Event) -> str | None:
        """Why the store refused it, or None."""
        if event.kind != "start" and self.run_id is None:
            return "its run was never started"
        return self._try(lambda: self._delivery(event))

    def problems(self) -> dict[int, str]:
        """Line -> why it could not be sent, but for files that a later event logs anew."""
        refused = {int(line): why for line, why in self.progress.refused.items()}
        return {line: why for line, why in refused.items() if not self._is_superseded(self._event(line), line)}

    def _event(self, line: int) -> Event | Damage | None:
        return next(journal.read(self.folder, line - 1), None)

    def _is_superseded(self, event: Event | Damage | None, line: int) -> bool:
        """Whether a later event logs the same files, which were written anew since."""
        if not isinstance(event, Event) or event.kind not in ("artifact", "model"):
            return False
        later = (one for one in journal.read(self.folder, line) if isinstance(one, Event) and one.kind == event.kind)
        return any(one.content.get("path") == event.content.get("path") for one in later)

    def _claim(self) -> None:
        """Nobody else has gone on with the run while this process, or the store, was away."""
        self._delivery.claim(local_run.processes(self.folder))

    def _try(self, call: Callable[[], None]) -> str | None:
        """Why the store refused this call, or None."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # repeating is done here, and does not block
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        import requests
        from mlflow.exceptions import MlflowException

        try:
            call()
            return None
        except Missing as missing:
            return str(missing)
        except UserError as error:  # the store's, when it cannot be asked for its experiment
            cause = error.__cause__ or error
            raise Away(reason(cause.__context__ or cause)) from error
        except MlflowException as error:
            status = error.get_http_status_code()
            why = reason(error.__context__ or error)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 500
            why = reason(error)
        except (requests.RequestException, OSError) as error:
            raise Away(reason(error)) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise Away(why)
        if gone := self._deleted():
            raise Away(gone)
        return why

    def _deleted(self) -> str | None:
        """That the run, or its experiment, was deleted: both can be restored, and what waits is sent then."""
        from mlflow.exceptions import MlflowException

        store, run_id = self.store, self.run_id
        try:
            known = self.progress.experiment_id
            find = store.client.get_experiment if known else store.client.get_experiment_by_name
            experiment = find(known or store.experiment)
            if experiment and experiment.lifecycle_stage == deleted.STAGE:
                return deleted.experiment(store.uri, experiment.name, experiment.experiment_id)
            if run_id and store.client.get_run(run_id).info.lifecycle_stage == deleted.STAGE:
                return deleted.run(store.uri, run_id)
        except MlflowException:
            pass
        return None

    @cached_property
    def _delivery(self) -> Delivery:
        return Delivery(self.folder, self.store, self.progress)

    @cached_property
    def store(self) -> Store:
        """Where it is sent: the one that was given, else the one that the journal names."""
        if self._store:
            return self._store
        for event in journal.read(self.folder):
            if isinstance(event, Event) and event.kind == "start":
                return Store(self.progress.uri or event.content["uri"], event.content["experiment"])
        raise Away("the journal does not say where to")
