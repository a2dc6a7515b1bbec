"""What the benchmarks compare: the sources' baseline in plain Keras, and in this project, each in its own process.

Both train on all 50,000 images, unless told otherwise, at batch size 32, and validate on the test images after each
epoch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple


class Epoch(NamedTuple):
    """When an epoch ended, in seconds since 1970, and the accuracy on the test images then."""

    ended: float
    accuracy: float


def keras(
    data: Path, epochs: int, seed: int = 0, onednn: bool = True, optimizer: str = "adam", images: int = 50_000
) -> list[Epoch]:
    """Plain Keras, as the source notebook writes it: float64 images, defaults throughout."""
    environment = os.environ | ({} if onednn else {"TF_ENABLE_ONEDNN_OPTS": "0"})
    command = [sys.executable, __file__, str(data), str(epochs), str(seed), optimizer, str(images)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lines = [line.split() for line in done.stdout.decode().splitlines() if line.startswith("epoch")]
    return [Epoch(float(ended), float(accuracy)) for _, ended, accuracy in lines]


def cifar_exp(data: Path, epochs: int, seed: int = 0, optimizer: str = "adam") -> list[Epoch]:
    """`python -m cifar_exp`, logging to a store of its own."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"optimizer={optimizer}", "training.batch_size=32", f"training.epochs={epochs}", f"seed={seed}"]
        arguments += [f"data.dir={data}", "data.verify=size", "data.validation=test"]
        store = f"sqlite:///{folder}/mlflow.db"
        command = [sys.executable, "-m", "cifar_exp", *arguments, f"tracking.uri={store}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        client = MlflowClient(store)
        (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
        logged = client.get_metric_history(run.info.run_id, "val/accuracy")
        return [Epoch(metric.timestamp / 1000, metric.value) for metric in logged]


def _train_plain_keras(data: Path, epochs: int, seed: int, optimizer: str, images: int) -> None:
    """The notebook's cells; prints a line at the end of each epoch."""
    import keras
    from keras import layers

    from cifar_exp import cifar10

    files = cifar10.find(str(data), verify="size")
    train_images, train_labels = cifar10.read(files.folder, cifar10.TRAINING_FILES)
    test_images, test_labels = cifar10.read(files.folder, cifar10.TEST_FILES)
    train_images, train_labels = train_images[:images], train_labels[:images]
    scaled, scaled_test = train_images / 255.0, test_images / 255.0
    keras.utils.set_random_seed(seed)
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
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])

    class EpochEnds(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            print("epoch", time.time(), logs["val_accuracy"], flush=True)

    validation = (scaled_test, test_labels)
    model.fit(scaled, train_labels, epochs=epochs, validation_data=validation, callbacks=[EpochEnds()], verbose=0)


if __name__ == "__main__":
    _train_plain_keras(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
