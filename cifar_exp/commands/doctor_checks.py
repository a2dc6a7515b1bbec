"""Checks of cifar-exp doctor: one finding for each part that a run needs, with advice if something is wrong."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

import cifar_exp
from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.data.catalog import OFFICIAL
from cifar_exp.data.official import Release, data_folder
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError, counted, reason
from cifar_exp.experiment import requirements
from cifar_exp.sweep import leftovers
from cifar_exp.tracking import server, sync
from cifar_exp.tracking.store import Store
from cifar_exp.training import runtime

OK, NOTE, PROBLEM = "ok", "note", "problem"

OUTPUTS = Path("outputs")

_PACKAGES = ("keras", "hydra-core", "mlflow")
# Timeouts in seconds.
_DEVICE_TIMEOUT = 120  # Keras is imported
_DOCKER_TIMEOUT = 10
_DOWNLOAD_TIMEOUT = 5
_SPACE = 1 << 30  # bytes, for the checkpoints, figures and models of a sweep
_GIB = 1 << 30
# Two lines: the device, and why a GPU is not used.
_DEVICE = "from cifar_exp.training import runtime as r; print(r.device()); print(r.unused_gpu('auto') or '')"


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        about: what was checked.
        state: `OK`, `NOTE` (a run could start nevertheless) or `PROBLEM` (a run could not start).
        said: what was found, in one line.
        todo: what to do about it; may be empty.
    """

    about: str
    state: str
    said: str
    todo: str = ""


def findings(config: Config, gpu: bool = True, clean: bool = False) -> Iterator[Finding]:
    """Check everything that a run needs, the quick checks first.

    Args:
        config: of the run.
        gpu: whether to ask Keras for a GPU, which takes as long as importing Keras.
        clean: whether to remove what killed sweeps have left.
    """
    device = _start_device_query() if gpu else None  # a process that runs during the other checks
    store = Store.of(config.tracking)
    try:
        is_sound = True
        looks: tuple[Callable[[], Finding], ...] = (
            *(versions, backend, partial(data, config), partial(space, config), docker, stack),
            *(journals, partial(killed, clean), partial(tracking, store)),
        )
        for look in looks:
            finding = look()
            is_sound = is_sound and finding.state != PROBLEM
            yield finding
        if is_sound:  # else it would say the same
            yield settings(config)
        if device:
            yield compute(config, device)
    finally:
        if device and device.poll() is None:
            device.kill()


def versions() -> Finding:
    """Check that the most important packages are installed, and list their versions."""
    found = [f"cifar_exp {cifar_exp.__version__}", f"Python {sys.version.split()[0]}"]
    missing = [name for name in _PACKAGES if _version(name) is None]
    found += [f"{name} {_version(name)}" for name in _PACKAGES if name not in missing]
    if missing:
        return Finding("versions", PROBLEM, f"{', '.join(missing)} not installed", "pip install cifar-exp")
    return Finding("versions", OK, ", ".join(found))


def backend() -> Finding:
    """Check the backend of Keras."""
    try:
        runtime.check_backend()
    except UserError as error:
        said, _, todo = str(error).partition("; ")
        return Finding("backend", PROBLEM, said, todo)
    name = runtime.backend_name()
    return Finding("backend", OK, f"{name} {_version(name)}")


def data(config: Config) -> Finding:
    """Check that the images are available, complete and those of the official release."""
    if config.data.name == "digits":
        return Finding("data", OK, "digits, which come with scikit-learn")
    if config.data.name not in OFFICIAL:
        return Finding("data", OK, f"{config.data.name}, which a run checks when it starts")
    try:
        with datasets.readable(config.data.name):
            return _release(OFFICIAL[config.data.name].release(), config.data)
    except UserError as error:
        return Finding("data", PROBLEM, str(error))


