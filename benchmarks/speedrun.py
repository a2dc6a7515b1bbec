"""Time to the sources' best test accuracy (0.8342): experiment=speedrun compared with the recipe that reached it.

    python benchmarks/speedrun.py --data FOLDER [--seeds 5] [--epochs 1] [--experiment speedrun]

- source: the code of notebook 3's network with dropout: plain Keras with default settings and ImageDataGenerator, 100
  epochs with batch size 128. --epochs epochs are timed before and after our runs, each time after a first epoch, and
  the time of all 100 is extrapolated from them.
- ours: `python -m cifar_exp experiment=speedrun`, one process per seed.

The training time contains the steps of all epochs, and their compilation for ours. The whole time contains validation
for the source, and the complete process with all logging for ours.

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
    """Result of one seed.

    Attributes:
        accuracy: on the test images.
        training: seconds of training.
        process: seconds from the start of the process to its end.
    """

    accuracy: float
    training: float
    process: float


def source(data: Path, epochs: int) -> tuple[float, float]:
    """Extrapolated seconds of all epochs of the source's recipe: training, and training with validation."""
    seconds = contenders.augmented(data, epochs)
    print(f"source's epochs: {seconds}", file=sys.stderr, flush=True)
    training, whole = zip(*seconds, strict=True)
    return statistics.mean(training) * EPOCHS, statistics.mean(whole) * EPOCHS


def ours(data: Path, experiment: str, seed: int) -> Speedrun:
    """Run the experiment once with a temporary store."""
    began = time.monotonic()
    with contenders.logged(data, [f"experiment={experiment}", f"seed={seed}"]) as (_, run):
        process = time.monotonic() - began
        return Speedrun(run.data.metrics["test/accuracy"], run.data.metrics["train/seconds"], process)


def main() -> None:
    """Time the source before and after our runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the source to time before and after our runs")
    parser.add_argument("--experiment", default="speedrun")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    extrapolated = [source(data, arguments.epochs)]
    runs = []
    for seed in range(arguments.seeds):
        runs.append(ours(data, arguments.experiment, seed))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr, flush=True)
    extrapolated.append(source(data, arguments.epochs))
    training, whole = (statistics.mean(seconds) for seconds in zip(*extrapolated, strict=True))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    estimates = " and ".join(f"{steps:,.0f} s of training, {total:,.0f} s in total" for steps, total in extrapolated)
    print(f"source's recipe, {EPOCHS} epochs, extrapolated before and after: {estimates}\n")
    print("| seed | test accuracy | training, s | source's / ours | whole, s | source's / ours |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for seed, run in enumerate(runs):
        trained = f"{run.training:.0f} | {training / run.training:.0f}"
        print(f"| {seed} | {run.accuracy:.4f} | {trained} | {run.process:.0f} | {whole / run.process:.0f} |")
    reached = sum(run.accuracy >= TARGET for run in runs)
    print(f"\n{reached} of {len(runs)} seeds reach {TARGET}.")


if __name__ == "__main__":
    main()
