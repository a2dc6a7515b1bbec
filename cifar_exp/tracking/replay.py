"""Send the journal of a run to MLflow: while the run is running, after an outage and after a crash.

Sending an event twice has the same effect as sending it once, so a lost response does no harm. The progress is in
`sent.json` beside the journal. If it is lost, a run that the store has to its end is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from pathlib import Path

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking import deleted, heartbeat, journal, local_run
from cifar_exp.tracking.delivery import Delivery, StoreAway, UnusableEvent
from cifar_exp.tracking.journal import Damage, Event
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.store import Store

# Answers that may change later: the login may be corrected, the server may recover.
_LATER = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}


class Replayer:
    """Sends one journal. Only the process that has locked the journal may use it.

    Args:
        folder: folder of the journal.
        store: where to send it; default: the store that the journal names.
    """

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        self.folder = folder
        self.progress = Progress.read(folder)
        if store and self.progress.uri not in (None, store.absolute_uri):
            self.progress = Progress()  # another store: send everything; events that it already has change nothing
        self._store = store
        self._must_claim = self.run_id is not None
        self.known = 0
        """Number of lines, from the first one, that the store turned out to have already."""

    @property
    def run_id(self) -> str | None:
        """Id of the run in MLflow; None until it is created there."""
        return self.progress.run_id

    def waiting(self) -> int:
        """Number of events that have not been sent."""
        return sum(1 for _ in journal.read(self.folder, self.progress.lines))

    def send(self, again: bool = False) -> None:
        """Send all waiting events.

        Args:
            again: whether to also send events again that were refused before.

        Raises:
            StoreAway: if the store does not accept events now, or another process has taken over the run. The progress
                so far is stored.
        """
        try:
            if self._must_claim and self.waiting():
                self._try(self._claim)
                self._must_claim = False
            if again:
                self._send_refused()
            self._send_waiting()
        except StoreAway:
            self._must_claim = self.run_id is not None
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
            elif line > self.known:
                if (problem := self._send(event)) and not self._is_superseded(event, line):
                    self.progress.refused[str(line)] = f"{event.kind}: {problem}"
                if event.kind == "start" and self.run_id:
                    self._try(self._claim)  # an earlier attempt, of which nothing is known here, may have created it
            self.progress.lines += 1
            if self.progress.lines >= self.known:  # otherwise, whoever goes on would not know what the store has
                self.progress.write(self.folder)

    def beat(self) -> None:
        """Send a heartbeat of the run.

        Raises:
            StoreAway: if the store does not accept it now.
        """
        if self.run_id:
            self._send(Event("tags", heartbeat.heartbeat_tag()))

    def _send(self, event: Event) -> str | None:
        """Send one event; return why the store refused it, or None."""
        if event.kind != "start" and self.run_id is None:
            return "its run was never started"
        return self._try(lambda: self._delivery(event))

    def problems(self) -> dict[int, str]:
        """Events that could not be sent, except files that a later event logs again.

        Returns:
            Line number, from 1 -> reason.
        """
        refused = {int(line): reason for line, reason in self.progress.refused.items()}
        return {line: reason for line, reason in refused.items() if not self._is_superseded(self._event(line), line)}

    def _event(self, line: int) -> Event | Damage | None:
        return next(journal.read(self.folder, line - 1), None)

    def _is_superseded(self, event: Event | Damage | None, line: int) -> bool:
        """Whether a later event logs the same files again."""
        if not isinstance(event, Event) or event.kind not in ("artifact", "model"):
            return False
        later = (one for one in journal.read(self.folder, line) if isinstance(one, Event) and one.kind == event.kind)
        return any(one.content.get("path") == event.content.get("path") for one in later)

    def _claim(self) -> None:
        """Find what the store has, and check that no other process has continued the run in the meantime.

        A run that the store has to its end is left as it is: to send its events again would undo what came later and
        then do it again, which a server that keeps the rules of review refuses.
        """
        line, end = local_run.end(self.folder) or (0, None)
        self.known = line if end and self._delivery.has_ended(end) else 0
        if not self.known:
            self._delivery.claim(local_run.process_names(self.folder))

    def _try(self, call: Callable[[], None]) -> str | None:
        """Call MLflow; return why the store refused the call, or None."""
        import requests
        from mlflow.exceptions import MlflowException

        try:
            call()
            return None
        except UnusableEvent as unusable:
            return str(unusable)
        except UserError as error:  # raised by `Store` if the experiment cannot be looked up
            cause = error.__cause__ or error
            raise StoreAway(reason(cause.__context__ or cause)) from error
        except MlflowException as error:
            status = error.get_http_status_code()
            message = reason(error.__context__ or error)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 500
            message = reason(error)
        except (requests.RequestException, OSError) as error:
            raise StoreAway(reason(error)) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise StoreAway(message)
        if deletion := self._deletion():
            raise StoreAway(deletion)
        return message

    def _deletion(self) -> str | None:
        """Message if the run or its experiment was deleted. Waiting events are sent after it is restored."""
        from mlflow.exceptions import MlflowException

        store, run_id = self.store, self.run_id
        try:
            experiment_id = self.progress.experiment_id
            find = store.client.get_experiment if experiment_id else store.client.get_experiment_by_name
            experiment = find(experiment_id or store.experiment)
            if experiment and experiment.lifecycle_stage == deleted.STAGE:
                return deleted.experiment_message(store.uri, experiment.name, experiment.experiment_id)
            if run_id and store.client.get_run(run_id).info.lifecycle_stage == deleted.STAGE:
                return deleted.run_message(store.uri, run_id)
        except MlflowException:
            pass
        return None

    @cached_property
    def _delivery(self) -> Delivery:
        return Delivery(self.folder, self.store, self.progress)

    @cached_property
    def store(self) -> Store:
        """Store that receives the events: the given one, else the one that the journal names."""
        if self._store:
            return self._store
        for event in journal.read(self.folder):
            if isinstance(event, Event) and event.kind == "start":
                return Store(self.progress.uri or event.content["uri"], event.content["experiment"])
        raise StoreAway("the journal does not name its store")
