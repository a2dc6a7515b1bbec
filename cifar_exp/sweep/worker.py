"""Actors in Ray's processes: workers run jobs, and the board passes on their output and requests to stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from cifar_exp.errors import UserError, described
from cifar_exp.sweep.job import Ask
from cifar_exp.sweep.result import JobResult
from cifar_exp.sweep.source import Judge

_GB = 10**9
_ANSWERS_WITHIN = 2.0  # seconds; the board answers in a few milliseconds
_INTERVAL = 0.1  # seconds between two checks of the memory


class Board:
    """Actor through which workers send events (output, reasons of their end) and receive the request to stop.

    Args:
        judge: decides which trials of a search pause; None: no job does. It decides here, where it answers at once, and
            not in the driver, which may be choosing the next trial.
    """

    def __init__(self, judge: Judge | None = None) -> None:
        self._judge = judge
        self._events: list[tuple[Any, ...]] = []
        self._new, self._stop = asyncio.Event(), asyncio.Event()

    async def tell(self, *event: Any) -> None:
        """Add an event."""
        self._events.append(event)
        self._new.set()

    async def read(self) -> list[tuple[Any, ...]]:
        """Wait for events and return all since the last call."""
        await self._new.wait()
        self._new.clear()
        events, self._events = self._events, []
        return events

    async def pauses(self, number: int, trial: int, history: list[float]) -> bool:
        """Take the objective of a trial after each epoch so far; whether it pauses here."""
        assert self._judge is not None
        await self.tell("reported", number, history)
        return self._judge.report(trial, history)

    async def stop(self) -> None:
        """Request all workers to stop their jobs."""
        self._stop.set()

    async def stopped(self) -> None:
        """Wait for the request to stop."""
        await self._stop.wait()


class Images(NamedTuple):
    """The files of an official data set in Ray's object store."""

    digest: str
    files: Any
    """Ray's reference to a mapping from file name to content."""


@dataclass(frozen=True)
class Place:
    """Arguments of all workers of a sweep."""

    folder: str
    """Folder in which the sweep was started; paths are relative to it."""
    threads: int
    """Number of threads of a job."""
    memory: float | None
    """GB that the process of a worker may use; None: no limit."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set."""
    images: Mapping[tuple[str, str], Images] = field(default_factory=dict)
    """Name and folder of an official data set -> its files, for machines without this folder."""


@dataclass(frozen=True)
class Ended:
    """Outcome of a job that has ended."""

    result: JobResult | None
    """None if the job was stopped before it began."""
    memory: float
    """GB that the process of the worker uses after the job."""