def _release(release: Release, config: DataConfig) -> Finding:
    title, where, folder = release.title, data_folder(config.dir), config.dir
    if not release.is_available(folder):
        if problem := _unreachable(release.url):
            todo = f"put {release.url} there, or name its folder with CIFAR_EXP_DATA; data=digits needs none"
            return Finding("data", PROBLEM, f"{title} is not in {where} and cannot be downloaded ({problem})", todo)
        return Finding("data", NOTE, f"{title} is not in {where} yet: the first run downloads it ({release.size})")
    found = release.find(folder, config.verify)
    official = found.source == release.url
    said = "whole, its MD5 is the official release's" if official else "whole, but not verified as the official release"
    return Finding("data", OK if official else NOTE, f"{title} in {found.folder}: {said}")


def space(config: Config) -> Finding:
    """Check the free space on the disks of outputs/ and of an SQLite store."""
    store = Store.of(config.tracking)
    folders = {"outputs": _existing(OUTPUTS), "the store": _existing(store.file) if store.file else None}
    free_spaces, problems = [], []
    for what, folder in folders.items():
        if folder is None:
            continue
        free = shutil.disk_usage(folder).free
        free_spaces.append(f"{free / _GIB:,.1f} GiB free for {what}")
        if free < _SPACE:
            problems.append(f"{what} needs {_SPACE / _GIB:.0f} GiB on the disk of {folder.resolve()}")
        if not os.access(folder, os.W_OK):
            problems.append(f"{folder.resolve()} cannot be written to")
    if problems:
        return Finding("disk", PROBLEM, ", ".join(free_spaces), "; ".join(problems))
    return Finding("disk", OK, ", ".join(free_spaces))


def docker() -> Finding:
    """Check whether Docker's engine answers. Only the team's server needs it."""
    if shutil.which("docker") is None:
        return Finding("docker", NOTE, "not installed; only the team's server needs it")
    done = _run(["docker", "version", "--format", "{{.Server.Version}}"])
    if done is None or done.returncode:
        return Finding("docker", NOTE, "no engine answers; only the team's server needs it")
    return Finding("docker", OK, f"engine {done.stdout.strip()}")


def stack() -> Finding:
    """Check whether the team's server runs in the containers of this checkout."""
    root = Path(cifar_exp.__file__).parent.parent
    compose = root / "docker" / "compose"
    if not compose.exists() or not (root / ".env").exists():
        return Finding("stack", OK, "not set up here (make env up starts the team's server)")
    done = _run([str(compose), "ps", "-q", "mlflow"])
    if done is None or done.returncode:
        return Finding("stack", NOTE, "its state is unknown", "docker/compose ps shows the error")
    container = done.stdout.strip()
    shown = _run(["docker", "inspect", "--format", "{{.State.Health.Status}}", container]) if container else None
    if shown is None or shown.returncode:
        return Finding("stack", NOTE, "it is down", "make up")
    health = shown.stdout.strip()
    return Finding("stack", OK if health == "healthy" else NOTE, f"its server is {health}")


def journals() -> Finding:
    """Count the events of runs in outputs/ that have not been sent to a store."""
    folders = sync.find([OUTPUTS]) if OUTPUTS.is_dir() else []
    states = [sync.state_of(folder) for folder in folders]
    live, waiting = sum(state.live for state in states), [state for state in states if not state.is_whole]
    if waiting:
        events = counted(sum(state.waiting for state in waiting), "event")
        said = f"{events} of {counted(len(waiting), 'run')} to be sent"
        return Finding("journals", NOTE, said, "cifar-exp sync sends them")
    said = f"{counted(len(states), 'run')} in {OUTPUTS}, nothing waits"
    return Finding("journals", OK, said + (f"; {live} live" * bool(live)))


def killed(clean: bool = False) -> Finding:
    """Find folders and processes that killed parallel sweeps have left.

    Args:
        clean: whether to remove them.
    """
    found = leftovers.find()
    if not found:
        return Finding("leftovers", OK, "nothing of killed sweeps")
    processes = ", ".join(str(process.pid) for leftover in found for process in leftover.processes)
    names = ", ".join(str(leftover.folder) for leftover in found) + (f", processes {processes}" if processes else "")
    if not clean:
        return Finding("leftovers", NOTE, f"of killed sweeps: {names}", "cifar-exp doctor --clean removes them")
    kept = [str(leftover.folder) for leftover in found if not leftovers.remove(leftover.folder)]
    if kept:
        return Finding("leftovers", NOTE, f"could not be removed: {', '.join(kept)}")
    return Finding("leftovers", OK, f"removed of killed sweeps: {names}")


