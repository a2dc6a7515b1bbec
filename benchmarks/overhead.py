"""Profile what a run does in addition to training, compared with importing TensorFlow and MLflow only.

    python benchmarks/overhead.py --data FOLDER [--epochs 1] [--rounds 5]

Runs the baseline of the sources as `python -m cifar_exp` does, with an SQLite store in a temporary folder, and times
the calls that are not training, from the start of the process to its end. Before and after each run, another process
only imports TensorFlow and MLflow, and two others import this package and nothing. Prints Markdown with medians over
the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import contenders

from cifar_exp import __main__ as program
from cifar_exp.data import datasets
from cifar_exp.experiment import experiment
from cifar_exp.training import runtime

COMPUTING = ("training steps", "validation", "predicting the test and validation images")


class Clock:
    """Sums the seconds spent in calls by purpose. Counts only outermost calls in the main thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    def around(self, owner: Any, name: str, purpose: str) -> None:
        """Replace a function or method by one that times its calls."""
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


def imports(statement: str = "import tensorflow, mlflow") -> float:
    """Duration in seconds of a process that only imports."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", statement], check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def run(data_folder: Path, epochs: int) -> dict[str, float]:
    """Seconds of a run in a new process, by purpose; the rest is under 'else'."""
    script = [sys.executable, __file__, "--data", str(data_folder), "--epochs", str(epochs), "--profile"]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        done = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
        whole = time.monotonic() - began
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"whole": whole, **seconds, "else": whole - sum(seconds.values())}


def profile(data_folder: Path, epochs: int) -> dict[str, float]:
    """Seconds of a run in this process, by purpose."""
    clock = Clock()
    results: list[experiment.Result] = []
    prepare, run_experiment = runtime.prepare, experiment.run

    def prepare_and_time(*arguments: Any) -> None:
        prepare(*arguments)
        _time_keras_calls(clock)

    def run_and_keep(*arguments: Any) -> experiment.Result:
        results.append(run_experiment(*arguments))
        return results[-1]

    vars(runtime)["prepare"], vars(experiment)["run"] = prepare_and_time, run_and_keep
    clock.around(datasets, "load", "loading the images")
    clock.around(runtime, "prepare", "importing TensorFlow")
    sys.argv = ["cifar_exp", f"data.dir={data_folder}", "data.verify=size", f"training.epochs={epochs}"]
    if code := program.main():
        sys.exit(code)
    return {"training steps": sum(results[0].history["train/epoch_seconds"]), **clock.seconds}


def _time_keras_calls(clock: Clock) -> None:
    import keras

    from cifar_exp.evaluation import calibration, calibration_plot, image_grids, plots, style
    from cifar_exp.tracking.journal import Journal
    from cifar_exp.tracking.run import Run
    from cifar_exp.training.checkpoint import Checkpoints

    clock.around(keras.Model, "evaluate", "validation")
    clock.around(keras.Model, "predict", "predicting the test and validation images")
    clock.around(Journal, "append", "journal")
    clock.around(Run, "finish", "waiting for what is being sent, at the end")
    clock.around(Checkpoints, "save", "checkpoints")
    for name in ("scores", "fit_temperature", "scale", "reliability", "accuracy_at_coverage"):
        clock.around(calibration, name, "calibration")
    clock.around(calibration_plot, "calibration", "calibration")
    clock.around(plots, "curves", "drawing")
    clock.around(plots, "confusion_matrix", "drawing")
    clock.around(image_grids, "predictions", "drawing")
    clock.around(style, "to_png", "drawing")


def main() -> None:
    """Measure all rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.profile:
        print(json.dumps(profile(arguments.data, arguments.epochs)))
        return
    runs, imported, own = [], [imports()], []
    for _ in range(arguments.rounds):
        own.append(imports("import cifar_exp") - imports("pass"))
        runs.append(run(arguments.data.resolve(), arguments.epochs))
        imported.append(imports())
    print("\n| of the run | seconds, median (range) |\n| --- | ---: |")
    for purpose in runs[0]:
        print(f"| {purpose} | {contenders.median_and_range([seconds[purpose] for seconds in runs])} |")
    overheads = [seconds["whole"] - sum(seconds[purpose] for purpose in COMPUTING) for seconds in runs]
    neighbours = pairwise(imported)
    ratios = [overhead / statistics.mean(pair) for overhead, pair in zip(overheads, neighbours, strict=True)]
    print(f"\nBeside training and forward passes: {contenders.median_and_range(overheads)} s.")
    print(f"Importing TensorFlow and MLflow alone: {contenders.median_and_range(imported)} s.")
    print(f"Importing cifar_exp, beyond Python's own start: {contenders.median_and_range(own)} s.")
    print(f"Ratio, to the imports before and after it: {contenders.median_and_range(ratios)}.")


if __name__ == "__main__":
    main()
