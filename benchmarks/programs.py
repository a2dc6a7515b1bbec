"""Processes that the benchmark of the data starts and watches."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
_LOOK_SECONDS = 0.05
_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Took(NamedTuple):
    """Seconds that something took, and those of the processor in this process and its children."""

    seconds: float
    processor: float


@dataclass
class Ran:
    """What a process has printed and used.

    Attributes:
        stdout: its standard output.
        seconds: until its end, or until the line that was waited for.
        processor: seconds of the processor until then.
        anonymous: peak of its memory of its own, in bytes.
        mapped: peak of what it has in memory of files, in bytes.
        resident: peak of both together, as the kernel counts it, in bytes.
    """

    stdout: str = ""
    seconds: float = 0.0
    processor: float = 0.0
    anonymous: int = 0
    mapped: int = 0
    resident: int = 0

    @property
    def images_per_second(self) -> int:
        """Of the last epoch."""
        return int(re.findall(r"([\d,]+) images/s", self.stdout)[-1].replace(",", ""))


class Program:
    """`python -m cifar_exp` in a folder, with a store and a cache there."""

    def __init__(self, folder: Path) -> None:
        """Start it in this folder."""
        self.folder = folder

    def environment(self, cache: str = "cache") -> dict[str, str]:
        """Of its processes; a package in the folder `arrays` is installed."""
        paths = [str(HERE.parent), str(HERE), str(self.folder / "arrays")]
        own = {"CIFAR_EXP_CACHE": str(self.folder / cache), "PYTHONPATH": os.pathsep.join(paths)}
        return os.environ | own | {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}

    def start(self, *arguments: str, cache: str = "cache") -> subprocess.Popen[str]:
        """Start a run or a sweep."""
        command = [sys.executable, "-m", "cifar_exp", *arguments]
        pipe = subprocess.PIPE
        environment = self.environment(cache)
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str, until: str = "") -> Ran:
        """Run to the end; seconds are those until a line with this text."""
        began, ran = time.perf_counter(), Ran()
        process = self.start(*arguments)
        watching = threading.Thread(target=_watch, args=(process, ran))
        watching.start()
        assert process.stdout is not None
        for line in process.stdout:
            ran.stdout += line
            if until and until in line and not ran.seconds:
                ran.seconds, ran.processor = time.perf_counter() - began, _processor_seconds(process.pid)
        _, stderr = process.communicate()
        watching.join()
        if process.returncode or stderr:
            sys.exit(f"{arguments} failed:\n{ran.stdout}{stderr}")
        ran.seconds = ran.seconds or time.perf_counter() - began
        return ran

    def fill(self, photos: str, cache: str = "cache") -> Took:
        """Fill the cache from a folder of images; what this takes once the folder is listed."""
        return Took(*json.loads(self._measure("_fill", photos, cache=cache)))

    def epoch_ratios(self, photos: str, rounds: int, *model: str) -> list[float]:
        """Speed of epochs from the cache / in memory, in turn in one process."""
        ratios: list[float] = json.loads(self._measure("_epochs", photos, str(rounds), *model))
        return ratios

    def killed_while_filling(self, *arguments: str) -> int:
        """Kill a run while it fills the cache; images that it had noted as decoded."""
        process = self.start(*arguments)
        while not (noted := [file for file in self.folder.glob("cache/*/blocks.jsonl") if file.stat().st_size]):
            if process.poll() is not None:
                sys.exit(f"it ended before it was killed: {process.communicate()}")
            time.sleep(_LOOK_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return 64 * len(noted[0].read_text().splitlines())

    def _measure(self, name: str, *arguments: str, cache: str = "cache") -> str:
        """The last line that a function of this module prints in a process of its own."""
        command = [sys.executable, __file__, name, *arguments]
        environment = self.environment(cache)
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr}")
        return done.stdout.splitlines()[-1]


def pillow(photos: Path) -> Took:
    """What it takes that a pool of processes, one for each core, decodes all images with Pillow and drops them."""
    files = sorted(photos.rglob("*.*"))
    began = _clock()
    with Pool() as pool:
        for _ in pool.imap_unordered(_decode, files, chunksize=64):
            pass
    return _since(began)


def _decode(file: Path) -> int:
    from PIL import Image

    return int(np.asarray(Image.open(file).convert("RGB"))[0, 0, 0])


def _clock() -> Took:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)


def _since(began: Took) -> Took:
    now = _clock()
    return Took(now.seconds - began.seconds, now.processor - began.processor)


def _watch(process: subprocess.Popen[str], ran: Ran) -> None:
    """Look at the memory of a process until it ends."""
    while process.poll() is None:
        try:
            status = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.M))
        except OSError:
            break
        if "RssAnon" in status:
            ran.anonymous = max(ran.anonymous, 1024 * int(status["RssAnon"]))
            ran.mapped = max(ran.mapped, 1024 * (int(status["RssFile"]) + int(status["RssShmem"])))
            ran.resident = max(ran.resident, 1024 * int(status["VmHWM"]))
        time.sleep(_LOOK_SECONDS)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _PER_SECOND


def _fill(photos: str) -> None:
    from cifar_exp.data import datasets, filling
    from cifar_exp.data.schema import DataConfig

    entry, took = filling.entry, []

    def timed(*arguments: object) -> object:
        began = _clock()
        filled = entry(*arguments)  # type: ignore[arg-type]
        took.append(_since(began))
        return filled

    vars(filling)["entry"] = timed
    datasets.load(DataConfig("folder", dir=photos))
    print(json.dumps(took[0]))


def _epochs(photos: str, rounds: str, *model: str) -> None:
    from cifar_exp.config import composition
    from cifar_exp.data import datasets
    from cifar_exp.data.splits import Split
    from cifar_exp.training import runtime

    config = composition.plan(["data=folder", f"data.dir={photos}", *model], multirun=False).jobs[0]
    splits = datasets.load(config.data)
    stored = splits.training
    in_memory = Split(np.asarray(stored.images), stored.labels)
    runtime.prepare(config.training, config.seed)
    from cifar_exp.training import feeding, fit, models, objective

    model, _ = models.build(config.model, config.data.image_shape)
    trained, fed = fit.compile_model(model, config, len(stored), objective.loss(config, splits))

    def seconds(images: Split, epoch: int) -> float:
        began = time.perf_counter()
        shuffled = images.take(np.random.default_rng(epoch).permutation(len(images)))
        trained.fit(**feeding.batches(fed, shuffled.images, shuffled.labels), shuffle=False, verbose=0)
        return time.perf_counter() - began

    for images in (stored, in_memory):
        seconds(images, 0)
    ratios = []
    for epoch in range(1, int(rounds) + 1):
        order = (stored, in_memory) if epoch % 2 else (in_memory, stored)
        taken = {id(images): seconds(images, epoch) for images in order}
        ratios.append(taken[id(in_memory)] / taken[id(stored)])
    print(json.dumps(ratios))


if __name__ == "__main__":
    if sys.argv[1] == "_fill":
        _fill(sys.argv[2])
    else:
        _epochs(*sys.argv[2:])
