"""Many clients log to a tracking server at once; how fast it answers, and whether it kept everything.

    export MLFLOW_TRACKING_URI=... MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=...
    python benchmarks/server_load.py [--clients 32] [--epochs 50] [--metrics 20] [--artifacts 5] [--artifact-kb 50]

Every client is a process of its own and logs a run of its own, without a pause, into the experiment server_load:
create_run, one log_batch an epoch, a log_artifact a file, set_terminated. Afterwards every run is read back and
compared with what was sent. Prints Markdown tables.

Exit code 0: no call failed and nothing is lost; 1: something did or is; 2: there is no such server.
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
SHOWN = 10  # of the failures and losses


@dataclass(frozen=True)
class Latency:
    """Of the calls of one kind, in seconds."""

    calls: int
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """Nearest-rank percentiles."""
        ranked = sorted(seconds)
        p50, p95 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.95))
        return cls(len(ranked), p50, p95, ranked[-1])


@dataclass(frozen=True)
class Report:
    """What a load came to. `seconds` is from the first call to the last answer, without the reading back."""

    clients: int
    work: Work
    seconds: float
    client_cores: float
    """Cores that the clients themselves kept busy."""
    requests: int
    refused: int
    """Answers of 400 and more; MLflow's client tries again after some of them."""
    latencies: dict[str, Latency]
    failures: list[str]
    lost: list[str]

    @property
    def metrics(self) -> int:
        """Values that were to be logged."""
        return self.clients * self.work.epochs * self.work.metrics

    @property
    def megabytes(self) -> float:
        """Of artifacts that were to be logged."""
        return self.clients * self.work.artifacts * self.work.artifact_kb * 1024 / 1e6


def load(clients: int, work: Work) -> Report:
    """Load the server that MLFLOW_TRACKING_URI names, with MLflow's own credentials, and read everything back.

    Raises:
        UserError: if there is no server, or it does not take this user.
    """
    store = Store(os.environ.get("MLFLOW_TRACKING_URI", ""), EXPERIMENT)
    if not store.is_server:
        raise UserError(f"MLFLOW_TRACKING_URI must name a server, http://... or https://..., not {store.uri!r}")
    store.check()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    log = partial(_log, work=work, uri=store.uri, experiment_id=store.experiment_id)
    # Each client is a fork of a process that has imported MLflow: else the machine is busy with 32 imports.
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["mlflow", "mlflow.tracking._tracking_service.client"])
    with ProcessPoolExecutor(clients, forks, initializer=_meet, initargs=(forks.Barrier(clients),)) as processes:
        logged = list(processes.map(log, range(clients)))
        lost = list(processes.map(partial(load_client.losses, work=work, uri=store.uri), logged))
    return _report(logged, [loss for losses in lost for loss in losses], work)


_all_ready: Barrier


def _meet(barrier: Barrier) -> None:
    """A barrier reaches a process only as that process starts."""
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
        latencies={kind: Latency.of(values) for kind, values in latencies.items() if values},
        failures=[failure for client in logged for failure in client.failures],
        lost=lost,
    )


def show(report: Report) -> None:
    """Print it, as Markdown that reads well in a terminal too."""
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
    for problem in [*report.failures[:SHOWN], *report.lost[:SHOWN]]:
        print(problem, file=sys.stderr)


def _table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    for line in (first, " | ".join("-" * width for width in widths), *others):
        print(f"| {line} |")


def main() -> int:
    """Load it as the arguments say."""
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
