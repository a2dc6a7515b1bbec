"""Compare the test accuracy of this project's baseline with plain Keras, over several runs of each.

    python benchmarks/accuracy.py --data FOLDER [--seeds 3] [--epochs 10] [--optimizer adam]

- keras: the code of the source notebook, which sets no seed.
- keras-seeded: the same after keras.utils.set_random_seed. Keras on TensorFlow then shuffles to the same order in every
  epoch.
- cifar_exp: `python -m cifar_exp`, whose order of images depends on the seed and the epoch.
- cifar_exp-bfloat16: the same with training.precision=mixed_bfloat16.

Prints a Markdown table: each run's accuracy after the last epoch, their mean, and the mean of each run's best epoch.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import contenders

VARIANTS: dict[str, Callable[..., list[contenders.Epoch]]] = {
    "keras": lambda data, epochs, seed, optimizer: contenders.keras(data, epochs, optimizer=optimizer),
    "keras-seeded": contenders.keras,
    "cifar_exp": contenders.cifar_exp,
    "cifar_exp-bfloat16": partial(contenders.cifar_exp, precision="mixed_bfloat16"),
}


def main() -> None:
    """Run every variant once per seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--optimizer", default="adam", help="with its default arguments: adam, sgd, adagrad, ...")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    print("| variant | last epoch, by run | mean | mean of best epochs |")
    print("| --- | --- | --- | --- |")
    for name, train in VARIANTS.items():
        runs = [
            [epoch.accuracy for epoch in train(data, arguments.epochs, seed=seed, optimizer=arguments.optimizer)]
            for seed in range(arguments.seeds)
        ]
        last, best = [run[-1] for run in runs], [max(run) for run in runs]
        by_run = ", ".join(f"{accuracy:.4f}" for accuracy in last)
        print(f"| {name} | {by_run} | {statistics.mean(last):.4f} | {statistics.mean(best):.4f} |", flush=True)


if __name__ == "__main__":
    main()
