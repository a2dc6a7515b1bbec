"""Compare the throughput of a whole sweep with other ways to run the same jobs.

    python benchmarks/sweep.py --data FOLDER [--jobs 8] [--epochs 3] [--images 50000] [--rounds 3]
                               [--plain-jobs 8] [--contenders keras-no-onednn parallel]

Every contender trains the baseline of the sources on CIFAR-10 with batch size 32 and Adam, once per seed, with one seed
per job, and validates on the test images after each epoch. All contenders run one after another in every round:

- keras: the code of the source notebook, one process per job: float64 images, default settings, nothing logged.
- keras-no-onednn: the same with oneDNN off, which is TensorFlow's default on processors without AVX-512. Jobs of plain
  Keras are independent, so a few of them (--plain-jobs) are enough to measure their speed.
- basic: `python -m cifar_exp -m seed=...`, one job after another in one process, everything logged.
- joblib: the same with Hydra's joblib launcher, if it is installed, with one process per core.
- parallel: the same with hydra/launcher=parallel.
- parallel-bfloat16: the same as parallel with training.precision=mixed_bfloat16.

The measured value is training images per second of wall time, from the start of the command to its end, including
imports, Ray, tracking and reports. Prints a Markdown table of the median and range over the rounds, and of the ratio to
keras in each round.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contenders

PLAIN = {"keras": True, "keras-no-onednn": False}  # whether with oneDNN
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"],
    "parallel": ["hydra/launcher=parallel"],
    "parallel-bfloat16": ["hydra/launcher=parallel", "training.precision=mixed_bfloat16"],
}
TRAINING_IMAGES = 50_000


def keras(data: Path, jobs: int, epochs: int, images: int, onednn: bool) -> None:
    """Run the cells of the notebook once per job."""
    for _ in range(jobs):
        contenders.keras(data, epochs, onednn=onednn, images=images)


def cifar_exp(data: Path, jobs: int, epochs: int, images: int, launcher: list[str]) -> None:
    """Run a sweep over seeds with a temporary store."""
    settings = ["training.batch_size=32", f"training.epochs={epochs}", "data.validation=test", "data.verify=size"]
    settings += [f"data.dir={data}", f"seed={','.join(map(str, range(jobs)))}"]
    if images < TRAINING_IMAGES:
        settings.append(f"data.train_images={images}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cifar_exp", "-m", *settings, *launcher, "tracking.uri=sqlite:///mlflow.db"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode or done.stdout.count(" FINISHED ") != jobs:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}")


def measure(contender: str, data: Path, jobs: int, epochs: int, images: int) -> float:
    """Images per second of a contender's sweep."""
    began = time.monotonic()
    if contender in LAUNCHERS:
        cifar_exp(data, jobs, epochs, images, LAUNCHERS[contender])
    else:
        keras(data, jobs, epochs, images, PLAIN[contender])
    return jobs * epochs * images / (time.monotonic() - began)


def main() -> None:
    """Run every contender once per round and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=TRAINING_IMAGES, help="number of training images, a multiple of ten"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain-jobs", type=int, help="jobs of plain Keras (default: --jobs)")
    every = [*PLAIN, *LAUNCHERS]
    parser.add_argument("--contenders", nargs="+", choices=every, default=every, help="only these and keras")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    running = [name for name in every if name == "keras" or name in arguments.contenders]
    if "joblib" in running and importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        print("joblib is left out: pip install hydra-joblib-launcher", file=sys.stderr)
        running.remove("joblib")
    speeds: dict[str, list[float]] = {contender: [] for contender in running}
    for number in range(arguments.rounds):
        for contender in running:
            jobs = arguments.plain_jobs or arguments.jobs if contender in PLAIN else arguments.jobs
            speeds[contender].append(measure(contender, data, jobs, arguments.epochs, arguments.images))
            line = f"round {number + 1}  {contender}  {speeds[contender][-1]:,.0f} images/s"
            print(line, file=sys.stderr, flush=True)
    plain = f" ({arguments.plain_jobs} of plain Keras)" if arguments.plain_jobs else ""
    sweep = f"{arguments.jobs} jobs{plain}, {arguments.epochs} epochs of {arguments.images:,} images"
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {sweep}, {arguments.rounds} rounds\n")
    print("| contender | images/s, median (range) | contender / keras, median (range) |")
    print("| --- | --- | --- |")
    for contender, measured in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(measured, speeds["keras"], strict=True)]
        speed, ratio = contenders.median_and_range(measured, ",.0f"), contenders.median_and_range(ratios)
        print(f"| {contender} | {speed} | {ratio} |")


if __name__ == "__main__":
    main()
