"""Command lines: what they compose to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig

from cifar_exp.config import loader
from cifar_exp.config.composition import _JOB_NAME, CONF, plan
from cifar_exp.config.optimizer_schema import OPTIMIZER_ARGUMENTS, SCHEDULE_ARGUMENTS
from cifar_exp.config.schema import Config
from cifar_exp.data.schema import FILES
from cifar_exp.errors import UserError

Compose = Callable[..., Config]

MODEL = """
name: {name}
width: 16
layers:
  - Conv2D: {{filters: "${{model.width}}", kernel_size: 3}}
  - Flatten
  - Dense: {{units: 10}}
"""


@pytest.fixture
def own_models(tmp_path: Path) -> str:
    """A --config-dir with two models that have a knob of their own."""
    folder = tmp_path / "own" / "model"
    folder.mkdir(parents=True)
    for name in ("narrow", "wide"):
        (folder / f"{name}.yaml").write_text(MODEL.format(name=name))
    return str(folder.parent)


def choices(group: str) -> Sequence[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


# Every model, optimizer and experiment is composed by the tests of what it makes.
@pytest.mark.parametrize("group", ["data", "augmentation", "training", "tracking"])
def test_every_choice_of_a_group_composes_under_its_own_name(compose: Compose, group: str) -> None:
    assert choices(group)
    for choice in choices(group):
        if group == "data" and choice in FILES:
            with pytest.raises(
                UserError, match=rf"^data\.(dir|file): data={choice} needs the "
            ):  # nothing can be read without
                compose(f"data={choice}")
            continue
        node = getattr(compose(f"{group}={choice}"), group)
        assert getattr(node, "name", choice) == choice


def test_there_is_a_file_for_every_optimizer_and_schedule() -> None:
    assert choices("optimizer") == sorted(OPTIMIZER_ARGUMENTS)
    assert choices("optimizer/schedule") == sorted(SCHEDULE_ARGUMENTS)


@pytest.mark.parametrize("schedule", sorted(SCHEDULE_ARGUMENTS))
def test_every_schedule_goes_with_an_optimizer(compose: Compose, schedule: str) -> None:
    config = compose("optimizer=sgd", f"optimizer/schedule={schedule}")
    assert (config.optimizer.name, config.optimizer.schedule.name) == ("sgd", schedule)


def test_a_command_line_without_sweep_is_one_job() -> None:
    planned = plan(["seed=3", "training.epochs=2"], multirun=False)
    assert [job.seed for job in planned.jobs] == [3]
    assert planned.overrides == (("seed=3", "training.epochs=2"),)
    assert (planned.folder, planned.sweep_name, planned.varies, planned.arguments) == (None, "", (), [])


def test_a_sweep_is_every_combination_in_order() -> None:
    planned = plan(["optimizer=sgd,adam", "seed=1,2", "training.epochs=3"], multirun=True)
    assert [(job.optimizer.name, job.seed) for job in planned.jobs] == [
        ("sgd", 1),
        ("sgd", 2),
        ("adam", 1),
        ("adam", 2),
    ]
    assert planned.overrides[2] == ("optimizer=adam", "seed=1", "training.epochs=3")
    assert planned.varies == ("optimizer", "seed")


def test_jobs_are_told_their_sweep() -> None:
    planned = plan(["sweep.name=mine", "optimizer=sgd,adam", "training.epochs=3"], multirun=True)
    assert planned.arguments == ["sweep.name=mine", "sweep.varies=['optimizer']", "sweep.jobs=2"]
    assert planned.folder == Path("outputs/sweeps/mine")
    assert not [override for job in planned.overrides for override in job if override.startswith("sweep")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        told = hydra_compose("config", planned.arguments).sweep
    assert (told.name, told.varies, told.jobs) == ("mine", ["optimizer"], 2)


def test_a_folder_that_a_sweep_cannot_have_is_refused_by_its_setting() -> None:
    with pytest.raises(UserError, match=r"^hydra.sweep.dir: "):
        plan(["seed=1,2", "hydra.sweep.dir=out/${hydra.job.num}"], multirun=True)


def test_the_folder_of_a_run_or_a_sweep_may_refer_to_hydra() -> None:
    folder = "${hydra:runtime.choices.model}-${hydra:job.name}"
    assert plan(["model=bn", f"hydra.run.dir={folder}"], multirun=False).run_folder == Path("bn-launch")
    assert plan(["model=bn", "seed=1,2", f"hydra.sweep.dir={folder}"], multirun=True).folder == Path("bn-launch")


def test_sweeps_started_at_once_have_different_names() -> None:
    first, second = (plan(["seed=1,2"], multirun=True) for _ in range(2))
    assert first.sweep_name != second.sweep_name
    assert first.folder != second.folder


@pytest.mark.parametrize("values", ["range(1,4)", "1,2,3", "choice(1,2,3)"])
def test_values_of_a_sweep_may_be_written_in_every_form_of_hydra(values: str) -> None:
    assert [job.seed for job in plan([f"seed={values}"], multirun=True).jobs] == [1, 2, 3]


def test_a_sweep_of_one_value_is_a_sweep_of_one_job() -> None:
    planned = plan(["seed=1"], multirun=True)
    assert (len(planned.jobs), planned.varies) == (1, ())
    assert planned.folder is not None


def test_a_model_file_of_a_config_dir_is_a_choice(own_models: str) -> None:
    planned = plan(["model=wide", "model.width=4"], multirun=False, config_dir=own_models)
    assert planned.jobs[0].model.name == "wide"
    assert planned.jobs[0].model.layers[0].arguments["filters"] == 4


def test_the_path_of_a_config_dir_may_hold_any_character(own_models: str, tmp_path: Path) -> None:
    there = Path(own_models).rename(tmp_path / "my'own, [1]")
    (job,) = plan(["model=wide"], multirun=False, config_dir=str(there)).jobs
    assert job.model.name == "wide"


def test_a_config_dir_adds_to_the_choices_of_the_package(own_models: str) -> None:
    planned = plan(["model=baseline,wide"], multirun=True, config_dir=own_models)
    assert [job.model.name for job in planned.jobs] == ["baseline", "wide"]
    with pytest.raises(UserError, match=r"did you mean 'wide'\?"):
        plan(["model=wde"], multirun=False, config_dir=own_models)


def test_a_knob_that_only_the_swept_models_have_may_be_set(own_models: str) -> None:
    planned = plan(["model=narrow,wide", "model.width=4"], multirun=True, config_dir=own_models)
    assert [job.model.knobs["width"] for job in planned.jobs] == [4, 4]


@pytest.mark.parametrize("name", ["a/b", "a b", "a'b", ".", "../x", "-x"])
def test_a_sweep_whose_name_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^sweep\.name: got "):
        plan([f'sweep.name="{name}"', "seed=1,2"], multirun=True)


def test_a_single_run_is_given_no_name_of_a_sweep() -> None:
    with pytest.raises(UserError, match=r"sweep\.name=mine: only a sweep has a name: add -m"):
        plan(["sweep.name=mine"], multirun=False)


def test_a_command_composes_its_files_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loader, "_shared", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cifar_exp", *(overrides := ["model=bn", "seed=6", f"hydra.run.dir={tmp_path}"])])
    composed, ran = [], []
    whole = ConfigLoaderImpl._load_configuration_impl
    monkeypatch.setattr(
        ConfigLoaderImpl,
        "_load_configuration_impl",
        lambda self, *args, **named: composed.append(args) or whole(self, *args, **named),
    )
    monkeypatch.setattr("hydra.core.utils.configure_log", lambda *_: None)
    monkeypatch.setattr("hydra._internal.utils.detect_task_name", lambda *_: _JOB_NAME)
    plan(overrides, multirun=False)
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(
        lambda config: ran.append((config.seed, HydraConfig.get().job.name))
    )()
    assert ran == [(6, _JOB_NAME)]
    assert len(composed) == 1, composed
