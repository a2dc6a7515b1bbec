"""Seconds that a training takes while its tracking server is away or misbehaves, beside one with a store at hand.

    python benchmarks/outages.py --data FOLDER [--rounds 2] [--epochs 2]

A training whose server is one of these runs at the same time as one with an SQLite file, so that both see the same
machine, each on a core of its own, which they exchange in every other round:

- refused: nobody listens at the server's address.
- silent: something takes the connection and never answers.
- 500, 429: something answers every request so.

Both train the baseline on CIFAR-10 at batch size 32. The figure is train/seconds of the run's journal. Prints a
Markdown table of the medians and of their ratio, taken pair by pair. For Linux.
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

AT_HAND = "sqlite:///mlflow.db"
VARIANTS = ("refused", "silent", "500", "429")
NOBODY = "http://127.0.0.1:9"  # the discard port


@contextmanager
def server(kind: str) -> Iterator[str]:
    """The address of one that misbehaves so."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if kind == "silent":
                over.wait()
                return
            self.send_error(int(kind))

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

        def log_message(self, *message: object) -> None:
            pass

    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{one.server_address[1]}"
    finally:
        over.set()
        one.shutdown()


def seconds(data: Path, epochs: int, uri: str, core: int) -> float:
    """What the training of one run takes."""
    from cifar_exp.tracking import local_run

    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"data.dir={data}", "data.verify=size", "data.validation=test", f"training.epochs={epochs}"]
        arguments += [f"tracking.uri={uri}", "tracking.drain_seconds=0"]
        command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", "cifar_exp", *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (journal,) = Path(folder).glob("outputs/runs/*/journal.jsonl")
        return local_run.metrics(journal.parent)["train/seconds"][0]


def pair(variant: str, data: Path, epochs: int, cores: Sequence[int]) -> tuple[float, float]:
    """Seconds with this server, and with a store at hand at the same time."""
    with server(variant) if variant != "refused" else nullcontext(NOBODY) as uri, ThreadPoolExecutor(2) as both:
        away, at_hand = (
            both.submit(seconds, data, epochs, one, core) for one, core in zip((uri, AT_HAND), cores, strict=True)
        )
        return away.result(), at_hand.result()


def main() -> None:
    """Every pair once in each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    first, second, *_ = sorted(os.sched_getaffinity(0))
    measured: dict[str, list[tuple[float, float]]] = {variant: [] for variant in VARIANTS}
    for number in range(arguments.rounds):
        cores = (second, first) if number % 2 else (first, second)
        for variant in VARIANTS:
            away, at_hand = pair(variant, data, arguments.epochs, cores)
            measured[variant].append((away, at_hand))
            said = f"round {number + 1}  {variant}  {away:.1f} s, at hand {at_hand:.1f} s"
            print(said, file=sys.stderr, flush=True)
    print(f"{platform.processor() or platform.machine()}, a core each, {arguments.rounds} rounds\n")
    print("| server | training, s, median | with a store at hand | ratio, median (range) |")
    print("| --- | ---: | ---: | ---: |")
    for variant, pairs in measured.items():
        away, at_hand = (statistics.median(taken) for taken in zip(*pairs, strict=True))
        ratios = [one / other for one, other in pairs]
        print(f"| {variant} | {away:.1f} | {at_hand:.1f} | {contenders.median_and_range(ratios, '.3f')} |")


if __name__ == "__main__":
    main()
