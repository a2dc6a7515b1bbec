"""The interface through which training code logs a run.

Everything is first written to the folder of the run: events to its journal, files under the names that they get in
MLflow. Both are sent from there in the background.
"""

from __future__ import annotations

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
from cifar_exp.data.splits import Split
from cifar_exp.errors import Diverged, Pruned
from cifar_exp.tracking import dataset, heartbeat, local_run, run_tags
from cifar_exp.tracking.delivery import ARTIFACTS, MODEL
from cifar_exp.tracking.journal import FILE, Journal
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.system import SystemMetrics
from cifar_exp.tracking.uploader import Uploader

log = logging.getLogger(__name__)


class Run:
    """A run that is being logged; created by `start` or `resume`.

    As a context manager it sets the final status: FINISHED, also if a search has pruned the run; FAILED after another
    exception (the traceback becomes an artifact), or KILLED after Ctrl-C and the other signals in `exits`.
    """

    def __init__(self, store: Store, folder: Path, drain_seconds: float, checkpoint_seconds: float | None) -> None:
        sent = Progress.read(folder)
        is_same_store = sent.uri in (None, store.absolute_uri)  # experiment ids of another store differ
        self.store = store = store.with_experiment_id(sent.experiment_id) if is_same_store else store
        self.folder = folder
        self._journal = Journal(folder)
        self._replayer = Replayer(folder, store)
        self._uploader = Uploader(self._replayer)
        self._drain_seconds = drain_seconds
        self._checkpoint_seconds = checkpoint_seconds
        self._checkpoint: Path | None = None  # the latest one, if it is not logged yet
        self._checkpoint_logged = time.monotonic()
        self._system_metrics: SystemMetrics | None = None
        logged = local_run.metrics(folder).items() if (folder / FILE).exists() else ()
        self._logged_steps = {(name, step) for name, steps in logged for step in steps}
        self.resumed = 0
        """Number of times that the run was resumed."""

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
        """Start a new run.

        Args:
            store: receives the run.
            folder: for the journal and the logged files.
            name: of the run, as MLflow's UI lists it.
            tags: initial tags, by which the run can be found from the beginning.
            params: parameters of the run.
            sweep: name of the sweep that the run is a job of, if any.
            system_metrics: whether to log CPU, memory, disk, network and GPU metrics until the run ends.
            drain_seconds: at the end, how long to wait for a store that accepts nothing.
            checkpoint_seconds: minimum time between two logged checkpoints; None: no checkpoint is logged.
        """
        run = cls(store, folder, drain_seconds, checkpoint_seconds)
        content = {
            "key": uuid4().hex,
            "uri": store.absolute_uri,
            "experiment": store.experiment,
            "name": name,
            "tags": {**tags, **heartbeat.process_tags()},
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
        """Resume the run that was started in this folder.

        A metric that was already logged for a step is not logged again. For the arguments see `start`.
        """
        run = cls(store, folder, drain_seconds, checkpoint_seconds)
        run.resumed = local_run.count_resumes(folder) + 1
        with run._ended_if_stopped():
            run._write("resume", {**tags, **heartbeat.process_tags()}, safe=True)
            if system_metrics:
                steps = [step for name, step in run._logged_steps if name.startswith("system/")]
                run._system_metrics = SystemMetrics(run.log_metrics, max(steps, default=-1) + 1)
        return run

    @property
    def id(self) -> str | None:
        """Id of the run in MLflow; None until it is created there."""
        return self._replayer.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at a step, except those that were logged for this step before the run was interrupted."""
        new = {name: value for name, value in metrics.items() if (name, step) not in self._logged_steps}
        if new:
            self._write("metrics", {"step": step, "values": new})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or overwrite tags."""
        self._write("tags", dict(tags))

    def write(self, name: str, content: str | bytes) -> None:
        """Write an artifact to the folder of the run atomically; `upload` logs it.

        Args:
            name: path of the artifact.
            content: text (written as UTF-8) or bytes.
        """
        path = self.folder / ARTIFACTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{uuid4().hex}.part"
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)  # atomic: a killed process leaves no partial file

    def upload(self, *groups: str) -> None:
        """Log all artifacts in these folders (`"config"`, `"figures"`, ...)."""
        root = self.folder / ARTIFACTS
        for group in groups:
            for path in _files(root / group):
                self._log_artifact(path.relative_to(root).as_posix(), local_run.sha256_of(path))

    def log_datasets(self, name: str, source: str, splits: Mapping[str, Split]) -> None:
        """Log the data sets of the run.

        Args:
            name: of the data set.
            source: where it comes from: an address, a path or the name of code.
            splits: context (`"training"`, `"validation"`, `"test"`) -> images, which are identified by their SHA-256.
        """
        self._write(
            "datasets", {context: dataset.entity(name, source, context, split) for context, split in splits.items()}
        )

    def log_same_datasets(self, datasets: Mapping[str, Mapping[str, str]]) -> None:
        """Log data sets that other runs have logged.

        Args:
            datasets: context -> arguments of MLflow's `Dataset` entity: name, digest, source_type, source, profile.
        """
        self._write("datasets", {context: dict(logged) for context, logged in datasets.items()})

    def log_model(self, params: Mapping[str, str], kind: str = "keras") -> None:
        """Log the MLflow model in the folder `model` of the run.

        Args:
            params: parameters of the logged model.
            kind: of model, as MLflow shows it.
        """
        root = self.folder / MODEL
        files = {path.relative_to(root).as_posix(): local_run.sha256_of(path) for path in _files(root)}
        self._write("model", {"params": dict(params), "files": files, "kind": kind})

    def offer_checkpoint(self, file: Path) -> None:
        """Log a checkpoint if the last one was logged long enough ago; otherwise only if the run is interrupted.

        Args:
            file: a file in the folder `checkpoints` of the run.
        """
        self._checkpoint = file
        if (seconds := self._checkpoint_seconds) is not None and time.monotonic() - self._checkpoint_logged >= seconds:
            self._log_checkpoint()

    def wait_until_started(self) -> bool:
        """Wait until the run is created in MLflow or the store turns out to be away.

        Returns:
            Whether the run is created.
        """
        return self._uploader.wait_for_start()

    def wait(self, seconds: float) -> bool:
        """Wait until all events are sent.

        Args:
            seconds: stop waiting if nothing was sent for so long.

        Returns:
            Whether all events are sent.
        """
        return self._uploader.drain(seconds)

    def finish(self, status: str) -> None:
        """End the run. Events that cannot be sent now stay in the journal for `cifar-exp sync`.

        Args:
            status: FINISHED, FAILED or KILLED.
        """
        with exits.delay_signals():
            self._finish(status)

    def _finish(self, status: str) -> None:
        if self._system_metrics is not None:
            self._system_metrics.finish()
        self._write("finish", {"status": status}, safe=True)
        try:
            if not self.wait(self._drain_seconds):
                log.warning(
                    "%s does not take what was logged (%s): %d events wait in %s; cifar-exp sync %s sends them",
                    *(self.store.uri, self._uploader.away or "it is slow", self._replayer.waiting()),
                    *(self.folder, self.folder),
                )
            for line, refusal in self._replayer.problems().items():
                log.warning("%s: line %s was not taken: %s", self.folder, line, refusal)
        finally:
            self._uploader.stop()
            self._journal.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with exits.delay_signals():
            self._end(error)

    @contextmanager
    def _ended_if_stopped(self) -> Iterator[None]:
        """Delay signals while the run starts; if one came, end the run at once."""
        try:
            with exits.delay_signals():
                yield
        except KeyboardInterrupt as stop:
            self.__exit__(KeyboardInterrupt, stop, stop.__traceback__)
            raise

    def _end(self, error: BaseException | None) -> None:
        status, outcome = "FINISHED", None
        if isinstance(error, Exception) and exits.received():  # other code replaced the KeyboardInterrupt by it
            status, outcome = "KILLED", run_tags.INTERRUPTED
        elif isinstance(error, Pruned):
            outcome = run_tags.PRUNED
        elif isinstance(error, Exception):
            status, outcome = "FAILED", run_tags.DIVERGED if isinstance(error, Diverged) else run_tags.FAILED
        elif error is not None:
            status, outcome = "KILLED", run_tags.INTERRUPTED
        try:
            if isinstance(error, OSError):
                self._journal.release_reserve()  # the disk may be full
            if outcome:
                self.set_tags({run_tags.OUTCOME: outcome})
            if outcome is None and local_run.count_checkpoints(self.folder):
                self._write("checkpoint", {"file": None})
            elif (
                outcome in (run_tags.FAILED, run_tags.INTERRUPTED, run_tags.PRUNED)
                and self._checkpoint
                and self._checkpoint_seconds is not None
            ):
                self._log_checkpoint()
            if isinstance(error, Exception) and outcome != run_tags.PRUNED:
                self.write("logs/traceback.txt", "".join(traceback.format_exception(error)))
            self.upload("logs")
            if error is not None:
                for path, sha256 in local_run.rewritten_artifacts(self.folder).items():
                    self._log_artifact(path, sha256)
        except Exception as failure:
            if error is None:
                raise
            log.warning("%s: its log could not be written: %s", self.folder, failure)
        finally:
            self._finish(status)

    def _log_checkpoint(self) -> None:
        if self._checkpoint:
            place = local_run.count_checkpoints(self.folder) % 2
            self._write("checkpoint", {"file": self._checkpoint.name, "place": place})
            self._checkpoint, self._checkpoint_logged = None, time.monotonic()

    def _log_artifact(self, path: str, sha256: str) -> None:
        self._write("artifact", {"path": path, "sha256": sha256})

    def _write(self, kind: str, content: dict[str, Any], safe: bool = False) -> None:
        self._journal.append(kind, content, safe)
        self._uploader.notify()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
