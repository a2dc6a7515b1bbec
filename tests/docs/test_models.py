"""The residual network of docs/models.md, added as a reader would: its files, commands and errors are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import program
import pytest
import yaml

from cifar_exp.config.composition import CONF, plan
from cifar_exp.config.plan import Plan
from cifar_exp.errors import UserError
from cifar_exp.training import models

PAGE = program.ROOT / "docs" / "models.md"
SECTION = "Add a model: a residual network"
NAME = "my_resnet"


def section() -> str:
    """The text below the heading, up to the end of the page."""
    return PAGE.read_text().partition(f"\n## {SECTION}\n")[2]


def blocks() -> list[str]:
    """The content of the fenced blocks."""
    return re.findall(r"^```\w*\n(.*?)^```$", section(), re.M | re.S)


def files() -> dict[str, str]:
    """The blocks that name the file they are, by that name below conf/."""
    named = [(re.search(r"^# conf/(\S+\.yaml)$", block, re.M), block) for block in blocks()]
    return {found.group(1): block for found, block in named if found}


def commands() -> list[list[str]]:
    """The arguments of each command."""
    prefix = "python -m cifar_exp "
    lines = [line for block in blocks() for line in block.splitlines() if line.startswith(prefix)]
    return [shlex.split(line.removeprefix(prefix)) for line in lines]


def planned(folder: Path, arguments: list[str]) -> Plan:
    """The jobs of this command line."""
    overrides = [argument for argument in arguments if argument not in ("-m", "--cfg", "job", "--resolve")]
    return plan(overrides, "-m" in arguments, str(folder))


@pytest.fixture
def my_conf(tmp_path: Path) -> Path:
    """A folder with the files of the section."""
    for name, content in files().items():
        path = tmp_path / "my_conf" / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    return tmp_path / "my_conf"


def test_the_section_has_a_model_a_preset_and_commands() -> None:
    assert list(files()) == [f"model/{NAME}.yaml", f"experiment/{NAME}.yaml"]
    assert len(commands()) == 6
    for group in ("model", "experiment"):  # the project itself has no such file, which would be found first
        assert not (CONF / group / f"{NAME}.yaml").exists()
        assert f"`conf/{group}/{NAME}.yaml`" in section()


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_composes(my_conf: Path, arguments: list[str]) -> None:
    jobs = planned(my_conf, arguments).jobs
    assert {job.model.name for job in jobs} == {NAME}
    assert (len(jobs) > 1) == ("-m" in arguments)


def test_the_network_is_what_the_page_says(my_conf: Path) -> None:
    (config,) = planned(my_conf, [f"model={NAME}"]).jobs
    model, rows = models.build(config.model, config.data.image_shape)
    assert f"It reports {model.count_params():,} parameters." in section()
    assert [(row.shape, row.shortcut) for row in rows if row.name == "Add"] == [
        ("32 x 32 x 16", 0),
        ("16 x 16 x 32", 2),
        ("8 x 8 x 64", 2),
    ]
    assert model.output_shape == (None, 10)


def test_its_knobs_are_the_jobs_of_the_sweep(my_conf: Path) -> None:
    (arguments,) = (command for command in commands() if "-m" in command and f"model={NAME}" in command)
    knobs = [dict(job.model.knobs) for job in planned(my_conf, arguments).jobs]
    widths = ([16, 32, 64], [32, 64, 128])
    assert knobs == [{"widths": width, "dropout": dropout} for width in widths for dropout in (0, 0.2)]
    sizes = {
        models.build(job.model, job.data.image_shape)[0].count_params() for job in planned(my_conf, arguments).jobs
    }
    assert len(sizes) == 2


def test_the_preset_is_what_it_says_and_what_is_added_wins(my_conf: Path) -> None:
    (config,) = planned(my_conf, [f"experiment={NAME}"]).jobs
    assert (config.name, config.optimizer.name, config.optimizer.schedule.name) == (NAME, "sgd", "one_cycle")
    assert (config.augmentation.name, config.training.epochs, config.training.batch_size) == ("flip_crop", 30, 128)
    (arguments,) = (command for command in commands() if "-m" in command and f"experiment={NAME}" in command)
    jobs = planned(my_conf, arguments).jobs
    assert [job.seed for job in jobs] == [0, 1, 2]
    assert all(job.model.knobs["widths"] == [32, 64, 128] for job in jobs)


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param((r"BatchNormalization", "BatchNormalisation"), id="misspelled"),
        pytest.param((r"      shortcut:\n(        .*\n)+", ""), id="no shortcut"),
        pytest.param((r"units: 10}$", "units: 10, activation: softmax}"), id="softmax"),
    ],
)
def test_its_errors_are_those_that_the_page_shows(my_conf: Path, mistake: tuple[str, str]) -> None:
    path = my_conf / "model" / f"{NAME}.yaml"
    wrong, count = re.subn(*mistake, path.read_text(), count=1)
    assert count == 1
    path.write_text(wrong)
    with pytest.raises(UserError) as refused:
        planned(my_conf, [f"model={NAME}"])
    assert f"cifar_exp: {refused.value}" in [line for block in blocks() for line in block.splitlines()]


def test_the_program_shows_it_and_trains_it_by_the_commands_of_the_page(my_conf: Path, tmp_path: Path) -> None:
    show, train = (["--config-dir", str(my_conf), *arguments] for arguments in commands()[:2])
    assert "--cfg" in show and {"data=digits", "training.epochs=1"} <= set(train)
    shown = program.run(tmp_path, *show)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert yaml.safe_load(shown.stdout)["model"]["layers"][0]["Conv2D"]["filters"] == 16

    done = program.run(tmp_path, *train)
    assert (done.returncode, done.stderr) == (0, "")
    run = program.only_run(tmp_path)
    assert f"{run.data.metrics['model/parameters']:,.0f} parameters" in section()
    assert run.data.metrics["test/accuracy"] > 0.3  # of ten classes
    client = program.client(tmp_path)
    assert "model/diagram.svg" in program.artifacts(client, run.info.run_id)
    assert list(tmp_path.glob("outputs/runs/*/artifacts/model/diagram.svg"))
