"""Time cifar-exp evaluate on the test images of CIFAR-10: as they are, corrupted, and attacked.

    python benchmarks/robustness.py --data FOLDER [--epochs 1] [--epsilons 1,2,4,8]

Trains the baseline into an SQLite store in a temporary folder. Then each command evaluates it on all 10,000 images, in
a process of its own. Prints a Markdown table of wall and processor time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from many_runs import time_command


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--epsilons", default="1,2,4,8", help="of the attacks, of 255")
    arguments = parser.parse_args()
    images = (f"data.dir={arguments.data.resolve()}", "data.verify=size")
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        train = [sys.executable, "-m", "cifar_exp", *images, f"training.epochs={arguments.epochs}", "name=baseline"]
        subprocess.run([*train, f"tracking.uri={uri}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        print("| `cifar-exp evaluate RUN` | seconds | of the processor |")
        print("| --- | ---: | ---: |")
        for options in ((), ("--corrupt",), ("--attack", "--epsilons", arguments.epsilons)):
            seconds, used = time_command("evaluate", "baseline", *options, *images, "--uri", uri)
            print(f"| {' '.join(options) or 'alone'} | {seconds:.0f} | {used:.0f} |", flush=True)


if __name__ == "__main__":
    main()
