"""Time to the sources' best accuracy, 0.8342 on the test images: experiment=speedrun beside the recipe that reached it.

    python benchmarks/speedrun.py --data FOLDER [--seeds 5] [--steps 300] [--experiment speedrun]

- source: notebook 3's network with dropout as it is written there: plain Keras with its defaults and its
  ImageDataGenerator, 100 epochs at batch size 128. So many steps are timed, after a first hundred; the time of all is
  reckoned from them.
- ours: `python -m cifar_exp experiment=speedrun`, a process for each seed: train/seconds, the steps of all epochs with
  their compilation, without validation, as for the source; and the seconds of the whole process.

Prints a Markdown table.
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
from typing import NamedTuple

TARGET = 0.8342
EPOCHS, BATCH, IMAGES = 100, 128, 50_000  # of the source
WARM_UP = 100  # steps


class Speedrun(NamedTuple):
    """What one seed came to."""

    accuracy: float
    training: float
    process: float
    """Seconds."""


def source(data: Path, steps: int) -> float:
    """Seconds that the source's recipe takes in all."""
    command = [sys.executable, __file__, "--data", str(data), "--steps", str(steps), "--source"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return float(done.stdout.split()[-1]) * EPOCHS * -(-IMAGES // BATCH)


def ours(data: Path, experiment: str, seed: int) -> Speedrun:
    """One run of ours, logging to a store of its own."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/mlflow.db"
        arguments = [f"experiment={experiment}", f"seed={seed}", f"data.dir={data}", "data.verify=size"]
        began = time.monotonic()
        command = [sys.executable, "-m", "cifar_exp", *arguments, f"tracking.uri={store}"]
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
        process = time.monotonic() - began
        client = MlflowClient(store)
        (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
        return Speedrun(run.data.metrics["test/accuracy"], run.data.metrics["train/seconds"], process)


def _time_source(data: Path, steps: int) -> None:
    """Prints the seconds of a step."""
    import keras
    from keras import layers
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    from cifar_exp import cifar10

    files = cifar10.find(str(data), verify="size")
    images, labels = cifar10.read(files.folder, cifar10.TRAINING_FILES)
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
    flow = generator.flow(images / 255, keras.utils.to_categorical(labels), batch_size=BATCH)
    model.fit(flow, steps_per_epoch=WARM_UP, epochs=1, verbose=0)
    began = time.perf_counter()
    model.fit(flow, steps_per_epoch=steps, epochs=1, verbose=0)
    print((time.perf_counter() - began) / steps)


def main() -> None:
    """The source before and after ours, which run one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300, help="of the source's, to be timed")
    parser.add_argument("--experiment", default="speedrun")
    parser.add_argument("--source", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    if arguments.source:
        _time_source(data, arguments.steps)
        return
    reckoned = [source(data, arguments.steps)]
    print(f"source: {reckoned[0]:,.0f} s", file=sys.stderr, flush=True)
    runs = []
    for seed in range(arguments.seeds):
        runs.append(ours(data, arguments.experiment, seed))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr, flush=True)
    reckoned.append(source(data, arguments.steps))
    whole = statistics.mean(reckoned)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print(f"source's recipe, {EPOCHS} epochs: {' and '.join(f'{seconds:,.0f}' for seconds in reckoned)} s, reckoned\n")
    print("| seed | test accuracy | training, s | process, s | source's time / training |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for seed, run in enumerate(runs):
        print(f"| {seed} | {run.accuracy:.4f} | {run.training:.0f} | {run.process:.0f} | {whole / run.training:.0f} |")
    reached = sum(run.accuracy >= TARGET for run in runs)
    print(f"\n{reached} of {len(runs)} seeds reach {TARGET}.")


if __name__ == "__main__":
    main()
