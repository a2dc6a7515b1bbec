"""Commands on logged runs, from their arguments to what they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_slices import predictions

from cifar_exp import cli, exits
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]
LogPredicted = Callable[..., "Run"]
Answer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def answer(
    own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Answer:
    """answer("slices", ...) -> exit code, stdout and stderr of cifar-exp in the folder of the test."""
    monkeypatch.setattr(exits, "take_signals", lambda: None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        store = ("--uri", own_store.uri, "--experiment", own_store.experiment)
        monkeypatch.setattr(sys, "argv", ["cifar-exp", *arguments, *store])
        capsys.readouterr()
        code = cli.main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_run_without_a_slice_of_ten_images_has_slices_and_a_card(answer: Answer, log_predicted: LogPredicted) -> None:
    run = log_predicted("few", predictions(np.arange(12) % 2 == 0))
    code, out, err = answer("slices", run.info.run_id, "--dry-run")
    assert (code, err) == (0, "") and out.endswith("No slice has enough images.\n")
    code, out, err = answer("slices", run.info.run_id, "--json")
    assert (code, json.loads(out)) == (0, [])
    assert [line.partition(":")[0] for line in err.splitlines()] == ["By class only, without the images", "Logged"]
    assert answer("card", run.info.run_id, "--output", "card")[0] == 0
    page = Path("card", "card.md").read_text()
    assert "## Slices\n\nNo slice has enough images.\n\n" in page and "logged: calibration, robustness." in page


def test_an_ensemble_is_printed_as_json_alone_and_its_name_is_no_path(
    answer: Answer, log_trained: LogTrained, tmp_path: Path
) -> None:
    members = [log_trained(name).info.run_id for name in ("weak", "twin")]
    before = set(tmp_path.iterdir())
    for said in ("Logged: ../../out, run ", "Logged before: ../../out, run "):
        code, out, err = answer("ensemble", *members, "--no-select", "--json", "--name", "../../out")
        assert code == 0 and {row["run_id"] for row in json.loads(out)} == set(members)
        assert err.startswith(said) and err.count("\n") == 1
    assert set(tmp_path.iterdir()) - before == {tmp_path / "outputs"}
    assert len(list((tmp_path / "outputs" / "ensembles").iterdir())) == 1
