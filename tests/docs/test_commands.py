"""Every command that the docs print is run or checked.

Commands are in `sh` blocks, or in backticks in the text. What trains for minutes is composed and checked as the
program does before it trains; commands of other programs are parsed by those programs. Run as they are printed: those
of the section 'From two runs to a champion', those in `RUN_HERE`, and in test_models.py those of docs/models.md. Run
with fewer images and epochs: those in `RUN_SMALL`, which train for minutes as they are printed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas
import program
import pytest
from pages import PAGES, ROOT, blocks
from PIL import Image
from printed import (
    check_extra,
    check_make,
    check_mlflow,
    check_program,
    check_pytest,
    check_script,
    parse_with_cli,
    printed,
    words,
)

from cifar_exp import cli, exits
from cifar_exp.config.composition import CONF, plan
from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError
from cifar_exp.review import promotion_records
from cifar_exp.tracking.store import Store

# Not run and not checked, with the reason; each is the beginning of a command.
UNCHECKED = {
    ". .venv/bin/activate": "a part of the shell",
    "export ": "sets variables of the shell",
    "grep -c avx512_bf16 /proc/cpuinfo": "tells what the processor is",
    "ssh -L 5000:127.0.0.1:5000 HOST": "opens a tunnel to another machine",
    ".venv/bin/python -m pip install pre-commit": "installs from the package index",
    ".venv/bin/pre-commit install": "of a tool that the project does not depend on; a test reads its configuration",
}

# Run here in a folder that holds the runs of the section below, with what each prints.
SECTION = "From two runs to a champion"
COMPARE_FILTERED = r'''cifar-exp compare --filter "params.seed = '0' AND metrics.\`test/accuracy\` > 0.7"'''
RUN_HERE = {
    "cifar-exp compare": "baseline-adam-epochs=8",
    COMPARE_FILTERED: "baseline-adam-epochs=8",
    "cifar-exp sync": "Nothing waits: 3 runs, all sent.",
    "cifar-exp sync --status": "Nothing waits: 3 runs, all sent.",
    "cifar-exp doctor --quick data=digits": "A run could start now.",
    "cifar-exp sources --missing --only 's2_*'": "s2_final    python -m cifar_exp experiment=s2_final",
}


RUN_SMALL = [
    "python -m cifar_exp optimizer=sgd optimizer.momentum=0.9 optimizer/schedule=one_cycle optimizer.learning_rate=0.1",
    "python -m cifar_exp augmentation.horizontal_flip=true augmentation.zoom=0.1 augmentation.fill=reflect",
    "python -m cifar_exp data=digits training.epochs=1 tracking.experiment=first_steps",
    "python -m cifar_exp experiment=s3_bn training.epochs=5 data=digits",
]
SMALL = {"data": "digits", "data.train_images": "100", "training.epochs": "1"}


def unchecked(command: str) -> bool:
    return command.startswith(tuple(UNCHECKED))


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in printed(page)))


def refused_commands() -> dict[str, set[str]]:
    """The commands that text blocks show with a refusal below, and what that says."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for command, said in re.findall(r"^\$ (.*)\n(cifar_exp: .*)$", page.read_text(), re.M):
            found.setdefault(command, set()).add(said)
    return found


REFUSED = refused_commands()


