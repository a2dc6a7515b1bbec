"""Compare the throughput of a whole run with plain Keras, in turn on the same machine.

    python benchmarks/throughput.py --data FOLDER [--rounds 3] [--epochs 4]

Every variant trains the baseline of the sources on CIFAR-10 with batch size 32 and Adam, validates on the test images
after each epoch, and runs in a process of its own. The variants run one after another in every round:

- keras: the code of the source notebook: float64 images, default settings of Keras and TensorFlow.
- keras-no-onednn: the same with oneDNN off, which is TensorFlow's default on processors without AVX-512.
- pytorch: the same network in PyTorch, channels last, images in memory, if PyTorch is installed.
- cifar_exp: `python -m cifar_exp`, tracking to MLflow included.
- cifar_exp-bfloat16: the same with training.precision=mixed_bfloat16.

The measured value is training images per second from the end of the first epoch to the end of the last one: training,
validation and, for cifar_exp, tracking, without imports and tracing. Prints a Markdown table of the median and range
over the rounds, and of the ratios in each round.
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
    """Images per second of one run of a variant."""
    epochs_measured = VARIANTS[variant](data, epochs)
    return IMAGES * (len(epochs_measured) - 1) / (epochs_measured[-1].ended - epochs_measured[0].ended)


def main() -> None:
    """Run every variant once per round and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
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
