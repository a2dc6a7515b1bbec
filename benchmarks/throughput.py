"""Images per second of this project's whole run beside plain Keras, in turn on the same machine.

    python benchmarks/throughput.py --data FOLDER [--rounds 3] [--epochs 4]

Every variant trains the sources' baseline on CIFAR-10 at batch size 32 with Adam, validates on the test images
after each epoch, and runs in a process of its own, the variants one after another in every round:

- keras: as the source notebook writes it: float64 images, Keras's and TensorFlow's defaults.
- keras-no-onednn: the same with oneDNN off, which is TensorFlow's default on a processor without AVX-512.
- cifar_exp: `python -m cifar_exp`, tracking to MLflow included.

The figure is training images per second from the end of the first epoch to the end of the last: training,
validation and, for cifar_exp, tracking of the epochs between; imports and tracing are left out. Prints a Markdown
table of the median and range over the rounds and of the ratio, taken round by round.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from pathlib import Path

import contenders

VARIANTS = ("keras", "keras-no-onednn", "cifar_exp")
IMAGES = 50_000


def measure(variant: str, data: Path, epochs: int) -> float:
    """Images per second of one run of this variant."""
    if variant == "cifar_exp":
        measured = contenders.cifar_exp(data, epochs)
    else:
        measured = contenders.keras(data, epochs, onednn=variant == "keras")
    return IMAGES * (len(measured) - 1) / (measured[-1].ended - measured[0].ended)


def main() -> None:
    """Run every variant once in each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    speeds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(arguments.rounds):
        for variant in VARIANTS:
            speeds[variant].append(measure(variant, data, arguments.epochs))
            print(f"round {number + 1}  {variant}  {speeds[variant][-1]:,.0f} images/s", file=sys.stderr, flush=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {arguments.rounds} rounds\n")
    print("| variant | images/s, median (range) | cifar_exp / variant, median (range) |")
    print("| --- | --- | --- |")
    for variant, measured in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["cifar_exp"], measured, strict=True)]
        speed = f"{statistics.median(measured):,.0f} ({min(measured):,.0f} to {max(measured):,.0f})"
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {variant} | {speed} | {ratio} |")


if __name__ == "__main__":
    main()