@pytest.fixture(scope="module")
def my_conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file of conf/ that the docs show."""
    folder = tmp_path_factory.mktemp("docs") / "my_conf"
    for page in PAGES:
        for language, content in blocks(page):
            if language == "yaml" and (name := re.search(r"^# conf/(\S+\.yaml)$", content, re.M)):
                path = folder / name.group(1)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
                assert not (CONF / name.group(1)).exists(), "the project's own would be found first"
    return folder


def make_images(folder: Path) -> None:
    """The image files that the commands of docs/data.md name."""
    for name in ("photos/cat/0.png", "photos/dog/1.png", "images/0.png", "images/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(folder / name)
    (folder / "labels.csv").write_text("id,label\n0,cat\n1,dog\n")
    content = [(folder / "images" / f"{i}.png").read_bytes() for i in range(2)]
    pandas.DataFrame({"image": content, "label": ["cat", "dog"]}).to_parquet(folder / "train.parquet")


@pytest.mark.parametrize("command", [command for command in COMMANDS if not unchecked(command)])
def test_a_printed_command_is_one_that_there_is(
    command: str, my_conf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = words(command)
    if {"data=folder", "data=csv", "data=parquet", "data=my_set"} & set(said):
        make_images(tmp_path)
        monkeypatch.chdir(tmp_path)
    if "hydra/launcher=slurm" in said:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra slurm")
    match said:
        case ["python", "-m", "cifar_exp", *arguments]:
            if command in REFUSED:
                with pytest.raises(UserError) as refused:
                    check_program(arguments, my_conf)
                assert {f"cifar_exp: {refused.value}"} == REFUSED[command]
            else:
                check_program(arguments, my_conf)
        case ["python", "-m", "cifar_exp.config.settings"]:
            pass  # tests/config/test_settings.py has what it prints
        case ["cifar-exp", name]:
            assert name in {module.__name__.rpartition(".")[2] for module in cli._COMMANDS}
        case ["cifar-exp", *arguments]:
            parsed = parse_with_cli(arguments, monkeypatch)
            plan([one for one in getattr(parsed, "overrides", []) if "=" in one], multirun=False)
        case ["python", script, *arguments] if script.startswith("benchmarks/"):
            check_script(script, arguments, monkeypatch)
        case ["make", *arguments]:
            check_make(arguments)
        case ["mlflow", *arguments]:
            check_mlflow(arguments)
        case ["docker/compose", *arguments]:
            assert os.access(ROOT / "docker" / "compose", os.X_OK)
            assert not arguments or arguments[0] in {"logs", "exec", "up", "down", "ps"}
        case ["pip", "install", requirement]:
            check_extra(requirement)
        case [".venv/bin/python", "-m", "pytest", *arguments]:
            check_pytest(arguments)
        case _:
            pytest.fail(f"no check for this command: {command}")


def test_every_exception_is_still_printed() -> None:
    assert [one for one in UNCHECKED if not any(command.startswith(one) for command in COMMANDS)] == []
    assert [one for one in (*RUN_HERE, *RUN_SMALL) if one not in COMMANDS] == []


def test_commands_that_take_minutes_run_with_fewer_images_and_epochs(tmp_path: Path) -> None:
    for command in RUN_SMALL:
        said = dict(word.split("=") for word in words(command)[3:])
        model = {} if "experiment" in said else {"model": "dense"}
        done = program.run(tmp_path, *(f"{key}={value}" for key, value in (said | SMALL | model).items()))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    runs = program.runs(program.client(tmp_path))
    assert [run.info.status for run in runs] == ["FINISHED"] * len(RUN_SMALL)
    assert [run.data.params["optimizer.schedule.name"] for run in runs] == [
        "one_cycle", "constant", "constant", "inverse_time",
    ]  # fmt: skip
    assert runs[1].data.params["augmentation.fill"] == "reflect"
    assert runs[3].data.params["model.name"] == "bn"


def section_commands() -> list[str]:
    """Of the first block of the section."""
    text = (ROOT / "docs" / "review.md").read_text().partition(f"\n## {SECTION}\n")[2]
    return re.findall(r"```sh\n(.*?)```", text, re.S)[0].splitlines()


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first command of the section was run."""
    folder = tmp_path_factory.mktemp("two_runs")
    done = program.run(folder, *words(section_commands()[0])[3:])
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """answer(folder, "cifar-exp ...") -> what it prints, run in this process, which saves importing MLflow again."""
    monkeypatch.setattr(exits, "take_signals", lambda: None)  # those of the tests stay theirs

    def run(folder: Path, command: str, *more: str) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [*words(command), *more])
        code = cli.main()
        said = capsys.readouterr()
        assert (code, said.err) == (0, ""), said
        return said.out

    return run


@pytest.mark.parametrize("command", RUN_HERE)
def test_a_command_on_logged_runs_prints_what_the_docs_say(
    command: str, two_runs: Path, answer: Callable[..., str]
) -> None:
    assert RUN_HERE[command] in answer(two_runs, command)


def test_the_commands_of_the_section_lead_from_two_runs_to_a_champion(
    two_runs: Path, answer: Callable[..., str]
) -> None:
    digits = datasets.load(DataConfig(name="digits"))
    Image.fromarray(digits.training.images[0]).save(two_runs / "my_digit.png")
    answers = {}
    for command in section_commands()[1:]:
        # The tests may run on code that is being written; without that, the reason has no effect.
        reason = ["--even-though", "uncommitted changes"] if "--approve" in command else []
        answers[command] = answer(two_runs, command, *reason)
    assert answers["cifar-exp review --queue"].startswith("2 runs wait, the oldest first:")
    assert f"my_digit.png: {digits.training.labels[0]}\n" in answers["cifar-exp predict my_digit.png"]
    champions = promotion_records.history(
        Store(f"sqlite:///{two_runs / 'mlflow.db'}", "cifar10"), "cifar10", "champion"
    )
    assert [one.run_name for one in champions] == ["baseline-adam-epochs=1", "baseline-adam-epochs=8"]
    assert champions[-1].now and "larger than chance" in champions[-1].why
