"""What a run does beside training, as a share of the whole: the journal, the pictures, the model, the evaluation.

    python benchmarks/overhead.py --data FOLDER [--epochs 10]

Runs the sources' baseline once with a profile of the calls that are not training, in this process, into an SQLite store
in a temporary folder. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    overrides = ["data.verify=size", f"data.dir={arguments.data.resolve()}", f"training.epochs={arguments.epochs}"]
    (config,) = composition.plan(overrides, multirun=False).jobs
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        clock = Clock()
        data.load(config.data)
        runtime.prepare(config.training, config.seed)
        from cifar_exp import evaluation, figures
        from cifar_exp.checkpoint import Checkpoints
        from cifar_exp.tracking import package
        from cifar_exp.tracking.journal import Journal
        from cifar_exp.tracking.run import Run

        clock.around(Journal, "append", "journal")
        clock.around(Run, "finish", "waiting for what is being sent, at the end")
        clock.around(Checkpoints, "save", "checkpoints")
        clock.around(evaluation, "evaluate", "predicting the test images")
        clock.around(package, "save", "packaging the model")
        for name in ("samples", "curves", "confusion_matrix", "predictions"):
            clock.around(figures, name, "drawing")
        began = time.perf_counter()
        result = experiment.run(config, experiment.Job(), Path(folder) / "run")
        whole = time.perf_counter() - began
        os.chdir("/")
    trained = sum(result.history["train/epoch_seconds"])
    print("\n| of the run | seconds | share |\n| --- | --- | --- |")
    for purpose, seconds in {"whole": whole, "training steps": trained, **clock.seconds}.items():
        print(f"| {purpose} | {seconds:.2f} | {seconds / whole:.2%} |")


if __name__ == "__main__":
    main()
