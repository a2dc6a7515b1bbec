"""Whether a run could start here now, and what stands beside it: a line each, and what to do about what is wrong."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import cifar_exp
from cifar_exp.config.schema import Config
from cifar_exp.data.catalog import OFFICIAL
from cifar_exp.data.official import data_folder
from cifar_exp.errors import UserError, reason
from cifar_exp.sweep import leftovers
from cifar_exp.tracking import server, sync
from cifar_exp.tracking.store import Store
from cifar_exp.training import runtime

OK, NOTE, PROBLEM = "ok", "note", "problem"

OUTPUTS = Path("outputs")

_PACKAGES = ("keras", "hydra-core", "mlflow")
_GPU_WITHIN = 120  # seconds, of a Keras that is imported to be asked
_DOCKER_WITHIN = 10
_DOWNLOAD_WITHIN = 5
_SPACE = 1 << 30  # bytes: a sweep's checkpoints, pictures and models
_GIB = 1 << 30
_DEVICE = "from cifar_exp.training import runtime; print(runtime.device())"


@dataclass(frozen=True)
class Finding:
    """What was found of one thing."""

    about: str
    state: str
    """OK; NOTE: a run could start nevertheless; PROBLEM: it could not."""
    said: str
    todo: str = ""


def findings(config: Config, gpu: bool = True, clean: bool = False) -> Iterator[Finding]:
    """Everything that a run of this config needs, the quick ones first.

    Args:
        config: of the run.
        gpu: whether to ask Keras for one, which takes as long as importing it.
        clean: whether to remove what killed sweeps have left.
    """
    device = _ask_for_device() if gpu else None  # in a process of its own, while the others are looked at
    store = Store.of(config.tracking)
    try:
        yield versions()
        yield backend()
        yield data(config)
        yield space(config)
        yield docker()
        yield stack()
        yield journals()
        yield killed(clean)
        yield tracking(store)
        if device:
            yield compute(config, device)
    finally:
        if device and device.poll() is None:
            device.kill()


def versions() -> Finding:
    """Of Python and the packages that matter; whether they are those that this version was made for."""
    found = [f"cifar_exp {cifar_exp.__version__}", f"Python {sys.version.split()[0]}"]
    missing = [name for name in _PACKAGES if _version(name) is None]
    found += [f"{name} {_version(name)}" for name in _PACKAGES if name not in missing]
    if missing:
        return Finding("versions", PROBLEM, f"{', '.join(missing)} not installed", "pip install cifar-exp")
    return Finding("versions", OK, ", ".join(found))


def backend() -> Finding:
    """What Keras computes on."""
    try:
        runtime.check_backend()
    except UserError as error:
        said, _, todo = str(error).partition("; ")
        return Finding("backend", PROBLEM, said, todo)
    name = runtime.backend_name()
    return Finding("backend", OK, f"{name} {_version(name)}")


def data(config: Config) -> Finding:
    """Whether the images are there, whole, and the official ones."""
    if config.data.name == "digits":
        return Finding("data", OK, "digits, which come with scikit-learn")
    if config.data.name not in OFFICIAL:
        return Finding("data", OK, f"{config.data.name}, which a run looks at when it starts")
    release, folder = OFFICIAL[config.data.name].release(), config.data.dir
    title, where = release.title, data_folder(folder)
    if not release.is_available(folder):
        if problem := _unreachable(release.url):
            todo = f"put {release.url} there, or name its folder with CIFAR_EXP_DATA; data=digits needs none"
            return Finding("data", PROBLEM, f"{title} is not in {where} and cannot be downloaded ({problem})", todo)
        return Finding("data", NOTE, f"{title} is not in {where} yet: the first run downloads it ({release.size})")
    try:
        found = release.find(folder, config.data.verify)
    except UserError as error:
        return Finding("data", PROBLEM, str(error))
    official = found.source == release.url
    said = "whole, its MD5 is the official release's" if official else "whole, but not verified as the official release"
    return Finding("data", OK if official else NOTE, f"{title} in {found.folder}: {said}")


def space(config: Config) -> Finding:
    """On the disks of outputs/ and of an SQLite store."""
    store = Store.of(config.tracking)
    folders = {"outputs": _existing(OUTPUTS), "the store": _existing(store.file) if store.file else None}
    said, problems = [], []
    for what, folder in folders.items():
        if folder is None:
            continue
        free = shutil.disk_usage(folder).free
        said.append(f"{free / _GIB:,.1f} GiB free for {what}")
        if free < _SPACE:
            problems.append(f"{what} needs {_SPACE / _GIB:.0f} GiB on the disk of {folder.resolve()}")
        if not os.access(folder, os.W_OK):
            problems.append(f"{folder.resolve()} cannot be written to")
    if problems:
        return Finding("disk", PROBLEM, ", ".join(said), "; ".join(problems))
    return Finding("disk", OK, ", ".join(said))


def docker() -> Finding:
    """Whether an engine answers; only the team's server needs one."""
    if shutil.which("docker") is None:
        return Finding("docker", NOTE, "not installed; only the team's server needs it")
    done = _run(["docker", "version", "--format", "{{.Server.Version}}"])
    if done is None or done.returncode:
        return Finding("docker", NOTE, "no engine answers; only the team's server needs it")
    return Finding("docker", OK, f"engine {done.stdout.strip()}")


