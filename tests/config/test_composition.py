"""Command lines: what they compose to, and that a wrong one is answered in one line that names the right one."""

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


def refusal(*overrides: str, multirun: bool = False, config_dir: str | None = None) -> str:
    """What is said of a command line that must be refused, on one line."""
    with pytest.raises(UserError) as refused:
        plan(overrides, multirun, config_dir)
    assert "\n" not in str(refused.value)
    return str(refused.value)


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


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epoch=3", "training.epoch: no such setting; did you mean 'training.epochs'?"),
        (
            "optimizer.learning_rat=1",
            "optimizer.learning_rat: no such setting; did you mean 'optimizer.learning_rate'?",
        ),
        (
            "model.filters=32",
            "model.filters: got one value, expected a list or a mapping: model.layers[0].Conv2D.filters uses "
            "model.filters[0]",
        ),
        ("data.size=32", "data.size: got one int, expected a list: data.size=[VALUE,VALUE]"),
        ("optimzer=sgd", "optimzer: no such setting; did you mean 'optimizer'?"),
        ("optimiser/schedule=cosine", "optimiser/schedule: no such setting; did you mean 'optimizer/schedule'?"),
        ("sed=1", "sed: no such setting; did you mean 'seed'?"),
        ("foo=1", "foo: no such setting"),
        ("+foo=1", "foo: no such setting"),
        ("+training.epoch=1", "training.epoch: no such setting; did you mean 'training.epochs'?"),
        ("model.filter=[1]", "model.filter: no such setting; did you mean 'model.filters'?"),
    ],
)
def test_a_wrong_key_names_the_nearest(override: str, said: str) -> None:
    assert refusal(override) == said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "model=lrge",
            "model 'lrge' not found; did you mean 'large'? (conf/model holds: baseline, blocks, bn, bn_deep, ",
        ),
        ("optimizer=sdg", "optimizer 'sdg' not found; did you mean 'sgd'? (conf/optimizer holds: adadelta, "),
        (
            "data=digts",
            "data 'digts' not found; did you mean 'digits'? (conf/data holds: cifar10, cifar100, csv, digits,",
        ),
        (
            "optimizer/schedule=cosin",
            "optimizer/schedule 'cosin' not found; did you mean 'cosine'? (conf/optimizer/sch",
        ),
    ],
)
def test_a_wrong_choice_of_a_group_names_the_nearest_and_all(override: str, said: str) -> None:
    assert refusal(override).startswith(said)


@pytest.mark.parametrize("override", ["optimizer=null", "model=null", "optimizer=[]"])
def test_a_group_without_a_choice_is_refused_by_its_name(override: str) -> None:
    assert override.partition("=")[0] in refusal(override)


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=x",
        "training.epochs=1.5",
        "training.epochs=true",
        "training.epochs=null",
        "training.epochs=???",
        "seed=true",
        "optimizer.learning_rate=abc",
        "optimizer.amsgrad=maybe",
        "training.early_stopping=null",
        "tracking.experiment=null",
        "augmentation.crop=3.5",
        "sweep=null",
    ],
)
def test_a_value_of_a_wrong_type_names_its_setting(override: str) -> None:
    assert refusal(override).startswith(f"{override.partition('=')[0]}: ")


def test_removing_a_group_names_it() -> None:
    assert "training" in refusal("~training")


@pytest.mark.parametrize("override", ["training", "training.epochs:3", "=3"])
def test_what_is_no_override_is_told_the_form(override: str) -> None:
    assert refusal(override).startswith(f"{override!r} is not of the form key=value")


def test_an_interpolation_of_nothing_names_the_setting_that_refers_to_it() -> None:
    said = refusal("model.filters=[32,64]")
    assert said.startswith("model.layers[4].Conv2D.filters: ")
    assert "model.filters[2]" in said


def test_several_values_without_m_say_so() -> None:
    several = "optimizer=sgd,adam: several values are a sweep: add -m, or call cifar_exp.sweep"
    assert refusal("seed=0", "optimizer=sgd,adam") == several
    assert plan(["seed=1,2", "hydra.mode=MULTIRUN"], multirun=False).varies == ("seed",)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["training.epochs=1,2,x,4"], "job 3 of 4 (training.epochs=x): training.epochs: Value 'x'"),
        (["training.epochs=1,2,0,4"], "job 3 of 4 (training.epochs=0): training.epochs: got 0, expected at least 1"),
        (["optimizer=sgd,adam", "model=bn,lrge"], "job 2 of 4 (optimizer=sgd model=lrge): model 'lrge' not found; did"),
        (
            ["optimizer=sgd,rmsprop,adam", "optimizer.momentum=0.9"],
            "job 3 of 3 (optimizer=adam optimizer.momentum=0.9): optimizer.momentum: adam has no such argument",
        ),
        (["model.activation=relu,rleu"], "job 2 of 2 (model.activation=rleu): model 'baseline', layer 1 (Conv2D)"),
        (["model.filters=[1,1,1],[1,1]"], "job 2 of 2 (model.filters=[1,1]): model.layers[4].Conv2D.filters: "),
    ],
)
def test_a_sweep_is_refused_for_its_first_wrong_job_before_any_runs(overrides: list[str], said: str) -> None:
    assert refusal(*overrides, multirun=True).startswith(said)


def test_a_model_file_of_a_config_dir_is_a_choice(own_models: str) -> None:
    planned = plan(["model=wide", "model.width=4"], multirun=False, config_dir=own_models)
    assert planned.jobs[0].model.name == "wide"
    assert planned.jobs[0].model.layers[0].arguments["filters"] == 4


def test_a_config_dir_adds_to_the_choices_of_the_package(own_models: str) -> None:
    planned = plan(["model=baseline,wide"], multirun=True, config_dir=own_models)
    assert [job.model.name for job in planned.jobs] == ["baseline", "wide"]
    assert "did you mean 'wide'?" in refusal("model=wde", config_dir=own_models)


def test_a_knob_that_only_the_swept_models_have_may_be_set(own_models: str) -> None:
    planned = plan(["model=narrow,wide", "model.width=4"], multirun=True, config_dir=own_models)
    assert [job.model.knobs["width"] for job in planned.jobs] == [4, 4]


def test_a_knob_that_one_swept_model_lacks_names_the_job() -> None:
    said = refusal("model=baseline,large", "model.dense_units=8", multirun=True)
    assert said.startswith("job 2 of 2 (model=large model.dense_units=8): model.dense_units: no such setting")


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
