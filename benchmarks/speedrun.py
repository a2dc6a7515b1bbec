"""Time to the sources' best accuracy, 0.8342 on the test images: experiment=speedrun beside the recipe that reached it.

    python benchmarks/speedrun.py --data FOLDER [--seeds 5] [--steps 300] [--experiment speedrun]

- source: notebook 3's network with dropout as it is written there: plain Keras with its defaults and its
  ImageDataGenerator, 100 epochs at batch size 128. So many steps are timed, after a first hundred; the time of all is
  reckoned from them.
- ours: `python -m cifar_exp experiment=speedrun`, a process for each seed: train/seconds, the steps of all epochs with
  their compilation, without validation, as for the source; and the seconds of the whole process.

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
EPOCHS, STEPS = 100, 391  # of the source, and of each epoch


class Speedrun(NamedTuple):
    """What one seed came to."""

    accuracy: float
    training: float
    process: float
    """Seconds."""


def source(data: Path, steps: int) -> float:
    """Seconds that the source's recipe takes in all."""
    return contenders.augmented_step(data, steps) * EPOCHS * STEPS


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
    parser.add_argument("--steps", type=int, default=300, help="of the source's, to be timed")
    parser.add_argument("--experiment", default="speedrun")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    reckoned = [source(data, arguments.steps)]
    print(f"source: {reckoned[0]:,.0f} s", file=sys.stderr, flush=True)
    runs = []
    for seed in range(arguments.seeds):
        runs.append(ours(data, arguments.experiment, seed))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr, flush=True)
    reckoned.append(source(data, arguments.steps))
    whole = statistics.mean(reckoned)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print(f"source's recipe, {EPOCHS} epochs: {' and '.join(f'{seconds:,.0f}' for seconds in reckoned)} s, reckoned\n")
    print("| seed | test accuracy | training, s | process, s | source's time / training |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for seed, run in enumerate(runs):
        print(f"| {seed} | {run.accuracy:.4f} | {run.training:.0f} | {run.process:.0f} | {whole / run.training:.0f} |")
    reached = sum(run.accuracy >= TARGET for run in runs)
    print(f"\n{reached} of {len(runs)} seeds reach {TARGET}.")


if __name__ == "__main__":
    main()
