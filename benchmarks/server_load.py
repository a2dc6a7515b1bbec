"""Load test of a tracking server: many clients log at once; measures latencies and checks that nothing is lost.

    export MLFLOW_TRACKING_URI=... MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=...
    python benchmarks/server_load.py [--clients 32] [--epochs 50] [--metrics 20] [--artifacts 5] [--artifact-kb 50]

Every client is a process that logs a run without pauses to the experiment server_load: create_run, one log_batch per
epoch, one log_artifact per file, set_terminated. Afterwards every run is read back and compared with what was sent.
Prints Markdown tables.

Exit codes: 0 if no call failed and nothing is lost, 1 otherwise, 2 if there is no server.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import load_client
from load_client import Logged, Work

from cifar_exp.errors import UserError
from cifar_exp.tracking.store import Store

EXPERIMENT = "server_load"
KINDS = ("create_run", "log_batch", "log_artifact", "set_terminated")
MAX_SHOWN = 10  # failures and losses that are printed


@dataclass(frozen=True)
class Latency:
    """Number of calls of one kind, and their median, 95th percentile and maximum in seconds."""

    calls: int
    p50: float
    p95: float
    max: float

    @classmethod
    def from_seconds(cls, seconds: list[float]) -> Latency:
        """Compute nearest-rank percentiles."""
        ranked = sorted(seconds)
        p50, p95 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.95))
        return cls(len(ranked), p50, p95, ranked[-1])


@dataclass(frozen=True)
class Report:
    """Results of a load test.

    Attributes:
        clients: number of clients.
        work: amount of data that each of them logged.
        seconds: from the first call to the last answer, without reading back.
        client_cores: processor cores that the clients kept busy.
        requests: number of HTTP requests.
        refused: answers with status 400 or higher. MLflow's client retries after some of them.
        latencies: by name of the call.
        failures: calls that failed after all retries.
        lost: everything that is missing or differs after reading back.
    """

    clients: int
    work: Work
    seconds: float
    client_cores: float
    requests: int
    refused: int
    latencies: dict[str, Latency]
    failures: list[str]
    lost: list[str]

    @property
    def metrics(self) -> int:
        """Number of metric values sent."""
        return self.clients * self.work.epochs * self.work.metrics

    @property
    def megabytes(self) -> float:
        """Size of the artifacts sent, in MB."""
        return self.clients * self.work.artifacts * self.work.artifact_kb * 1024 / 1e6


def load(clients: int, work: Work) -> Report:
    """Run the load test on the server of MLFLOW_TRACKING_URI and read everything back.

    Args:
        clients: number of clients.
        work: amount of data that each of them logs.

    Raises:
        UserError: if the server cannot be reached or does not accept this user.
    """
    store = Store(os.environ.get("MLFLOW_TRACKING_URI", ""), EXPERIMENT)
    if not store.is_server:
        raise UserError(f"MLFLOW_TRACKING_URI must name a server, http://... or https://..., not {store.uri!r}")
    store.check()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    log = partial(_log, work=work, uri=store.uri, experiment_id=store.experiment_id)
    # Each client is forked from a process that has imported MLflow; otherwise 32 imports would load the machine.
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["mlflow", "mlflow.tracking._tracking_service.client"])
    with ProcessPoolExecutor(clients, forks, initializer=_set_barrier, initargs=(forks.Barrier(clients),)) as processes:
        logged = list(processes.map(log, range(clients)))
        lost = list(processes.map(partial(load_client.losses, work=work, uri=store.uri), logged))
    return _report(logged, [loss for losses in lost for loss in losses], work)


_all_ready: Barrier


def _set_barrier(barrier: Barrier) -> None:
    """Store the barrier in a new process. It can only be passed when the process starts."""
    global _all_ready
    _all_ready = barrier
    logging.getLogger("mlflow").setLevel(logging.ERROR)


def _log(client: int, work: Work, uri: str, experiment_id: str) -> Logged:
    return load_client.log(client, work, uri, experiment_id, _all_ready.wait)


def _report(logged: list[Logged], lost: list[str], work: Work) -> Report:
    seconds = max(client.ended for client in logged) - min(client.began for client in logged)
    latencies = {kind: [second for client in logged for second in client.latencies.get(kind, [])] for kind in KINDS}
    return Report(
        clients=len(logged),
        work=work,
        seconds=seconds,
        client_cores=sum(client.processor for client in logged) / seconds,
        requests=sum(len(client.answers) for client in logged),
        refused=sum(status >= 400 for client in logged for status in client.answers),
        latencies={kind: Latency.from_seconds(values) for kind, values in latencies.items() if values},
        failures=[failure for client in logged for failure in client.failures],
        lost=lost,
    )


def show(report: Report) -> None:
    """Print the report as aligned Markdown tables."""
    rows = [["call", "calls", "p50, ms", "p95, ms", "max, ms"]]
    for kind, latency in report.latencies.items():
        figures = (latency.p50, latency.p95, latency.max)
        rows.append([kind, f"{latency.calls:,}", *(f"{figure * 1000:,.0f}" for figure in figures)])
    _table(rows)
    rates = [report.requests, report.metrics, report.megabytes]
    per_second = [f"{rate / report.seconds:,.1f}" for rate in rates]
    print()
    _table(
        [
            ["clients", "seconds", "requests/s", "metrics/s", "MB/s", "cores of clients", "refused", "failed", "lost"],
            [
                *(str(report.clients), f"{report.seconds:.1f}", *per_second, f"{report.client_cores:.2f}"),
                *(str(count) for count in (report.refused, len(report.failures), len(report.lost))),
            ],
        ]
    )
    for problem in [*report.failures[:MAX_SHOWN], *report.lost[:MAX_SHOWN]]:
        print(problem, file=sys.stderr)


def _table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    for line in (first, " | ".join("-" * width for width in widths), *others):
        print(f"| {line} |")


def main() -> int:
    """Run the load test and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    for size in dataclasses.fields(Work):
        parser.add_argument(f"--{size.name.replace('_', '-')}", type=int, default=size.default, help="of each client")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = vars(parser.parse_args())
    clients, file = arguments.pop("clients"), arguments.pop("json")
    try:
        report = load(clients, Work(**arguments))
    except UserError as error:
        print(f"server_load: {error}", file=sys.stderr)
        return 2
    show(report)
    if file:
        file.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return 1 if report.failures or report.lost else 0


if __name__ == "__main__":
    sys.exit(main())
