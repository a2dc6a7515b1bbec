"""Learning curves: planted power laws are found, and what should not be believed says so."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import numpy as np
import program
import pytest

from cifar_exp import cli, exits
from cifar_exp.analysis import learning_curve
from cifar_exp.analysis.learning_curve import LearningCurve, Point, fit
from cifar_exp.errors import UserError

ODD = "digits (v2), by ann"  # a name that needs quotes for Hydra
SIZES = (500, 1000, 2000, 5000, 10_000, 20_000)


def planted(floor: float, scale: float, exponent: float, noise: float = 0.0, seed: int = 0) -> LearningCurve:
    generator = np.random.default_rng(seed)
    errors = [(n, floor + scale * n**-exponent + generator.normal(0, noise)) for n in SIZES for _ in range(3)]
    return fit([Point(n, error) for n, error in errors])


def test_a_planted_power_law_is_found() -> None:
    curve = planted(0.05, 8.0, 0.5)
    assert (curve.floor, curve.scale, curve.exponent) == pytest.approx((0.05, 8.0, 0.5), rel=1e-3)
    assert curve.predict(np.array([40_000.0]))[0] == pytest.approx(0.05 + 8 / 200, rel=1e-3)
    assert curve.doubts == []
    assert curve.words[1].startswith(f"Twice as many would bring about {1 - 0.05 - 8 / 200:.4f} (95 % interval")


def test_the_interval_mostly_holds_the_truth_and_grows_beyond_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_curve, "_RESAMPLED", 40)
    numbers = np.array([5000.0, 40_000.0, 400_000.0])
    truth, held = 0.05 + 8 * numbers**-0.5, 0
    for seed in range(12):
        low, high = planted(0.05, 8.0, 0.5, noise=0.01, seed=seed).interval(numbers)
        held += bool(low[1] < truth[1] < high[1])
        assert np.all(np.diff(high - low) > 0)
    assert held >= 8


@pytest.mark.parametrize(
    ("points", "doubt"),
    [
        ([(n, 0.4) for n in SIZES for _ in range(2)], "does not fall"),
        ([(n, 1 / n**0.5) for n in SIZES], "one run only"),
        ([(n, 1 / n**0.5) for n in SIZES[:3] for _ in range(2)], "3 sizes"),
        ([(n, 0.9 if n < 6000 else 0.1) for n in SIZES for _ in range(2)], "another form"),
    ],
)
def test_what_should_not_be_believed_says_so(points: list[tuple[int, float]], doubt: str) -> None:
    curve = fit([Point(*point) for point in points])
    assert any(doubt in reason for reason in curve.doubts)
    assert curve.words[-1].startswith("Do not rely on this: ")


def test_two_sizes_are_no_curve() -> None:
    with pytest.raises(UserError, match="at least 3 sizes of training data; got 2"):
        fit([Point(100, 0.5), Point(200, 0.4)])


def test_the_command_goes_on_with_a_sweep_and_writes_its_curve(tmp_path: Path) -> None:
    settings = ["data=digits", "model=dense", "training.epochs=1", "tracking.system_metrics=false"]
    for epochs in (2, 1):  # the first sweep is of other settings
        sweep = (f"training.epochs={epochs}", "sweep.name=curve", "data.train_images=30,130", "seed=0")
        begun = program.run(tmp_path, "-m", *settings, *sweep, f"tracking.experiment='{ODD}'")
        assert begun.returncode == 0, begun.stderr
    options = ["--shares", "0.02,0.1,0.4", "--seeds", "1", "--sweep", "curve", "--experiment", ODD]
    done = program.execute([*program.COMMAND, "learning-curve", *settings, *options], tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "learning_curve.json").read_text())
    assert [images for images, _ in content["points"]] == [30, 130, 520]
    runs = [run for run in program.runs(program.client(tmp_path)) if run.data.params.get("training.epochs") == "1"]
    assert len(runs) == 3  # the first two were not trained again
    logged = {run.data.params["data.train_images"]: run for run in runs}
    for images, error in content["points"]:
        assert error == pytest.approx(1 - logged[str(images)].data.metrics["test/accuracy"])
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "Do not rely on this: 3 sizes" in done.stdout


def test_ctrl_c_ends_the_sweep_and_logs_it_as_killed(tmp_path: Path) -> None:
    settings = ["data=digits", "model=dense", "training.epochs=100000", "tracking.system_metrics=false"]
    running = program.popen([*program.COMMAND, "learning-curve", *settings, "--seeds", "1"], tmp_path)
    assert running.stdout is not None
    assert any("epoch " in line for line in running.stdout)  # it trains
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 128 + signal.SIGINT, out + err
    assert "did not stop" not in out
    stopped = "cifar_exp: stopped"
    assert err.splitlines()[-2:] == [f"{stopped}; a run that had begun is logged as KILLED", stopped]
    assert [run.info.status for run in program.runs(program.client(tmp_path))] == ["KILLED", "KILLED"]


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ("nan,0.5,1", "expected shares above 0, up to 1"),
        ("0.5,1,2", "expected shares above 0, up to 1"),
        ("0.1,0.1,1", "at least 3 shares"),
        ("0.1,0.5,0.9999", "0.9999 are 129 images of each class, and one has only 125"),
    ],
)
def test_shares_that_make_no_curve_are_refused(
    shares: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exits, "take_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["cifar-exp", "learning-curve", "data=digits", "model=dense", "--shares", shares])
    assert cli.main() == 2
    assert "--shares" in (said := capsys.readouterr().err) and says in said and said.count("\n") == 1
