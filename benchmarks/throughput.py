"""Images per second of this project's whole run beside plain Keras, in turn on the same machine.

    python benchmarks/throughput.py --data FOLDER [--rounds 3] [--epochs 4]

Every variant trains the sources' baseline on CIFAR-10 at batch size 32 with Adam, validates on the test images
after each epoch, and runs in a process of its own, the variants one after another in every round:

- keras: as the source notebook writes it: float64 images, Keras's and TensorFlow's defaults.
- keras-no-onednn: the same with oneDNN off, which is TensorFlow's default on a processor without AVX-512.
- pytorch: the same network in PyTorch, channels last, images in memory; if that is installed.
- cifar_exp: `python -m cifar_exp`, tracking to MLflow included.
- cifar_exp-bfloat16: the same with training.precision=mixed_bfloat16.

The figure is training images per second from the end of the first epoch to the end of the last: training,
validation and, for cifar_exp, tracking of the epochs between; imports and tracing are left out. Prints a Markdown
table of the median and range over the rounds, and of the ratios, taken round by round.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import contenders

VARIANTS: dict[str, Callable[[Path, int], list[contenders.Epoch]]] = {
    "keras": contenders.keras,
    "keras-no-onednn": partial(contenders.keras, onednn=False),
    "pytorch": contenders.pytorch,
    "cifar_exp": contenders.cifar_exp,
    "cifar_exp-bfloat16": partial(contenders.cifar_exp, precision="mixed_bfloat16"),
}
OURS = ("cifar_exp", "cifar_exp-bfloat16")
IMAGES = 50_000


def measure(variant: str, data: Path, epochs: int) -> float:
    """Images per second of one run of this variant."""
    measured = VARIANTS[variant](data, epochs)
    return IMAGES * (len(measured) - 1) / (measured[-1].ended - measured[0].ended)


def main() -> None:
    """Run every variant once in each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    running = list(VARIANTS)
    if importlib.util.find_spec("torch") is None:
        print("pytorch is left out: pip install torch", file=sys.stderr)
        running.remove("pytorch")
    speeds: dict[str, list[float]] = {variant: [] for variant in running}
    for number in range(arguments.rounds):
        for variant in running:
            speeds[variant].append(measure(variant, data, arguments.epochs))
            print(f"round {number + 1}  {variant}  {speeds[variant][-1]:,.0f} images/s", file=sys.stderr, flush=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {arguments.rounds} rounds\n")
    print("| variant | images/s, median (range) |", *(f"{own} / variant, median (range) |" for own in OURS))
    print("| --- | --- |", *("--- |" for _ in OURS))
    for variant, measured in speeds.items():
        cells = [contenders.median_and_range(measured, ",.0f")]
        for own in OURS:
            ratios = [ours / theirs for ours, theirs in zip(speeds[own], measured, strict=True)]
            cells.append(contenders.median_and_range(ratios))
        print("|", variant, "|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
