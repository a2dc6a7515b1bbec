"""Tests of a team that logs at the same time: nothing is lost or refused, and the server stays within its memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import program
import pytest
import stack
from stack import NewStack, Stack

CLIENTS, EPOCHS, METRICS, ARTIFACTS, ARTIFACT_KB = 48, 3, 10, 1, 50
TIMEOUT = 1800  # seconds, so that a load that never ends fails; how fast it is, is not tested
ACCESS = re.compile(r'"(?:GET|POST|PUT|PATCH|DELETE) [^"]*" (\d{3})')


def load(server: Stack, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the load benchmark, which must exit with 0; return its report."""
    done = subprocess.run(
        [sys.executable, str(program.ROOT / "benchmarks" / "server_load.py"), *arguments, "--json=report.json"],
        cwd=folder,
        env=program.environment(**server.environment(server.add("ann"))),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.logs()}"
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.fixture(scope="module")
def loaded(new_stack: NewStack) -> Stack:
    """A server that other tests do not use, so that its log and counts come only from this load.

    Its only worker has fewer threads than there are clients. log_batch needs two connections at once: with too few of
    them, each request would hold one and wait for a second.
    """
    one = new_stack(MLFLOW_WORKERS="1")
    one.up()
    return one


@pytest.fixture(scope="module")
def report(loaded: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Report of the benchmark with all of its clients, for fewer epochs."""
    sizes = (f"--metrics={METRICS}", f"--artifacts={ARTIFACTS}", f"--artifact-kb={ARTIFACT_KB}")
    return load(loaded, tmp_path_factory.mktemp("load"), f"--clients={CLIENTS}", f"--epochs={EPOCHS}", *sizes)


def test_no_call_failed_and_all_data_is_read_back_as_sent(report: dict[str, Any]) -> None:
    assert report["failures"] == report["lost"] == []
    assert {kind: latency["calls"] for kind, latency in report["latencies"].items()} == {
        "create_run": CLIENTS,
        "log_batch": CLIENTS * EPOCHS,
        "log_artifact": CLIENTS * ARTIFACTS,
        "set_terminated": CLIENTS,
    }
    assert report["refused"] == 0, "the client had to try again"


@pytest.mark.usefixtures("report")
def test_the_database_has_every_value(loaded: Stack) -> None:
    def count(what: str) -> int:
        return int(loaded.inside("db", "psql", "--username=mlflow", "-tAc", f"select count(*) {what}", "mlflow").stdout)

    assert count("from metrics") == CLIENTS * EPOCHS * METRICS
    assert count("from (select distinct run_uuid, key, step from metrics) as points") == CLIENTS * EPOCHS * METRICS
    assert count("from runs where status = 'FINISHED'") == count("from runs") == CLIENTS


@pytest.mark.usefixtures("report")
def test_the_volume_has_every_artifact(loaded: Stack) -> None:
    files = ("/var/lib/mlflow", "-type", "f", "-not", "-name", "cifar_exp-*.lock")  # held while a worker starts
    listed = loaded.inside("mlflow", "find", *files, "-printf", "%s %p\n").stdout
    sizes = [int(line.partition(" ")[0]) for line in listed.splitlines()]
    assert sizes == [ARTIFACT_KB * 1024] * (CLIENTS * ARTIFACTS), "or something temporary was left"


@pytest.mark.usefixtures("report")
def test_the_server_answered_everything_without_an_error(loaded: Stack) -> None:
    log = loaded.compose("logs", "--no-color", "mlflow").stdout
    statuses = [int(status) for status in ACCESS.findall(log)]
    assert len(statuses) >= CLIENTS * (EPOCHS + ARTIFACTS + 2), "the log does not hold the load"
    assert [status for status in statuses if status >= 500] == []
    assert "Traceback" not in log


@pytest.mark.usefixtures("report")
@pytest.mark.parametrize("service", ["mlflow", "db"])
def test_nothing_was_killed_or_started_again(loaded: Stack, service: str) -> None:
    state = "{{.State.OOMKilled}} {{.State.Status}} {{.RestartCount}}"
    container_state = stack.docker("inspect", "--format", state, loaded.container(service)).stdout.strip()
    assert container_state == "false running 0"