def tracking(store: Store) -> Finding:
    """Check whether the store accepts runs, and tell the name of the user."""
    if not store.is_server:
        try:
            store.check()
        except UserError as error:
            return Finding("tracking", PROBLEM, str(error))
        if not store.exists():
            return Finding("tracking", OK, f"{store.uri}, made by the first run")
        try:
            with store.connected() as client:
                count = len(client.search_experiments())
        except Exception as error:  # many types, for files of older versions or other programs
            todo = "mlflow db upgrade, if an older MLflow made it; or another one with MLFLOW_TRACKING_URI"
            return Finding("tracking", PROBLEM, f"{store.uri}: {reason(error)}", todo)
        return Finding("tracking", OK, f"{store.uri}, {count} experiments")
    try:
        away = store.check(may_be_away=True)
    except UserError as error:
        return Finding("tracking", PROBLEM, str(error))
    if away:
        todo = "runs write a journal until it is back; cifar-exp sync sends what waits"
        return Finding("tracking", NOTE, f"{store.uri} is away: {away}", todo)
    known = server.current_user(store.uri)
    login = f"logged in as {known}" if known else f"it asks for no login; runs are logged as {store.user}"
    return Finding("tracking", OK, f"{store.uri}: MLflow {server.version(store.uri) or 'of unknown version'}, {login}")


def settings(config: Config) -> Finding:
    """Check whether a run would be refused for its settings: memory, the weights that it starts from, a name."""
    try:
        requirements.check_settings(config)
    except UserError as error:
        return Finding("settings", PROBLEM, str(error))
    return Finding("settings", OK, f"{config.run_name({})} can be trained here")


def compute(config: Config, query: subprocess.Popen[str]) -> Finding:
    """Check the device that Keras computes on.

    Args:
        config: of the run.
        query: process that prints the device.
    """
    try:
        out, err = query.communicate(timeout=_DEVICE_TIMEOUT)
    except subprocess.TimeoutExpired:
        said = f"Keras did not start within {_DEVICE_TIMEOUT} s"
        return Finding("device", PROBLEM, said, "python -c 'import keras'")
    if query.returncode:
        last = next(iter(reversed(err.strip().splitlines())), f"exit code {query.returncode}")
        return Finding("device", PROBLEM, f"Keras cannot be imported: {last}", "pip install cifar-exp")
    device, unused = out.split("\n")[:2]
    if config.training.device == "gpu" and not device.startswith("GPU"):
        return Finding("device", PROBLEM, device, "training.device=gpu needs cifar-exp[gpu], or take auto")
    if unused and config.training.device == "auto":
        return Finding("device", NOTE, device, unused)
    return Finding("device", OK, device)


def _start_device_query() -> subprocess.Popen[str]:
    """Start a process that prints the device of Keras, and why it is no GPU if there is one."""
    return subprocess.Popen([sys.executable, "-c", _DEVICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _unreachable(url: str) -> str | None:
    """Return why an address cannot be downloaded, or None if it can."""
    import requests

    try:
        answer = requests.head(url, timeout=_DOWNLOAD_TIMEOUT, allow_redirects=True)
    except requests.RequestException as error:
        return reason(error)
    return None if answer.status_code == HTTPStatus.OK else f"{answer.status_code} {answer.reason}"


def _existing(path: Path) -> Path:
    """Return a folder, or the nearest of its parents that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run a command; None if it cannot be started or does not end in time."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_DOCKER_TIMEOUT, stdin=subprocess.DEVNULL
        )
    except (subprocess.TimeoutExpired, OSError):
        return None


def _version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
