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
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VARIANTS = ("keras", "keras-no-onednn", "cifar_exp")
IMAGES = 50_000


def plain_keras(data: Path, epochs: int) -> None:
    """The notebook's cells; prints the time at the end of each epoch."""
    import keras
    from keras import layers

    from cifar_exp import cifar10

    files = cifar10.find(str(data), verify="size")
    train_images, train_labels = cifar10.read(files.folder, cifar10.TRAINING_FILES)
    test_images, test_labels = cifar10.read(files.folder, cifar10.TEST_FILES)
    scaled, scaled_test = train_images / 255.0, test_images / 255.0
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])

    class EpochEnds(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            print("epoch", time.time(), flush=True)

    callbacks = [EpochEnds()]
    model.fit(
        scaled,
        train_labels,
        epochs=epochs,
        validation_data=(scaled_test, test_labels),
        callbacks=callbacks,
        verbose=0,
    )


def epoch_ends_of_keras(data: Path, epochs: int, onednn: bool) -> list[float]:
    """Seconds since the epoch at which each epoch ended."""
    environment = os.environ | ({} if onednn else {"TF_ENABLE_ONEDNN_OPTS": "0"})
    command = [sys.executable, __file__, "--data", str(data), "--epochs", str(epochs), "--plain"]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return [float(line.split()[1]) for line in done.stdout.decode().splitlines() if line.startswith("epoch")]


def epoch_ends_of_cifar_exp(data: Path, epochs: int) -> list[float]:
    """Seconds since the epoch at which each epoch was logged."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        arguments = ["optimizer=adam", "training.batch_size=32", f"training.epochs={epochs}"]
        arguments += [f"data.dir={data}", "data.verify=size", "data.validation=test"]
        store = f"sqlite:///{folder}/mlflow.db"
        command = [sys.executable, "-m", "cifar_exp", *arguments, f"tracking.uri={store}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        client = MlflowClient(store)
        (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
        return [metric.timestamp / 1000 for metric in client.get_metric_history(run.info.run_id, "train/loss")]


def measure(variant: str, data: Path, epochs: int) -> float:
    """Images per second of one run of this variant."""
    if variant == "cifar_exp":
        ends = epoch_ends_of_cifar_exp(data, epochs)
    else:
        ends = epoch_ends_of_keras(data, epochs, onednn=variant == "keras")
    return IMAGES * (len(ends) - 1) / (ends[-1] - ends[0])


def main() -> None:
    """Run every variant once in each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    if arguments.plain:
        plain_keras(data, arguments.epochs)
        return
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
