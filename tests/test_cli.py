"""cifar-exp as a program: what it answers, refuses and runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import program
import pytest

from cifar_exp import __version__, cli, exits
from cifar_exp.review import published
from cifar_exp.tracking.store import Store

ROOT = Path(__file__).parent.parent
TINY = """# @package _global_
defaults:
  - override /model: tiny
  - override /optimizer: sgd
  - override /data: digits
name: {name}
model: {{units: {units}}}
optimizer: {{learning_rate: {learning_rate}}}
training: {{epochs: {epochs}, start_from: {start_from}}}
reference: {{accuracy: 0.9, source: none}}
"""
MODEL = "{name: tiny, units: 1, layers: [Flatten, {Dense: {units: '${model.units}'}}, {Dense: {units: 10}}]}"


def started(folder: Path, *arguments: str) -> program.Started:
    return program.popen([*program.COMMAND, *arguments], folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")


def answer(folder: Path, *arguments: str) -> tuple[int, str, str]:
    running = started(folder, *arguments)
    out, err = running.communicate(timeout=program.TIMEOUT)
    return running.wait(), out, err


def tiny(folder: Path, name: str, units: int = 4, rate: float = 0.01, epochs: int = 1, start: str = "null") -> None:
    for group in ("experiment", "model"):
        (folder / group).mkdir(exist_ok=True)
    (folder / "model" / "tiny.yaml").write_text(MODEL)
    preset = TINY.format(name=name, units=units, learning_rate=rate, epochs=epochs, start_from=start)
    (folder / "experiment" / f"{name}.yaml").write_text(preset)


def refusal(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["cifar-exp", *arguments])
    before = {number: signal.getsignal(number) for number in exits.STOPPING}
    try:
        assert cli.main() == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cifar_exp: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "usage: cifar-exp "),
        (["--version"], f"cifar_exp {__version__}\n"),
        (["sources", "--help"], "usage: cifar-exp sources "),
    ],
)
def test_help_imports_nothing_that_takes_time(arguments: list[str], shown: str) -> None:
    program = f"""
import sys
from cifar_exp import cli
sys.argv = ["cifar-exp", *{arguments!r}]
try:
    cli.main()
except SystemExit as end:
    assert end.code == 0
assert not {{"keras", "tensorflow", "mlflow", "hydra", "pandas", "rich", "omegaconf"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["sauces"], "invalid choice: 'sauces'"),
        (["sources", "--rum"], "unrecognized arguments: --rum"),
        (["evaluate"], "the following arguments are required: RUN (see"),
        (["sources", "--run", "--csv"], "--csv: not allowed with argument --run"),
        (["sources", "data.verify=size"], "data.verify=size: overrides are for --run and --missing"),
        (["sources", "--only", "s0_wied"], "--only s0_wied: no such experiment; did you mean 's0_wide'?"),
        (["sources", "--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["report", "-o", "nowhere/a.html"], "argument -o/--output: nowhere/a.html: there is no folder nowhere (see"),
        (["data", "-o", "/"], "argument -o/--output: /: is a folder, expected a file"),
        (["mislabeled", "--save", "/proc/version/a.csv"], "argument --save: /proc/version/a.csv: there is no folder"),
        (["learning-curve", "-o", "/proc/version/a"], "/proc/version/a: /proc/version is a file, expected a folder"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(arguments, monkeypatch, capsys)


def test_an_experiment_that_does_not_compose_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny(tmp_path, "x_wrong", rate=-1)
    message = refusal(["sources", "--only", "x_*", "--config-dir", str(tmp_path)], monkeypatch, capsys)
    assert "(experiment=x_wrong): optimizer.learning_rate: got -1" in message


def test_missing_experiments_are_run_in_order_and_a_failure_does_not_stop_them(tmp_path: Path) -> None:
    tiny(tmp_path, "x_first", units=8)
    tiny(tmp_path, "x_second", units=8, start="x_first")
    tiny(tmp_path, "x_bad", rate=1e30)  # the cheapest; its loss is soon no number
    tiny(tmp_path, "x_bad_too", start="x_bad")
    ours = ("--config-dir", str(tmp_path), "--only", "x_*")
    code, out, err = answer(tmp_path, "sources", "--run", *ours, "tracking.system_metrics=false", "seed=3")
    assert code == 1, err
    started = [line.split()[1] for line in out.splitlines() if line.startswith("[") and "python -m" in line]
    assert started == ["x_bad", "x_first", "x_second"]
    assert "x_bad_too  skipped: there is no run of x_bad to start from" in out
    assert "2 of 4 have a run now." in out

    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "cifar10")
    runs = {run.params["name"]: run for run in published.finished(store)}
    assert set(runs) == {"x_first", "x_second"}
    assert runs["x_second"].params["training.start_from"] == runs["x_first"].id
    assert {run.params["seed"] for run in runs.values()} == {"3"}

    code, out, _ = answer(tmp_path, "sources", "--missing", *ours)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["x_bad", "x_bad_too"]
    assert f"python -m cifar_exp --config-dir {tmp_path} experiment=x_bad_too" in out


def test_ctrl_c_ends_the_run_that_is_going_and_logs_it_as_killed(tmp_path: Path) -> None:
    tiny(tmp_path, "x_long", epochs=100_000)
    running = started(tmp_path, "sources", "--run", "--config-dir", str(tmp_path), "--only", "x_long")
    assert running.stdout is not None
    for line in running.stdout:  # of the run, until it trains
        if "x_long  epoch" in line:
            break
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 128 + signal.SIGINT
    assert "did not stop" not in out, out + err
    assert [line for line in err.splitlines() if line.startswith("cifar_exp: ")] == [
        "cifar_exp: stopped; a run that had begun is logged as KILLED",
        "cifar_exp: stopped",
    ], out + err
    assert "Traceback" not in err
    client = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "cifar10").client
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert run.info.status == "KILLED"
