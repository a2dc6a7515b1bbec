"""Test accuracy of this project's baseline, in single and in half precision, beside plain Keras's, over the same seeds.

    python benchmarks/accuracy.py --data FOLDER [--seeds 3] [--epochs 10] [--optimizer adam]

Prints a Markdown table: each seed's accuracy after the last epoch, their mean, and the mean of each run's best epoch.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

import contenders


def main() -> None:
    """Run every variant once for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--optimizer", default="adam", help="at its defaults: adam, sgd, adagrad, ...")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    half = partial(contenders.cifar_exp, precision="mixed_bfloat16")
    print("| variant | last epoch, by seed | mean | mean of best epochs |")
    print("| --- | --- | --- | --- |")
    for name, train in (("keras", contenders.keras), ("cifar_exp", contenders.cifar_exp), ("cifar_exp-bfloat16", half)):
        runs = [
            [epoch.accuracy for epoch in train(data, arguments.epochs, seed, optimizer=arguments.optimizer)]
            for seed in range(arguments.seeds)
        ]
        last, best = [run[-1] for run in runs], [max(run) for run in runs]
        by_seed = ", ".join(f"{accuracy:.4f}" for accuracy in last)
        print(f"| {name} | {by_seed} | {statistics.mean(last):.4f} | {statistics.mean(best):.4f} |", flush=True)


if __name__ == "__main__":
    main()