class Worker:
    """Actor that runs one job after another, so that its process imports TensorFlow only once.

    Args:
        name: of the worker.
        board: handle of the `Board` actor.
        place: arguments of all workers.
    """

    def __init__(self, name: str, board: Any, place: Place) -> None:
        from cifar_exp import console, exits
        from cifar_exp.training.threads import use_threads

        exits.ignore_group_signals()  # the driver receives them as well and asks the workers to stop
        os.environ.update(place.environment)
        use_threads(place.threads)
        Path(place.folder).mkdir(parents=True, exist_ok=True)
        os.chdir(place.folder)
        self._name, self._board, self._place = name, board, place
        self._busy = self._stop_asked = False
        self._turn = threading.Lock()  # so that a request to stop is either seen by a job that begins or sent to it
        console.forward(self._tell)
        threading.Thread(target=self._obey, name="board", daemon=True).start()
        if place.memory is not None:
            threading.Thread(target=self._watch, args=(place.memory,), name="memory", daemon=True).start()

    def ready(self) -> None:
        """Return after the worker has started."""

    def run(self, composed: Any, folder: str) -> Ended:
        """Run a job.

        Args:
            composed: config of the job with Hydra's part, a DictConfig.
            folder: folder of the job.

        Returns:
            The result of the job and the memory that this process still uses.
        """
        from hydra import version
        from hydra._internal.callbacks import Callbacks
        from hydra.core.utils import JobStatus, run_job, setup_globals
        from hydra.types import HydraContext

        from cifar_exp import exits

        version.setbase("1.3")
        setup_globals()
        began, before = time.monotonic(), signal.getsignal(signal.SIGTERM)
        try:
            exits.take_signals()
            with self._turn:
                self._busy = True
                if self._stop_asked:
                    raise KeyboardInterrupt
            _bring_images(composed.data, self._place.images)
            ended = run_job(
                task_function=partial(_run, self._place.threads, self._ask),
                config=composed,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=HydraContext(config_loader=None, callbacks=Callbacks(composed)),
            )
            if ended.status == JobStatus.FAILED:  # not in the training; a result in the folder may be an older one
                reason = described(ended._return_value)
                return Ended(JobResult("", "FAILED", time.monotonic() - began, error=reason), _memory())
        except KeyboardInterrupt:
            pass
        finally:
            self._busy = False
            signal.signal(signal.SIGTERM, before)
            self._tell("ended", self._name)  # the last event of the job
        return Ended(JobResult.read(Path(folder)), _memory())

    def _tell(self, *event: Any) -> None:
        with suppress(Exception):  # the board may have ended
            self._board.tell.remote(*event)

    def _ask(self, number: int, trial: int, history: list[float]) -> bool:
        """Ask the board whether a trial pauses. Without an answer it goes on."""
        import ray

        with suppress(Exception):  # the board may have ended
            return bool(ray.get(self._board.pauses.remote(number, trial, history), timeout=_ANSWERS_WITHIN))
        return False

    def _obey(self) -> None:
        """Wait for the request to stop, then send SIGTERM to the main thread if a job is running; no other begins."""
        import ray

        with suppress(Exception):  # the board has ended, and Ray ends this process too
            ray.get(self._board.stopped.remote())
            with self._turn:
                self._stop_asked = True
                if self._busy:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _watch(self, gigabytes: float) -> None:
        """Kill this process when it uses more than its share of the memory."""
        while _memory() <= gigabytes:
            time.sleep(_INTERVAL)
        self._tell("died", self._name, f"it took more memory than hydra.launcher.memory_per_job={gigabytes:g} GB")
        time.sleep(_INTERVAL)  # until the event is sent
        os.kill(os.getpid(), signal.SIGKILL)


def _memory() -> float:
    """GB of memory that this process uses."""
    import psutil

    return float(psutil.Process().memory_info().rss / _GB)


def _run(threads: int, ask: Ask, composed: Any) -> None:
    from cifar_exp.config.checks import from_composed
    from cifar_exp.sweep import job
    from cifar_exp.training.threads import share_cores

    share_cores([from_composed(composed)], threads)
    job.run(composed, in_order=False, ask=ask)


def _bring_images(data: Any, images: Mapping[tuple[str, str], Images]) -> None:
    """Write the images that the driver sent to a local folder if this machine lacks the folder that a job uses."""
    from cifar_exp.data.catalog import OFFICIAL
    from cifar_exp.data.official import data_folder

    folder = data.dir or str(data_folder(None))
    if (data.name, folder) not in images or OFFICIAL[data.name].release().is_available(folder):
        return
    import ray

    digest, files = images[data.name, folder]
    local = Path(tempfile.gettempdir()) / f"cifar_exp-{os.getuid()}-{digest}"  # kept for later sweeps
    if not local.exists():
        _write_images(local, OFFICIAL[data.name].release().folder, ray.get(files))
    if local.lstat().st_uid != os.getuid():  # anybody can make a folder of this name there, with other images
        raise UserError(f"{local}: it belongs to another user; remove it, or set TMPDIR")
    data.dir = str(local)


def _write_images(root: Path, folder: str, content: Mapping[str, bytes]) -> None:
    """Write the files atomically, in the layout in which the release finds them."""
    part = root.with_name(f"{root.name}.{uuid4().hex}.part")
    (part / folder).mkdir(parents=True)
    for name, file_content in content.items():
        (part / folder / name).write_bytes(file_content)
    try:
        part.rename(root)
    except OSError:  # another worker was first
        shutil.rmtree(part)
