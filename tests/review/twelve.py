"""A real sweep of twelve runs, which tests read and do not change, and the command line on its store."""

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
    """Two models, two optimizers and three seeds, on the digits."""

    folder: Path  # that it was started in
    store: Store
    done: program.Done

    @classmethod
    def train(cls, folder: Path) -> Twelve:
        """Start it there, and wait for its end."""
        command = [*program.PROGRAM, *SWEEP, "training.epochs=2", "tracking.system_metrics=false"]
        done = program.execute(command, folder, seconds=3 * program.TIMEOUT)
        assert done.returncode == 0, done.stderr
        return cls(folder, Store(f"sqlite:///{folder / 'mlflow.db'}", "cifar10"), done)

    def answer(self, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
        """What `cifar-exp ARGUMENTS` prints of this store, and its errors."""
        store = () if "--uri" in arguments else ("--uri", self.store.uri)
        before, argv = signal.getsignal(signal.SIGTERM), sys.argv
        sys.argv = ["cifar-exp", *arguments, *store]
        try:
            ended = cli.main()
        finally:
            sys.argv = argv
            signal.signal(signal.SIGTERM, before)
        out, err = capsys.readouterr()
        assert ended == code, err
        return out, err
