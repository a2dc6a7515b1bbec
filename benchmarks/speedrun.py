"""Time to the sources' best accuracy, 0.8342 on the test images: experiment=speedrun beside the recipe that reached it.

    python benchmarks/speedrun.py --data FOLDER [--seeds 5] [--epochs 1] [--experiment speedrun]

- source: notebook 3's network with dropout as it is written there: plain Keras with its defaults and its
  ImageDataGenerator, 100 epochs at batch size 128. So many epochs are timed before ours and as many after, each after a
  first one; the time of all is reckoned from them.
- ours: `python -m cifar_exp experiment=speedrun`, a process for each seed.

Training is the steps of all epochs, with their compilation for ours; the whole is the source's epochs with its
validation, and our process from its start to its end, with everything logged.

Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import contenders

TARGET = 0.8342
EPOCHS = 100  # of the source


class Speedrun(NamedTuple):
    """What one seed came to."""

    accuracy: float
    training: float
    process: float
    """Seconds."""


def source(data: Path, epochs: int) -> tuple[float, float]:
    """Seconds that all epochs of the source's recipe take: their training, and the whole."""
    seconds = contenders.augmented(data, epochs)
    print(f"source's epochs: {seconds}", file=sys.stderr, flush=True)
    training, whole = zip(*seconds, strict=True)
    return statistics.mean(training) * EPOCHS, statistics.mean(whole) * EPOCHS


def ours(data: Path, experiment: str, seed: int) -> Speedrun:
    """One run of ours, logging to a store of its own."""
    began = time.monotonic()
    with contenders.logged(data, [f"experiment={experiment}", f"seed={seed}"]) as (_, run):
        process = time.monotonic() - began
        return Speedrun(run.data.metrics["test/accuracy"], run.data.metrics["train/seconds"], process)


def main() -> None:
    """The source before and after ours, which run one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="of the source's, to be timed before ours and after")
    parser.add_argument("--experiment", default="speedrun")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    reckoned = [source(data, arguments.epochs)]
    runs = []
    for seed in range(arguments.seeds):
        runs.append(ours(data, arguments.experiment, seed))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr, flush=True)
    reckoned.append(source(data, arguments.epochs))
    training, whole = (statistics.mean(seconds) for seconds in zip(*reckoned, strict=True))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    told = " and ".join(f"{trained:,.0f} s of training, {all_of_it:,.0f} s in all" for trained, all_of_it in reckoned)
    print(f"source's recipe, {EPOCHS} epochs, before and after: {told}, reckoned\n")
    print("| seed | test accuracy | training, s | source's / ours | whole, s | source's / ours |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for seed, run in enumerate(runs):
        trained = f"{run.training:.0f} | {training / run.training:.0f}"
        print(f"| {seed} | {run.accuracy:.4f} | {trained} | {run.process:.0f} | {whole / run.process:.0f} |")
    reached = sum(run.accuracy >= TARGET for run in runs)
    print(f"\n{reached} of {len(runs)} seeds reach {TARGET}.")


if __name__ == "__main__":
    main()
