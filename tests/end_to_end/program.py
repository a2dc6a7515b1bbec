"""Starting the program in a process of its own, and finding what it left."""

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
NOWHERE = "http://127.0.0.1:9"  # nobody listens on the discard port
PROGRAM = (sys.executable, "-m", "cifar_exp")
COMMAND = (sys.executable, "-m", "cifar_exp.cli")
TIMEOUT = 300
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
    """This process's, without what would send runs or data elsewhere, and without a way off this machine."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "CIFAR_EXP_"))}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    proxies = {name: NOWHERE for scheme in ("http_proxy", "https_proxy") for name in (scheme, scheme.upper())}
    own = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
    return kept | proxies | own | {"PYTHONPATH": os.pathsep.join(paths), "MLFLOW_DISABLE_TELEMETRY": "true"} | variables


def execute(
    command: list[str], folder: Path, variables: Mapping[str, str] | None = None, seconds: float = TIMEOUT
) -> Done:
    """Run a command in this folder to its end, which has to come within so many seconds."""
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
    """Run `python -m cifar_exp ARGUMENTS` in this folder to its end."""
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
    """Start `python -m cifar_exp ARGUMENTS` by a process that has imported what is large: half of a start's time."""
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
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def run_until(folder: Path, seen: str, number: signal.Signals, *arguments: str, **variables: str) -> Done:
    """Start the program, send it a signal once a line of its output matches `seen`, and wait for its end."""
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
    """A process that is killed when it takes too long, so that reading its output comes to an end."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has its children ignore Ctrl-C.
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
    """Of the SQLite store that a run without a server leaves in its folder."""
    from mlflow import MlflowClient

    assert (folder / "mlflow.db").exists()
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def runs(client: MlflowClient) -> list[Run]:
    """Every run of the store, the oldest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def only_run(folder: Path) -> Run:
    """The run of a store that holds one."""
    (found,) = runs(client(folder))
    return found


def artifacts(client: MlflowClient, run_id: str, path: str | None = None) -> set[str]:
    """The names of all files that a run has logged, as the client lists them."""
    _follow(client)
    names: set[str] = set()
    for entry in client.list_artifacts(run_id, path):
        names |= artifacts(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return names


def artifact(client: MlflowClient, run_id: str, name: str, folder: Path) -> Path:
    """One of these files, downloaded below `folder`."""
    _follow(client)
    target = folder / run_id
    target.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(run_id, name, str(target)))


def _follow(client: MlflowClient) -> None:
    """The client looks for the files of a logged model in the store of this process, not in its own."""
    import mlflow

    mlflow.set_tracking_uri(client.tracking_uri)


def points(client: MlflowClient, run_id: str, metric: str) -> dict[int, float]:
    """A metric's history: step -> value."""
    history = client.get_metric_history(run_id, metric)
    assert len({point.step for point in history}) == len(history), f"{metric}: a step was logged twice"
    return {point.step: point.value for point in history}
