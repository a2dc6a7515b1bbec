"""One run: the single door through which training code tells what it measured.

What it tells is written to the run's journal, and every file it logs below the run's folder under the name it will have
in MLflow; both are sent from there, in the background.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from cifar_exp import exits
from cifar_exp.data.datasets import Split
from cifar_exp.errors import Diverged
from cifar_exp.tracking import heartbeat, local_run
from cifar_exp.tracking.delivery import ARTIFACTS, MODEL
from cifar_exp.tracking.journal import FILE, Journal
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.system import SystemMetrics
from cifar_exp.tracking.uploader import Uploader

log = logging.getLogger(__name__)


class Run:
    """A run from its start to its end, whatever ends it.

    As a context manager it ends FINISHED, FAILED on an exception (with its traceback as an artifact) or KILLED on
    Ctrl-C and the other signals of `exits`, and never stays RUNNING while Python can still act.
    """

    def __init__(self, store: Store, folder: Path, drain_seconds: float, checkpoint_seconds: float | None) -> None:
        sent = Progress.read(folder)
        is_same_store = sent.uri in (None, store.absolute_uri)  # another store has other experiment ids
        self.store = store = store.knowing(sent.experiment_id) if is_same_store else store
        self.folder = folder
        self._journal = Journal(folder)
        self._replayer = Replayer(folder, store)
        self._live = Uploader(self._replayer)
        self._drain_seconds = drain_seconds
        self._checkpoint_seconds = checkpoint_seconds
        self._checkpoint: Path | None = None  # that is not logged
        self._checkpoint_logged = time.monotonic()
        self._system_metrics: SystemMetrics | None = None
        logged = local_run.metrics(folder).items() if (folder / FILE).exists() else ()
        self._known = {(name, step) for name, steps in logged for step in steps}
        self.resumed = 0
        """How often it had been interrupted."""

    @classmethod
    def start(
        cls,
        store: Store,
        folder: Path,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        sweep: str | None = None,
        system_metrics: bool = False,
        drain_seconds: float = 15,
        checkpoint_seconds: float | None = None,
    ) -> Run:
        """Begin the run.

        Args:
            store: will hold it.
            folder: for its journal, and below it what it logs.
            name: as the UI lists it.
            tags: logged at once, so that the run can be found from its first second.
            params: what distinguishes it from others.
            sweep: the name of the sweep that it is a job of.
            system_metrics: whether to sample CPU, memory and GPU until it ends.
            drain_seconds: that its end waits for a store that takes nothing.
            checkpoint_seconds: between two checkpoints that are logged; None: none are.
        """
        run = cls(store, folder, drain_seconds, checkpoint_seconds)
        content = {
            "key": uuid4().hex,
            "uri": store.absolute_uri,
            "experiment": store.experiment,
            "name": name,
            "tags": {**tags, **heartbeat.signature()},
            "params": {key: str(value) for key, value in params.items()},
            "sweep": sweep,
        }
        with run._ended_if_stopped():
            run._write("start", content, safe=True)
            if system_metrics:
                run._system_metrics = SystemMetrics(run.log_metrics)
        return run

    @classmethod
    def resume(
        cls,
        store: Store,
        folder: Path,
        tags: Mapping[str, str],
        system_metrics: bool = False,
        drain_seconds: float = 15,
        checkpoint_seconds: float | None = None,
    ) -> Run:
        """Go on with the run that was begun in this folder; what it has logged of a step stays as it was."""
        run = cls(store, folder, drain_seconds, checkpoint_seconds)
        run.resumed = local_run.resumed(folder) + 1
        with run._ended_if_stopped():
            run._write("resume", {**tags, **heartbeat.signature()}, safe=True)
            if system_metrics:
                steps = [step for name, step in run._known if name.startswith("system/")]
                run._system_metrics = SystemMetrics(run.log_metrics, max(steps, default=-1) + 1)
        return run

    @property
    def id(self) -> str | None:
        """In MLflow, once it is there."""
        return self._replayer.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """All at this step, but for those that were logged there before the run was interrupted."""
        new = {name: value for name, value in metrics.items() if (name, step) not in self._known}
        if new:
            self._write("metrics", {"step": step, "values": new})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set, or set anew."""
        self._write("tags", dict(tags))

    def write(self, name: str, content: str | bytes) -> None:
        """Write an artifact below the run's folder; `upload` logs it."""
        path = self.folder / ARTIFACTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{uuid4().hex}.part"
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)  # whole, whenever the process is killed

    def upload(self, *groups: str) -> None:
        """Log what was written below these folders: config, figures, ..."""
        root = self.folder / ARTIFACTS
        for group in groups:
            for path in _files(root / group):
                self._log_artifact(path.relative_to(root).as_posix(), local_run.hash_of(path))

    def log_datasets(self, name: str, source: str, splits: Mapping[str, Split]) -> None:
        """Record which images were used: context (training, validation, test) -> split, each with its SHA-256."""
        self._write("datasets", {context: _dataset(name, source, context, split) for context, split in splits.items()})

    def log_model(self, params: Mapping[str, str]) -> None:
        """Log the MLflow model that was saved below the run's folder, as `model`."""
        root = self.folder / MODEL
        files = {path.relative_to(root).as_posix(): local_run.hash_of(path) for path in _files(root)}
        self._write("model", {"params": dict(params), "files": files})

    def offer_checkpoint(self, file: Path) -> None:
        """A file of its folder `checkpoints`: logged if the last one is old enough, or once the run is interrupted."""
        self._checkpoint = file
        if (seconds := self._checkpoint_seconds) is not None and time.monotonic() - self._checkpoint_logged >= seconds:
            self._log_checkpoint()

    def started(self) -> bool:
        """Wait until it is in MLflow, or until it turns out that this will take longer; whether it is."""
        return self._live.first()

    def wait(self, seconds: float) -> bool:
        """Wait until all that was logged is sent, or until for so long nothing was; whether it is."""
        return self._live.drain(seconds)

    def finish(self, status: str) -> None:
        """FINISHED, FAILED or KILLED; what cannot be sent now waits in the journal."""
        with exits.held():
            self._finish(status)

    def _finish(self, status: str) -> None:
        if self._system_metrics is not None:
            self._system_metrics.finish()
        self._write("finish", {"status": status}, safe=True)
        try:
            if not self.wait(self._drain_seconds):
                log.warning(
                    "%s does not take what was logged (%s): %d events wait in %s; cifar-exp sync %s sends them",
                    *(self.store.uri, self._live.away or "it is slow", self._replayer.waiting()),
                    *(self.folder, self.folder),
                )
            for line, refusal in self._replayer.problems().items():
                log.warning("%s: line %s was not taken: %s", self.folder, line, refusal)
        finally:
            self._live.stop()
            self._journal.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with exits.held():
            self._end(error)

    @contextmanager
    def _ended_if_stopped(self) -> Iterator[None]:
        """Begin it whole; if it is to stop already, end it."""
        try:
            with exits.held():
                yield
        except KeyboardInterrupt as stop:
            self.__exit__(KeyboardInterrupt, stop, stop.__traceback__)
            raise

    def _end(self, error: BaseException | None) -> None:
        status, outcome = "FINISHED", None
        if isinstance(error, Exception) and exits.received():  # what was interrupted has made this of it
            status, outcome = "KILLED", "interrupted"
        elif isinstance(error, Exception):
            status, outcome = "FAILED", "diverged" if isinstance(error, Diverged) else "failed"
        elif error is not None:
            status, outcome = "KILLED", "interrupted"
        try:
            if isinstance(error, OSError):
                self._journal.use_reserve()  # the disk may be full
            if outcome:
                self.set_tags({"cifar_exp.outcome": outcome})
            if outcome is None and local_run.checkpoints(self.folder):
                self._write("checkpoint", {"file": None})
            elif outcome in ("failed", "interrupted") and self._checkpoint and self._checkpoint_seconds is not None:
                self._log_checkpoint()
            if isinstance(error, Exception):
                self.write("logs/traceback.txt", "".join(traceback.format_exception(error)))
            self.upload("logs")
            if error is not None:
                for path, sha256 in local_run.rewritten(self.folder).items():
                    self._log_artifact(path, sha256)
        except Exception as failure:
            if error is None:
                raise
            log.warning("%s: its log could not be written: %s", self.folder, failure)
        finally:
            self._finish(status)

    def _log_checkpoint(self) -> None:
        if self._checkpoint:
            place = local_run.checkpoints(self.folder) % 2
            self._write("checkpoint", {"file": self._checkpoint.name, "place": place})
            self._checkpoint, self._checkpoint_logged = None, time.monotonic()

    def _log_artifact(self, path: str, sha256: str) -> None:
        self._write("artifact", {"path": path, "sha256": sha256})

    def _write(self, kind: str, content: dict[str, Any], safe: bool = False) -> None:
        self._journal.append(kind, content, safe)
        self._live.written()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _dataset(name: str, source: str, context: str, split: Split) -> dict[str, str]:
    """As MLflow's Dataset takes it."""
    sha256 = split.sha256
    size = {"images": len(split), "shape": list(split.images.shape), "dtype": str(split.images.dtype)}
    return {
        "name": f"{name}-{context}",
        "digest": sha256[:32],  # the column holds 36 characters
        **_source(source),
        "profile": json.dumps({"sha256": sha256, **size}),
    }


def _source(source: str) -> dict[str, str]:
    """In the form in which MLflow reads each of its own kinds back."""
    if source.startswith("https://"):
        return {"source_type": "http", "source": json.dumps({"url": source})}
    if source.startswith("/"):
        return {"source_type": "local", "source": json.dumps({"uri": source})}
    return {"source_type": "code", "source": json.dumps({"tags": {"mlflow.source.name": source}})}
