"""How long a sweep takes to plan: every job composed and checked before the first one runs.

    python benchmarks/planning.py [--rounds 3] [--jobs 10000]

Refuses sweeps of 10 and of 1,000 jobs for their last job, side by side, and plans one of so many jobs as a process of
its own. The jobs differ in one value. Prints a Markdown table: medians over the rounds with their range, and ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import contenders

from cifar_exp.config import composition
from cifar_exp.errors import UserError

FEW, MANY = 10, 1_000
WHOLE = """
import resource, sys, time
from cifar_exp.config import composition
began = time.monotonic()
jobs = int(sys.argv[1])
assert len(composition.plan([f"seed=range(0,{jobs})"], multirun=True).jobs) == jobs
print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def refuse(key: str, jobs: int) -> float:
    """Seconds until a sweep is refused for its last job."""
    values = ",".join([*(str(number) for number in range(1, jobs)), "wrong"])
    began = time.monotonic()
    try:
        composition.plan([f"{key}={values}"], multirun=True)
    except UserError as error:
        if str(error).startswith(f"job {jobs} of {jobs} "):
            return time.monotonic() - began
        raise
    raise AssertionError("the sweep was not refused")


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=10_000)
    arguments = parser.parse_args()
    refuse("seed", FEW)  # what Hydra does once a process
    print("| refused for the last job | 10 jobs, seconds | 1,000 jobs, seconds | ratio |\n| --- | ---: | ---: | ---: |")
    for key in ("seed", "optimizer.learning_rate", "model.dense_units"):
        pairs = [(refuse(key, FEW), refuse(key, MANY)) for _ in range(arguments.rounds)]
        columns = [[few for few, _ in pairs], [many for _, many in pairs], [many / few for few, many in pairs]]
        print(f"| {key} | {' | '.join(contenders.median_and_range(column) for column in columns)} |")
    seconds, gigabytes = [], []
    for _ in range(arguments.rounds):
        command = [sys.executable, "-c", WHOLE, str(arguments.jobs)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        taken, held = done.stdout.splitlines()[-1].split()
        seconds.append(float(taken))
        gigabytes.append(float(held))
    print(f"\n{arguments.jobs:,} jobs: {contenders.median_and_range(seconds)} s, at most {max(gigabytes):.2f} GB.")
    print(f"A job: {statistics.median(seconds) / arguments.jobs * 1000:.2f} ms.")


if __name__ == "__main__":
    main()
