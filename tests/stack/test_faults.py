"""Tests of crashes: the server restarts by itself and keeps everything that it has acknowledged."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import stack
from stack import NewStack, Stack, User
from writers import Writers, everything_is_there

from cifar_exp.review import remarks
from cifar_exp.server import audit

PID_FILE = Path("/var/run/docker.pid")
# Both are lost in a power failure. An engine that finds the second takes a process of that number for its containerd.
PID_FILES = (PID_FILE, Path("/var/run/docker/containerd/containerd.pid"))
# In a container: every process of its user, so everything but the init that started it.
KILL_ALL = ("python3", "-c", "import os, signal; os.kill(-1, signal.SIGKILL)")
WORKERS = """
import os
print(*(pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()
        and b"multiprocessing.spawn" in open(f"/proc/{pid}/cmdline", "rb").read()))
"""
API = "/api/3.0/cifar-exp"
KILLS = int(os.environ.get("CIFAR_EXP_DECISION_KILLS", "2"))
WRITING = 4  # comments at once
SLOW = 10  # seconds, during which a worker answers no request


@pytest.fixture(scope="module")
def shaken(new_stack: NewStack) -> Stack:
    """A server that other test modules do not use."""
    one = new_stack(MLFLOW_WORKERS="2")
    one.up()
    return one


@pytest.fixture(scope="module")
def writer(shaken: Stack) -> User:
    return shaken.add("writer")


def kill_the_server(server: Stack) -> None:
    server.inside("mlflow", *KILL_ALL, check=False)


def workers(server: Stack) -> list[str]:
    """Process numbers of the server's workers."""
    return sorted(server.inside("mlflow", "python3", "-c", WORKERS).stdout.split())


def send(server: Stack, process: str, number: signal.Signals) -> None:
    server.inside("mlflow", "python3", "-c", f"import os; os.kill({process}, {int(number)})")


def kill_a_worker(server: Stack) -> None:
    send(server, workers(server)[0], signal.SIGKILL)


def kill_the_database(server: Stack) -> None:
    server.inside("db", "sh", "-c", "kill -9 -1", check=False)


def take_it_down_and_up(server: Stack) -> None:
    server.compose("down")
    server.up()


@pytest.mark.parametrize("fault", [kill_the_server, kill_a_worker, kill_the_database, take_it_down_and_up])
def test_acknowledged_data_is_kept_after(
    shaken: Stack, writer: User, tmp_path: Path, fault: Callable[[Stack], None]
) -> None:
    with Writers(shaken, writer, fault.__name__, tmp_path) as writers:
        fault(shaken)
        shaken.wait_until_healthy()
        writers.wait_for_more(4)
    with shaken.client(writer) as client:
        everything_is_there(client, writers.acknowledged, tmp_path)


@pytest.fixture(scope="module")
def commented(shaken: Stack, writer: User) -> str:
    """Id of a run."""
    with shaken.client(writer) as client:
        run_id = client.create_run(client.create_experiment("commented")).info.run_id
        client.set_terminated(run_id)
        return str(run_id)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_decision_and_its_audit_row_are_both_kept_or_both_lost(
    shaken: Stack, writer: User, commented: str, number: int
) -> None:
    acknowledged, stop = [], threading.Event()

    def comment() -> None:
        for count in itertools.count():
            if stop.is_set():
                return
            text = f"{number} {count}"
            with suppress(requests.RequestException):
                if shaken.ask(f"{API}/comment", writer, json={"run_id": commented, "text": text}).ok:
                    acknowledged.append(text)

    fault = (kill_the_database, kill_the_server)[number % 2]
    with ThreadPoolExecutor(WRITING) as threads:
        for _ in range(WRITING):
            threads.submit(comment)
        try:
            while len(acknowledged) < WRITING:
                time.sleep(0.05)
            fault(shaken)
            shaken.wait_until_healthy()
        finally:
            stop.set()
    with shaken.client(shaken.admin) as client:
        run = client.get_run(commented)
    written = {(tag, remark.text) for tag, value in run.data.tags.items() for remark in remarks.in_tags({tag: value})}
    rows, head = read_trail(shaken)
    audited = {(after["tag"], after["text"]) for after in (json.loads(row.after) for row in rows)}
    assert written == audited and list(audit.problems(rows, head)) == []
    assert {text for text in acknowledged} <= {text for _, text in written}


def read_trail(server: Stack) -> tuple[list[audit.Row], tuple[int, str]]:
    """The audit trail, as `cifar-exp audit` reads it."""
    with server.client(server.admin):
        return audit.read_server(server.url)


def test_a_slow_worker_is_not_killed_during_its_requests(shaken: Stack) -> None:
    before = workers(shaken)
    send(shaken, before[0], signal.SIGSTOP)
    time.sleep(SLOW)
    send(shaken, before[0], signal.SIGCONT)
    time.sleep(1)
    assert workers(shaken) == before


def test_acknowledged_data_is_kept_after_the_engine_itself_is_killed(
    shaken: Stack, writer: User, tmp_path: Path
) -> None:
    if os.environ.get("CIFAR_EXP_OWN_ENGINE") != "1":
        pytest.skip("kills the Docker engine with all it runs; CIFAR_EXP_OWN_ENGINE=1 says that this one may be killed")
    with Writers(shaken, writer, "engine", tmp_path) as writers:
        kill_the_engine()
        shaken.wait_until_healthy()
        writers.wait_for_more(4)
    while stack.docker("ps", "--quiet", "--filter", "health=starting").stdout:  # servers of other tests
        time.sleep(0.5)
    with shaken.client(writer) as client:
        everything_is_there(client, writers.acknowledged, tmp_path)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_the_engine() -> None:
    """Kill the engine and all containers at once, as a power failure would, and start the engine again."""
    engine = int(PID_FILE.read_text())
    executable = Path(f"/proc/{engine}/exe").readlink()
    arguments = Path(f"/proc/{engine}/cmdline").read_bytes().split(b"\0")[1:-1]
    variables = Path(f"/proc/{engine}/environ").read_bytes().split(b"\0")[:-1]  # its PATH contains iptables
    containers = stack.docker("ps", "--quiet").stdout.split()
    inside = stack.docker("inspect", "--format", "{{.State.Pid}}", *containers).stdout.split()
    helpers = subprocess.run(["pgrep", "containerd"], capture_output=True, text=True).stdout.split()
    killed = {engine, *map(int, helpers), *map(int, inside)} - {0}  # 0: of a container that restarts
    for process in killed:
        with suppress(ProcessLookupError):  # some end with the engine
            os.kill(process, signal.SIGKILL)
    while any(map(is_running, killed)):
        time.sleep(0.1)
    for file in PID_FILES:
        file.unlink(missing_ok=True)
    log = open("/var/log/dockerd.log", "ab")  # noqa: SIM115 (the engine outlives this test)
    own = dict(variable.split(b"=", 1) for variable in variables)
    started = subprocess.Popen(
        [executable, *arguments], env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    while stack.docker("version", check=False).returncode:
        assert started.poll() is None, Path("/var/log/dockerd.log").read_text().splitlines()[-1]
        time.sleep(0.5)
