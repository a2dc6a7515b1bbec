"""Training programs that the benchmarks compare, each run in a process of its own.

All networks train on CIFAR-10, with all 50,000 images unless stated otherwise. The baseline of the sources trains with
batch size 32 and validates on the test images after each epoch.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Epoch(NamedTuple):
    """The end of an epoch.

    Attributes:
        ended: time in seconds since 1970.
        accuracy: on the test images.
    """

    ended: float
    accuracy: float


def keras(
    data: Path,
    epochs: int,
    seed: int | None = None,
    onednn: bool = True,
    optimizer: str = "adam",
    images: int = 50_000,
) -> list[Epoch]:
    """Train the baseline in plain Keras, as in the source notebook: float64 images and default settings.

    Args:
        data: folder that contains cifar-10-batches-bin.
        epochs: number of epochs.
        seed: random seed; not set if `None`.
        onednn: whether TensorFlow uses oneDNN.
        optimizer: name of a Keras optimizer, used with its default arguments.
        images: number of training images.
    """
    environment = {} if onednn else {"TF_ENABLE_ONEDNN_OPTS": "0"}
    seed_argument = "" if seed is None else seed
    return _parse_epochs(
        _run_in_process("keras", data, epochs, seed_argument, optimizer, images, environment=environment)
    )


def pytorch(data: Path, epochs: int) -> list[Epoch]:
    """Train the baseline in PyTorch with Adam: images in memory, batches as slices, channels last."""
    return _parse_epochs(_run_in_process("pytorch", data, epochs))


def cifar_exp(
    data: Path, epochs: int, seed: int = 0, optimizer: str = "adam", precision: str = "float32"
) -> list[Epoch]:
    """Train the baseline with `python -m cifar_exp`."""
    arguments = [f"optimizer={optimizer}", "training.batch_size=32", f"training.epochs={epochs}", f"seed={seed}"]
    with logged(data, [*arguments, f"training.precision={precision}", "data.validation=test"]) as (client, run):
        accuracies = client.get_metric_history(run.info.run_id, "val/accuracy")
        return [Epoch(metric.timestamp / 1000, metric.value) for metric in accuracies]


@contextmanager
def logged(data: Path, arguments: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Run `python -m cifar_exp` with a temporary store; yields an MlflowClient and the logged run."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/mlflow.db"
        command = [sys.executable, "-m", "cifar_exp", *arguments, f"data.dir={data}", "data.verify=size"]
        subprocess.run([*command, f"tracking.uri={store}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        client = MlflowClient(store)
        (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
        yield client, run


def augmented(data: Path, epochs: int) -> list[tuple[float, float]]:
    """Time the epochs of notebook 3's network with dropout and augmentation.

    As in the notebook: plain Keras with default settings, its ImageDataGenerator, batch size 128, validation on the
    test images.

    Returns:
        For each epoch after the first: seconds of training, and seconds of training and validation.
    """
    lines = _run_in_process("augmented", data, epochs)
    return [(float(training), float(whole)) for training, whole in map(str.split, lines)]


def median_and_range(values: Sequence[float], spec: str = ".2f") -> str:
    """Format values as `median (minimum to maximum)`."""
    return f"{statistics.median(values):{spec}} ({min(values):{spec}} to {max(values):{spec}})"


def _run_in_process(name: str, *arguments: object, environment: dict[str, str] | None = None) -> list[str]:
    """Run this module's `_<name>` in a new process and return the lines it prints."""
    command = [sys.executable, __file__, name, *map(str, arguments)]
    variables = os.environ | (environment or {})
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return done.stdout.splitlines()


def _parse_epochs(lines: list[str]) -> list[Epoch]:
    epochs = [line.split() for line in lines if line.startswith("epoch")]
    return [Epoch(float(ended), float(accuracy)) for _, ended, accuracy in epochs]


def _read(data: str) -> tuple[Any, Any, Any, Any]:
    """Read training images (N, 32, 32, 3) and labels (N,), both uint8, then test images and labels."""
    from cifar_exp.data import cifar10

    folder = cifar10.find(data, verify="size").folder
    return *cifar10.read(folder, cifar10.TRAINING_FILES), *cifar10.read(folder, cifar10.TEST_FILES)


def _keras(data: str, epochs: str, seed: str, optimizer: str, images: str) -> None:
    """Run the cells of the notebook; print a line at the end of each epoch."""
    import keras
    from keras import layers

    train_images, train_labels, test_images, test_labels = _read(data)
    train_images, train_labels = train_images[: int(images)], train_labels[: int(images)]
    scaled, scaled_test = train_images / 255.0, test_images / 255.0
    if seed:
        keras.utils.set_random_seed(int(seed))
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
    model.fit(scaled, train_labels, epochs=int(epochs), validation_data=validation, callbacks=[EpochEnds()], verbose=0)


def _pytorch(data: str, epochs: str) -> None:
    """Train in PyTorch; print a line at the end of each epoch."""
    import torch
    from torch import nn

    def tensors(images: Any, labels: Any) -> tuple[Any, Any]:
        scaled = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        return scaled.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels.astype(np.int64))

    read = _read(data)
    (train_images, train_labels), (test_images, test_labels) = tensors(*read[:2]), tensors(*read[2:])
    convolutions = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3)]
    convolutions += [nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 64, 3), nn.ReLU()]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10))
    model.to(memory_format=torch.channels_last)
    optimizer, cross_entropy = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    for _ in range(int(epochs)):
        model.train()
        for batch in torch.randperm(len(train_images)).split(32):
            optimizer.zero_grad()
            cross_entropy(model(train_images[batch]), train_labels[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            batches = zip(test_images.split(32), test_labels.split(32), strict=True)
            correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in batches)
        print("epoch", time.time(), correct / len(test_labels), flush=True)


def _augmented(data: str, epochs: str) -> None:
    """Run the cells of notebook 3; print two durations for each epoch after the first."""
    import keras
    from keras import layers
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    images, labels, test_images, test_labels = _read(data)
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters in (48, 96, 192):
        model.add(layers.Conv2D(filters, (3, 3), padding="same", activation="relu"))
        model.add(layers.Conv2D(filters, (3, 3), activation="relu"))
        model.add(layers.MaxPooling2D(pool_size=(2, 2)))
        model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    for units in (512, 256):
        model.add(layers.Dense(units, activation="relu"))
        model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    generator = ImageDataGenerator(zoom_range=0.2, horizontal_flip=True)
    flow = generator.flow(images / 255, keras.utils.to_categorical(labels), batch_size=128)

    class Seconds(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_test_begin(self, logs: Any = None) -> None:
            self.trained = time.perf_counter() - self.began

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch:
                print(self.trained, time.perf_counter() - self.began, flush=True)

    validation = (test_images / 255, keras.utils.to_categorical(test_labels))
    model.fit(flow, epochs=1 + int(epochs), validation_data=validation, callbacks=[Seconds()], verbose=0)


if __name__ == "__main__":
    contenders: dict[str, Callable[..., None]] = {"keras": _keras, "pytorch": _pytorch, "augmented": _augmented}
    contenders[sys.argv[1]](*sys.argv[2:])
