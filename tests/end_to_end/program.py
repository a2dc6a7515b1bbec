"""Start the program in its own process, and read what it logged."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forked import Fork, heed_signals

import cifar_exp
from cifar_exp.training import threads
from cifar_exp.training.runtime import BACKENDS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ROOT = Path(cifar_exp.__file__).parent.parent
NOWHERE = "http://127.0.0.1:9"  # nothing listens on the discard port
PROGRAM = (sys.executable, "-m", "cifar_exp")
COMMAND = (sys.executable, "-m", "cifar_exp.cli")
LOAD_MODELS = (sys.executable, "-m", "load_models")
SHOW_SHARDS = (sys.executable, "-m", "show_shards")
TRAIN_TWICE = (sys.executable, "-m", "train_twice")
TRAIN_MAPPED = (sys.executable, "-m", "train_mapped")
CACHE = Path(tempfile.gettempdir(), "cifar_exp_tests")
TIMEOUT = 600  # seconds; four tests at once share the cores
BACKEND = "KERAS_BACKEND"
# Variables that a fork would read too late.
DECIDED_AT_IMPORT = ("CUDA_", "JAX_", "KERAS_", "OMP_", "PYTHON", "TF_", "TMPDIR")
# A run of seconds, to the same bits each time; with dropout, so that its random states count.
REPEATABLE = (
    "data=digits",
    "data.train_images=500",
    "model=dense",
    "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]",
    "training.deterministic=true",
)

Done = subprocess.CompletedProcess[str]
Started = Fork | subprocess.Popen[str]


def environment(**variables: str) -> dict[str, str]:
    """Environment of this process without settings for stores and data, and without access to other machines."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "CIFAR_EXP_"))}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    proxies = {name: NOWHERE for scheme in ("http_proxy", "https_proxy") for name in (scheme, scheme.upper())}
    own = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
    kept["CIFAR_EXP_CACHE"] = str(CACHE)  # not that of the user
    # What one process has compiled, the next one need not.
    kept |= {"JAX_COMPILATION_CACHE_DIR": str(CACHE / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return kept | proxies | own | {"PYTHONPATH": os.pathsep.join(paths), "MLFLOW_DISABLE_TELEMETRY": "true"} | variables


def execute(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None, seconds: float = TIMEOUT
) -> Done:
    """Run a command in a folder and wait for its end; fail if it takes too long."""
    started = popen(command, folder, **(variables or {}))
    try:
        stdout, stderr = started.communicate(timeout=seconds)
    except BaseException:
        started.kill()
        raise
    return subprocess.CompletedProcess([*command], started.wait(), stdout, stderr)


def run(folder: Path, *arguments: str, **variables: str) -> Done:
    """Run `python -m cifar_exp ARGUMENTS` in a folder and wait for its end."""
    return execute([*PROGRAM, *arguments], folder, variables)


def popen(
    command: Sequence[str],
    folder: Path,
    merged: bool = False,
    session: bool = False,
    **variables: str,
) -> Started:
    """Start a command in a folder; one of this package or these tests is a fork where that makes no difference.

    Args:
        command: the program and its arguments.
        folder: in which it is started.
        merged: whether stderr goes to stdout.
        session: whether it begins a session of its own, so that a signal to its group reaches no other process.
        variables: environment variables beside those of `environment`.
    """
    for program in (PROGRAM, COMMAND, LOAD_MODELS, SHOW_SHARDS, TRAIN_TWICE, TRAIN_MAPPED):
        if tuple(command[:3]) == program and not any(_too_late(*variable) for variable in variables.items()):
            return Fork(program[2], command[3:], folder, environment(**variables), TIMEOUT, merged, session)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        start_new_session=session,
        preexec_fn=heed_signals,
    )


def _too_late(name: str, value: str) -> bool:
    """Whether a fork would read a variable too late."""
    in_time = (name == BACKEND and value in BACKENDS) or name in threads.TENSORFLOW_THREADS
    return name.startswith(DECIDED_AT_IMPORT) and not in_time


def run_until(folder: Path, seen: str, number: signal.Signals, *arguments: str, **variables: str) -> Done:
    """Start the program, send it a signal when a line of its output matches `seen`, and wait for its end."""
    process = popen([*PROGRAM, *arguments], folder, **variables)
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.search(seen, line):
                process.send_signal(number)
                break
        else:
            raise AssertionError(f"no line matched {seen!r}:\n{''.join(lines)}")
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.wait(), "".join(lines) + stdout, stderr)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def client(folder: Path) -> MlflowClient:
    """MLflow client of the SQLite store in a folder."""
    from mlflow import MlflowClient

    assert (folder / "mlflow.db").exists()
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def runs(client: MlflowClient) -> list[Run]:
    """All runs of the store, oldest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def only_run(folder: Path) -> Run:
    """The run of a store that must have exactly one."""
    (found,) = runs(client(folder))
    return found


def artifacts(client: MlflowClient, run_id: str, path: str | None = None) -> set[str]:
    """Paths of all artifacts of a run."""
    _follow(client)
    names: set[str] = set()
    for entry in client.list_artifacts(run_id, path):
        names |= artifacts(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return names


def artifact(client: MlflowClient, run_id: str, name: str, folder: Path) -> Path:
    """Download an artifact of a run into `folder`."""
    _follow(client)
    target = folder / run_id
    target.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(run_id, name, str(target)))


def _follow(client: MlflowClient) -> None:
    """Set the default store to that of the client, since MLflow looks up files of logged models there."""
    import mlflow

    mlflow.set_tracking_uri(client.tracking_uri)


def points(client: MlflowClient, run_id: str, metric: str) -> dict[int, float]:
    """History of a metric: step -> value."""
    history = client.get_metric_history(run_id, metric)
    assert len({point.step for point in history}) == len(history), f"{metric}: a step was logged twice"
    return {point.step: point.value for point in history}
