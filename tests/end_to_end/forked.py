"""Programs of this package as forks of a process that has imported what they need."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO
from unittest import mock

FORKS = multiprocessing.get_context("forkserver")
_servers: dict[str, forkserver.ForkServer] = {}  # by backend


class Fork:
    """A program that runs as a fork of a process with all imports, in a third of the time. Used as `Popen` is.

    Args:
        module: that Python runs.
        arguments: of the command line.
        folder: in which it is started.
        variables: the environment.
        timeout: seconds that `communicate` waits unless it is told otherwise.
        merged: whether stderr goes to stdout.
        session: whether it begins a session of its own.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        variables: Mapping[str, str],
        timeout: float,
        merged: bool = False,
        session: bool = False,
    ) -> None:
        server = _fork_server(variables.get("KERAS_BACKEND", "tensorflow"), variables)
        self._timeout = timeout
        self.args = [sys.executable, "-m", module, *arguments]
        ours, theirs = FORKS.Pipe(duplex=False)
        our_errors, their_errors = (ours, theirs) if merged else FORKS.Pipe(duplex=False)
        child = (module, tuple(arguments), folder, variables, theirs, their_errors, session)
        self._process = FORKS.Process(target=_run_module, args=child)
        with mock.patch.object(forkserver, "connect_to_new_process", server.connect_to_new_process):
            self._process.start()
        for end in {theirs, their_errors}:
            end.close()
        self.stdout = _text(ours)
        self.stderr = None if merged else _text(our_errors)
        for end in {ours, our_errors}:
            end.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read the output to its end, which a process that the program leaves behind may delay."""
        texts = {self.stdout: "", self.stderr: ""}

        def read(stream: TextIO) -> None:
            texts[stream] = stream.read()

        readers = [threading.Thread(target=read, args=(stream,), daemon=True) for stream in texts if stream]
        for reader in readers:
            reader.start()
        until = time.monotonic() + (timeout or self._timeout)
        for reader in readers:
            reader.join(max(0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or self._timeout)
        self.wait(max(0.1, until - time.monotonic()))
        return texts[self.stdout], texts[self.stderr]

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def heed_signals() -> None:
    """Heed Ctrl-C and a closed terminal, which a child of a background job, of `nohup` or of a fork server ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _text(end: Connection) -> TextIO:
    return open(os.dup(end.fileno()))


def _fork_server(backend: str, variables: Mapping[str, str]) -> forkserver.ForkServer:
    """The process from which programs on a backend are forked; started at the first one, in its environment.

    It is told where `preloaded` is: before Python 3.13, it does not take over the path of this process.
    """
    if backend not in _servers:
        server = _servers[backend] = forkserver.ForkServer()
        server.set_forkserver_preload(["preloaded"])
        own = {key: value for key, value in variables.items() if not key.startswith(("MLFLOW_TRACKING", "CIFAR_EXP_"))}
        path = os.pathsep.join([variables["PYTHONPATH"], str(Path(__file__).parent)])
        with mock.patch.dict(os.environ, own | {"PYTHONPATH": path}):
            server.ensure_running()
        atexit.register(server._stop)
    return _servers[backend]


def _run_module(
    module: str,
    arguments: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    stdout: Connection,
    stderr: Connection,
    session: bool,
) -> None:
    if session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    heed_signals()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    for end in {stdout, stderr}:
        end.close()
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing does not call them