def stack() -> Finding:
    """Whether the team's server runs in this checkout's containers."""
    root = Path(cifar_exp.__file__).parent.parent
    compose = root / "docker" / "compose"
    if not compose.exists() or not (root / ".env").exists():
        return Finding("stack", OK, "not set up here (make env up starts the team's server)")
    done = _run([str(compose), "ps", "-q", "mlflow"])
    if done is None or done.returncode:
        return Finding("stack", NOTE, "cannot be asked", "docker/compose ps says more")
    container = done.stdout.strip()
    shown = _run(["docker", "inspect", "--format", "{{.State.Health.Status}}", container]) if container else None
    if shown is None or shown.returncode:
        return Finding("stack", NOTE, "it is down", "make up")
    health = shown.stdout.strip()
    return Finding("stack", OK if health == "healthy" else NOTE, f"its server is {health}")


def journals() -> Finding:
    """What runs have logged and no store has taken."""
    found = sync.find([OUTPUTS]) if OUTPUTS.is_dir() else []
    states = [sync.state_of(folder) for folder in found]
    live, waiting = sum(one.live for one in states), [one for one in states if not one.is_whole]
    if waiting:
        events = sum(one.waiting for one in waiting)
        return Finding("journals", NOTE, f"{events} events of {len(waiting)} runs wait", "cifar-exp sync sends them")
    return Finding("journals", OK, f"{len(states)} runs in {OUTPUTS}, nothing waits" + (f"; {live} live" * bool(live)))


def killed(clean: bool = False) -> Finding:
    """Folders and processes that parallel sweeps have left whose driver was killed; with `clean` they are removed."""
    found = leftovers.find()
    if not found:
        return Finding("leftovers", OK, "nothing of killed sweeps")
    processes = ", ".join(str(process.pid) for one in found for process in one.processes)
    said = ", ".join(str(one.folder) for one in found) + (f", processes {processes}" if processes else "")
    if not clean:
        return Finding("leftovers", NOTE, f"of killed sweeps: {said}", "cifar-exp doctor --clean removes them")
    kept = [str(one.folder) for one in found if not leftovers.remove(one.folder)]
    if kept:
        return Finding("leftovers", NOTE, f"could not be removed: {', '.join(kept)}")
    return Finding("leftovers", OK, f"removed of killed sweeps: {said}")


def tracking(store: Store) -> Finding:
    """Whether the store takes runs, and from whom."""
    if not store.is_server:
        if not store.exists():
            return Finding("tracking", OK, f"{store.uri}, made by the first run")
        try:
            store.check()
        except UserError as error:
            return Finding("tracking", PROBLEM, str(error))
        try:
            with store.connected() as client:
                count = len(client.search_experiments())
        except Exception as error:  # of a file that is none of MLflow's, or an older one's, there are many
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


def compute(config: Config, asked: subprocess.Popen[str]) -> Finding:
    """What Keras computes on."""
    try:
        out, err = asked.communicate(timeout=_GPU_WITHIN)
    except subprocess.TimeoutExpired:
        return Finding("device", PROBLEM, f"Keras did not say within {_GPU_WITHIN} s", "python -c 'import keras'")
    if asked.returncode:
        last = next(iter(reversed(err.strip().splitlines())), f"exit code {asked.returncode}")
        return Finding("device", PROBLEM, f"Keras cannot be imported: {last}", "pip install cifar-exp")
    device = out.strip()
    if config.training.device == "gpu" and not device.startswith("GPU"):
        return Finding("device", PROBLEM, device, "training.device=gpu needs cifar-exp[gpu], or take auto")
    return Finding("device", OK, device)


def _ask_for_device() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _DEVICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _unreachable(url: str) -> str | None:
    """Why it cannot be downloaded."""
    import requests

    try:
        answer = requests.head(url, timeout=_DOWNLOAD_WITHIN, allow_redirects=True)
    except requests.RequestException as error:
        return reason(error)
    return None if answer.status_code == HTTPStatus.OK else f"{answer.status_code} {answer.reason}"


def _existing(path: Path) -> Path:
    """The nearest folder above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """None if it did not end in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_DOCKER_WITHIN, stdin=subprocess.DEVNULL)
    except (subprocess.TimeoutExpired, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
