"""What Ray's processes run: a worker one job after another, the board what all of them have to say."""

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

from cifar_exp.sweep.job import JobResult

_GB = 10**9
_LOOK = 0.1  # seconds between two looks at the memory


class Board:
    """Where workers tell what they show and what ends them, and learn that they are to stop."""

    def __init__(self) -> None:
        self._told: list[tuple[Any, ...]] = []
        self._new, self._stop = asyncio.Event(), asyncio.Event()

    async def tell(self, *event: Any) -> None:
        """Leave something for whoever reads."""
        self._told.append(event)
        self._new.set()

    async def read(self) -> list[tuple[Any, ...]]:
        """What was told since, once there is something."""
        await self._new.wait()
        self._new.clear()
        told, self._told = self._told, []
        return told

    async def stop(self) -> None:
        """Have every worker stop its job."""
        self._stop.set()

    async def stopped(self) -> None:
        """Answers once they are to."""
        await self._stop.wait()


class Images(NamedTuple):
    """The files of an official data set in Ray's object store."""

    digest: str
    files: Any
    """Reference to name -> content."""


@dataclass(frozen=True)
class Place:
    """What a worker is made for and with, wherever it is started."""

    folder: str
    """That the sweep was started in, and what paths are relative to."""
    threads: int
    memory: float | None
    """GB that its process may hold; None: as much as there is."""
    environment: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[tuple[str, str], Images] = field(default_factory=dict)
    """Data set and its folder -> what a machine gets that has no such folder."""


@dataclass(frozen=True)
class Ended:
    """A job, for whatever reason."""

    result: JobResult | None
    """None if it was stopped before it had begun."""
    memory: float
    """GB that its worker holds after it."""


class Worker:
    """A process that runs one job after another, so that it imports TensorFlow once."""

    def __init__(self, name: str, board: Any, place: Place) -> None:
        from cifar_exp import console, exits
        from cifar_exp.training import runtime

        exits.leave_to_parent()  # the driver gets it too, and tells the board
        os.environ.update(place.environment)
        runtime.use_threads(place.threads)
        Path(place.folder).mkdir(parents=True, exist_ok=True)
        os.chdir(place.folder)
        self._name, self._board, self._place = name, board, place
        self._busy = False
        console.show_elsewhere(self._tell)
        threading.Thread(target=self._obey, name="board", daemon=True).start()
        if place.memory is not None:
            threading.Thread(target=self._watch, args=(place.memory,), name="memory", daemon=True).start()

    def ready(self) -> None:
        """Answers once it is there."""

    def run(self, composed: Any, folder: str) -> Ended:
        """Run a job to its end.

        Args:
            composed: its config with Hydra's part, a DictConfig.
            folder: its own.

        Returns:
            What it left there, and how much memory this process keeps.
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
            self._busy = True
            _bring_images(composed.data, self._place.images)
            ended = run_job(
                task_function=partial(_run, self._place.threads),
                config=composed,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=HydraContext(config_loader=None, callbacks=Callbacks(composed)),
            )
            if ended.status == JobStatus.FAILED:  # beside the training: what it left may be of another time
                reason = " ".join(f"{type(ended._return_value).__name__}: {ended._return_value}".split())
                return Ended(JobResult("", "FAILED", time.monotonic() - began, error=reason), _memory())
        except KeyboardInterrupt:
            pass
        finally:
            self._busy = False
            signal.signal(signal.SIGTERM, before)
            self._tell("ended", self._name)  # after all that the job had to say
        return Ended(JobResult.read(Path(folder)), _memory())

    def _tell(self, *event: Any) -> None:
        with suppress(Exception):  # nobody listens any more
            self._board.tell.remote(*event)

    def _obey(self) -> None:
        """Stop the job once the board says so, as SIGTERM would."""
        import ray

        with suppress(Exception):  # the board is gone, and Ray ends what is left
            ray.get(self._board.stopped.remote())
            if self._busy:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _watch(self, gigabytes: float) -> None:
        """End this process before it takes what belongs to others."""
        while _memory() <= gigabytes:
            time.sleep(_LOOK)
        self._tell("died", self._name, f"it took more memory than hydra.launcher.memory_per_job={gigabytes:g} GB")
        time.sleep(_LOOK)  # until that is sent
        os.kill(os.getpid(), signal.SIGKILL)


def _memory() -> float:
    """GB that this process holds."""
    import psutil

    return float(psutil.Process().memory_info().rss / _GB)


def _run(threads: int, composed: Any) -> None:
    from cifar_exp.config.checks import from_composed
    from cifar_exp.sweep import job
    from cifar_exp.training import runtime

    runtime.share_cores([from_composed(composed)], threads)
    job.run(composed, in_order=False)


def _bring_images(data: Any, images: Mapping[tuple[str, str], Images]) -> None:
    """Where this machine lacks the folder of a job's images, write down those that the driver sent along."""
    from cifar_exp.data.catalog import OFFICIAL
    from cifar_exp.data.official import data_folder

    folder = data.dir or str(data_folder(None))
    if (data.name, folder) not in images or OFFICIAL[data.name].release().is_available(folder):
        return
    import ray

    digest, files = images[data.name, folder]
    here = Path(tempfile.gettempdir()) / f"cifar_exp-{os.getuid()}-{digest}"  # for the next sweep too
    if not here.exists():
        _write_images(here, OFFICIAL[data.name].release().folder, ray.get(files))
    data.dir = str(here)


def _write_images(root: Path, folder: str, content: Mapping[str, bytes]) -> None:
    """As the release finds them, whole or not at all."""
    part = root.with_name(f"{root.name}.{uuid4().hex}.part")
    (part / folder).mkdir(parents=True)
    for name, written in content.items():
        (part / folder / name).write_bytes(written)
    try:
        part.rename(root)
    except OSError:  # another worker was first
        shutil.rmtree(part)
