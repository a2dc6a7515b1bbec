"""Seconds that a training takes while its tracking server is away or misbehaves, beside those with a store at hand.

    python benchmarks/outages.py --data FOLDER [--rounds 3] [--epochs 3]

Every variant trains the baseline on CIFAR-10 at batch size 32, a process each, one after another in every round:

- at hand: an SQLite file.
- refused: nobody listens at the server's address.
- silent: something takes the connection and never answers.
- 500, 429: something answers every request so.

The figure is train/seconds of the run's journal. Prints a Markdown table of the medians and of the ratio to the store
at hand, taken round by round.
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
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

AT_HAND = "at hand"
VARIANTS = (AT_HAND, "refused", "silent", "500", "429")
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


def seconds(data: Path, epochs: int, uri: str) -> float:
    """What the training of one run takes."""
    from cifar_exp.tracking import past

    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"data.dir={data}", "data.verify=size", "data.validation=test", f"training.epochs={epochs}"]
        arguments += [f"tracking.uri={uri}", "tracking.drain_seconds=0"]
        command = [sys.executable, "-m", "cifar_exp", *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (journal,) = Path(folder).glob("outputs/runs/*/journal.jsonl")
        return past.metrics(journal.parent)["train/seconds"][0]


def measure(variant: str, data: Path, epochs: int) -> float:
    """Seconds of one run of this variant."""
    if variant == AT_HAND:
        return seconds(data, epochs, "sqlite:///mlflow.db")
    if variant == "refused":
        return seconds(data, epochs, NOBODY)
    with server(variant) as uri:
        return seconds(data, epochs, uri)


def main() -> None:
    """Run every variant once in each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    measured: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(arguments.rounds):
        for variant in VARIANTS:
            measured[variant].append(measure(variant, data, arguments.epochs))
            print(f"round {number + 1}  {variant}  {measured[variant][-1]:.1f} s", file=sys.stderr, flush=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {arguments.rounds} rounds\n")
    print("| server | training, s, median | to that with a store at hand, median (range) |")
    print("| --- | ---: | ---: |")
    for variant, taken in measured.items():
        ratios = [one / other for one, other in zip(taken, measured[AT_HAND], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {variant} | {statistics.median(taken):.1f} | {spread} |")


if __name__ == "__main__":
    main()
