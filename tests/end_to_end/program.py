"""Start the program in its own process, and read what it logged."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import cifar_exp

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ROOT = Path(cifar_exp.__file__).parent.parent
NOWHERE = "http://127.0.0.1:9"  # nothing listens on the discard port
PROGRAM = (sys.executable, "-m", "cifar_exp")
COMMAND = (sys.executable, "-m", "cifar_exp.cli")
TIMEOUT = 600  # seconds; of two cores, three tests at once leave a program the share of one
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tensorflow", "mlflow", "sklearn.model_selection"])
DECIDED_AT_IMPORT = ("CUDA_", "JAX_", "KERAS_", "OMP_", "PYTHON", "TF_")  # variables that a fork would read too late
# A run of seconds, to the same bits each time; with dropout, so that its random states count.
REPEATABLE = (
    "data=digits",
    "data.train_images=500",
    "model=dense",
    "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]",
    "training.deterministic=true",
)

Done = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    """Environment of this process without settings for stores and data, and without access to other machines."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "CIFAR_EXP_"))}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    proxies = {name: NOWHERE for scheme in ("http_proxy", "https_proxy") for name in (scheme, scheme.upper())}
    own = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
    kept["CIFAR_EXP_CACHE"] = str(Path(tempfile.gettempdir()) / "cifar_exp_tests")  # not that of the user
    return kept | proxies | own | {"PYTHONPATH": os.pathsep.join(paths), "MLFLOW_DISABLE_TELEMETRY": "true"} | variables


def execute(
    command: list[str], folder: Path, variables: Mapping[str, str] | None = None, seconds: float = TIMEOUT
) -> Done:
    """Run a command in a folder and wait for its end; fail if it takes too long."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**(variables or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def run(folder: Path, *arguments: str, **variables: str) -> Done:
    """Run `python -m cifar_exp ARGUMENTS` in a folder and wait for its end."""
    if any(name.startswith(DECIDED_AT_IMPORT) for name in variables):
        return execute([*PROGRAM, *arguments], folder, variables)
    with tempfile.TemporaryDirectory() as output:
        logs = Path(output, "stdout"), Path(output, "stderr")
        process = start(folder, arguments, environment(**variables), *logs)
        process.join(TIMEOUT)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired([*PROGRAM, *arguments], TIMEOUT, *(log.read_bytes() for log in logs))
        return subprocess.CompletedProcess(
            [*PROGRAM, *arguments], process.exitcode or 0, *(log.read_text() for log in logs)
        )


def start(
    folder: Path, arguments: Sequence[str], variables: Mapping[str, str], stdout: Path, stderr: Path
) -> BaseProcess:
    """Start `python -m cifar_exp ARGUMENTS` as a fork of a process with the large imports, in half the time."""
    process = FORKS.Process(target=_run_module, args=(folder, arguments, variables, stdout, stderr))
    process.start()
    return process


def _run_module(
    folder: Path, arguments: Sequence[str], variables: Mapping[str, str], stdout: Path, stderr: Path
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork server ignores it
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv[1:] = arguments
    try:
        runpy.run_module("cifar_exp", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing does not call them


def run_until(folder: Path, seen: str, number: signal.Signals, *arguments: str, **variables: str) -> Done:
    """Start the program, send it a signal when a line of its output matches `seen`, and wait for its end."""
    with _started([*PROGRAM, *arguments], folder, variables) as process:
        assert process.stdout is not None and process.stderr is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.search(seen, line):
                process.send_signal(number)
                break
        else:
            raise AssertionError(f"no line matched {seen!r}:\n{''.join(lines)}")
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, "".join(lines) + stdout, stderr)


@contextmanager
def _started(command: list[str], folder: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Context manager that starts a process and kills it after the timeout, so that reading its output ends."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Children of a shell that starts the tests in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        yield process
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
