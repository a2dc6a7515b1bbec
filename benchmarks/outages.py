"""Compare the duration of trainings with a broken tracking server and with a local store.

    python benchmarks/outages.py --data FOLDER [--rounds 2] [--epochs 2]

A training with one of these servers runs at the same time as one with an SQLite file, so that both share the machine.
Each has a core of its own, and they swap cores in every other round:

- refused: nobody listens at the server's address.
- silent: the server accepts connections and never answers.
- 500, 429: the server answers every request with this status.

Both train the baseline on CIFAR-10 with batch size 32. The measured value is train/seconds in the run's journal. Prints
a Markdown table of the medians and of the ratio of each pair. Requires Linux.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import contenders

LOCAL_STORE = "sqlite:///mlflow.db"
VARIANTS = ("refused", "silent", "500", "429")
UNUSED_ADDRESS = "http://127.0.0.1:9"  # the discard port


@contextmanager
def server(kind: str) -> Iterator[str]:
    """Start a server that is silent or answers with a status; yields its address."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if kind == "silent":
                stopped.wait()
                return
            self.send_error(int(kind))

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

        def log_message(self, *message: object) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http_server.server_address[1]}"
    finally:
        stopped.set()
        http_server.shutdown()


def training_seconds(data: Path, epochs: int, uri: str, core: int) -> float:
    """Run one training on a core and return its train/seconds."""
    from cifar_exp.tracking import local_run

    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"data.dir={data}", "data.verify=size", "data.validation=test", f"training.epochs={epochs}"]
        arguments += [f"tracking.uri={uri}", "tracking.drain_seconds=0"]
        command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", "cifar_exp", *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (journal,) = Path(folder).glob("outputs/runs/*/journal.jsonl")
        return local_run.metrics(journal.parent)["train/seconds"][0]


def pair(variant: str, data: Path, epochs: int, cores: Sequence[int]) -> tuple[float, float]:
    """Seconds of two simultaneous trainings: with this server, and with a local store."""
    with (
        server(variant) if variant != "refused" else nullcontext(UNUSED_ADDRESS) as uri,
        ThreadPoolExecutor(2) as executor,
    ):
        broken, local = (
            executor.submit(training_seconds, data, epochs, store, core)
            for store, core in zip((uri, LOCAL_STORE), cores, strict=True)
        )
        return broken.result(), local.result()


def main() -> None:
    """Run every pair once per round and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    first, second, *_ = sorted(os.sched_getaffinity(0))
    measured: dict[str, list[tuple[float, float]]] = {variant: [] for variant in VARIANTS}
    for number in range(arguments.rounds):
        cores = (second, first) if number % 2 else (first, second)
        for variant in VARIANTS:
            broken, local = pair(variant, data, arguments.epochs, cores)
            measured[variant].append((broken, local))
            line = f"round {number + 1}  {variant}  {broken:.1f} s, local store {local:.1f} s"
            print(line, file=sys.stderr, flush=True)
    print(f"{platform.processor() or platform.machine()}, a core each, {arguments.rounds} rounds\n")
    print("| server | training, s, median | with a local store | ratio, median (range) |")
    print("| --- | ---: | ---: | ---: |")
    for variant, pairs in measured.items():
        broken, local = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
        ratios = [broken_seconds / local_seconds for broken_seconds, local_seconds in pairs]
        print(f"| {variant} | {broken:.1f} | {local:.1f} | {contenders.median_and_range(ratios, '.3f')} |")


if __name__ == "__main__":
    main()
