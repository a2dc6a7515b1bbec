"""A real sweep of twelve runs that tests read but do not change, and cifar-exp on its store."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import program
import pytest

from cifar_exp import cli
from cifar_exp.tracking.store import Store

NAME = "twelve"
SWEEP = ("-m", "model=baseline,one_conv", "optimizer=sgd,adam", "seed=0,1,2", "data=digits", f"sweep.name={NAME}")


@dataclass(frozen=True)
class Twelve:
    """A finished sweep of two models, two optimizers and three seeds on the digits."""

    folder: Path  # in which it was started
    store: Store
    done: program.Done

    @classmethod
    def train(cls, folder: Path) -> Twelve:
        """Run the sweep in a folder."""
        small = ("data.train_images=400", "training.epochs=2", "tracking.system_metrics=false")
        command = [*program.PROGRAM, *SWEEP, *small]
        done = program.execute(command, folder, seconds=3 * program.TIMEOUT)
        assert done.returncode == 0, done.stderr
        return cls(folder, Store(f"sqlite:///{folder / 'mlflow.db'}", "cifar10"), done)

    def answer(self, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run `cifar-exp ARGUMENTS` on this store in this process; return its standard output and standard error."""
        store = () if "--uri" in arguments else ("--uri", self.store.uri)
        before, argv = signal.getsignal(signal.SIGTERM), sys.argv
        sys.argv = ["cifar-exp", *arguments, *store]
        try:
            exit_code = cli.main()
        finally:
            sys.argv = argv
            signal.signal(signal.SIGTERM, before)
        out, err = capsys.readouterr()
        assert exit_code == code, err
        return out, err
