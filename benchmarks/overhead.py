"""What a run does beside training, by what it is for, beside the import of TensorFlow and MLflow alone.

    python benchmarks/overhead.py --data FOLDER [--epochs 10]

Runs the sources' baseline once with a profile of the calls that are not training, in this process, into an SQLite store
in a temporary folder, and counts from the start of the process. Before and after, processes of their own import
TensorFlow and MLflow. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contenders
import psutil

from cifar_exp import composition, data, experiment, runtime


class Clock:
    """Seconds spent in calls, by what they are for; of the outermost only, in the thread that trains."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    def around(self, owner: Any, name: str, purpose: str) -> None:
        """Time every call of a function or method from now on."""
        call: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            if self._inside or threading.current_thread() is not threading.main_thread():
                return call(*arguments, **named)
            self._inside, began = True, time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self._inside = False
                self.seconds[purpose] = self.seconds.get(purpose, 0.0) + time.perf_counter() - began

        setattr(owner, name, timed)


def imports() -> float:
    """Seconds of a process that imports TensorFlow and MLflow and ends."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import tensorflow, mlflow"], check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def profile(data_folder: Path, epochs: int) -> dict[str, float]:
    """Seconds of a run from the start of this process, by purpose; those without a name are under 'else'."""
    overrides = ["data.verify=size", f"data.dir={data_folder}", f"training.epochs={epochs}"]
    (config,) = composition.plan(overrides, multirun=False).jobs
    clock = Clock()
    clock.around(data, "load", "loading the images")
    clock.around(runtime, "prepare", "importing TensorFlow")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        data.load(config.data)
        runtime.prepare(config.training, config.seed)
        import keras

        from cifar_exp import figures
        from cifar_exp.checkpoint import Checkpoints
        from cifar_exp.tracking import package
        from cifar_exp.tracking.journal import Journal
        from cifar_exp.tracking.run import Run

        clock.around(keras.Model, "evaluate", "validation")
        clock.around(keras.Model, "predict", "predicting the test images")
        clock.around(Journal, "append", "journal")
        clock.around(Run, "finish", "waiting for what is being sent, at the end")
        clock.around(Checkpoints, "save", "checkpoints")
        clock.around(package, "save", "packaging the model")
        for name in ("samples", "curves", "confusion_matrix", "predictions"):
            clock.around(figures, name, "drawing")
        result = experiment.run(config, experiment.Job(), Path(folder) / "run")
        whole = time.time() - psutil.Process().create_time()
        os.chdir("/")
    seconds = {"training steps": sum(result.history["train/epoch_seconds"]), **clock.seconds}
    return {"whole": whole, **seconds, "else": whole - sum(seconds.values())}


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.profile:
        imported = [imports(), imports()]
        subprocess.run([sys.executable, *sys.argv, "--profile"], check=True)
        imported += [imports(), imports()]
        print(f"\nImporting TensorFlow and MLflow alone: {contenders.median_and_range(imported)} s.")
        return
    seconds = profile(arguments.data.resolve(), arguments.epochs)
    print("\n| of the run | seconds | share |\n| --- | ---: | ---: |")
    for purpose, taken in seconds.items():
        print(f"| {purpose} | {taken:.2f} | {taken / seconds['whole']:.2%} |")
    computing = sum(seconds[purpose] for purpose in ("training steps", "validation", "predicting the test images"))
    print(f"\nBeside training and forward passes: {seconds['whole'] - computing:.2f} s.")


if __name__ == "__main__":
    main()
