"""The guide's way from two runs to a champion: every command, as it is written."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import program
from PIL import Image

from cifar_exp.config.schema import DataConfig
from cifar_exp.data import datasets
from cifar_exp.review import promotion
from cifar_exp.tracking.store import Store

GUIDE = Path(__file__).parent.parent / "docs" / "guide.md"
SECTION = "From two runs to a champion"
MODULES = {"python": ["-m", "cifar_exp"], "cifar-exp": ["-m", "cifar_exp.cli"]}


def commands() -> list[list[str]]:
    (section,) = re.findall(rf"^## {SECTION}\n(.*?)^## ", GUIDE.read_text(), re.M | re.S)
    lines = re.findall(r"^    (.+)$", section, re.M)
    return [shlex.split(line) for line in lines if line.startswith(("python", "cifar-exp"))]


def test_its_commands_lead_from_two_runs_to_a_champion(tmp_path: Path) -> None:
    digits = datasets.load(DataConfig(name="digits"))
    Image.fromarray(digits.training.images[0]).save(tmp_path / "my_digit.png")
    answers = {}
    for name, *arguments in commands():
        own = arguments[2:] if name == "python" else arguments
        # The tests may run on code that is being written; without that, the reason has no effect.
        reason = ["--even-though", "uncommitted changes"] if "--approve" in own else []
        done = program.execute([sys.executable, *MODULES[name], *own, *reason], tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), (own, done.stderr, done.stdout)
        answers[" ".join(own)] = done.stdout
    assert answers["review --queue"].startswith("2 runs wait, the oldest first:")
    assert f"my_digit.png: {digits.training.labels[0]}\n" in answers["predict my_digit.png"]
    champions = promotion.history(Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "cifar10"), "cifar10", "champion")
    assert [one.run_name for one in champions] == ["baseline-adam-epochs=1", "baseline-adam-epochs=8"]
    assert champions[-1].now and "larger than chance" in champions[-1].why
