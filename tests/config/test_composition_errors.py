"""What is said of a command line that cannot be composed: one line that names the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_exp.config.composition import plan
from cifar_exp.errors import UserError


def refusal(*overrides: str, multirun: bool = False) -> str:
    """What is said of a command line that must be refused, on one line."""
    with pytest.raises(UserError) as refused:
        plan(overrides, multirun)
    assert "\n" not in str(refused.value)
    return str(refused.value)


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
        ("hydra.job.env_copy=[NO_SUCH]", "hydra.job.env_copy: there is no environment variable NO_SUCH"),
        ("search=tpe", "search: got one value, expected a mapping"),
        ("search=[1]", "search: got a list, expected a mapping"),
        ("hydra.launcher=[1]", "hydra.launcher: got a list, expected a mapping"),
        ("data.size={a:1}", "data.size: got a mapping, expected a list"),
        ("data.size=32", "data.size: got one value, expected a list: data.size=[VALUE,VALUE]"),
        ("optimzer=sgd", "optimzer: no such setting; did you mean 'optimizer'?"),
        ("optimiser/schedule=cosine", "optimiser/schedule: no such setting; did you mean 'optimizer/schedule'?"),
        ("sed=1", "sed: no such setting; did you mean 'seed'?"),
        ("foo=1", "foo: no such setting"),
        ("+foo=1", "foo: no such setting"),
        ("+training.epoch=1", "training.epoch: no such setting; did you mean 'training.epochs'?"),
        ("model.filter=[1]", "model.filter: no such setting; did you mean 'model.filters'?"),
        ("hydra.foo=1", "hydra.foo: no such setting"),
        ("hydra.job.num_threads=1", "hydra.job.num_threads: no such setting"),
        ("hydra.job.env_set.A=1", "hydra.job.env_set.A: no such setting; to add it, write +hydra.job.env_set.A"),
        ("hydra.job.env_set={A:1}", "hydra.job.env_set: it is empty; to add to it, write +hydra.job.env_set"),
        (
            "search.trials=9",
            "search.trials: no such setting; to add it, write +search.trials; how a search works is set by "
            "hydra.sweeper, such as hydra.sweeper.n_trials=20",
        ),
        ("hydra.sweeper.n_trials=9", "hydra.sweeper.n_trials: no such setting without hydra/sweeper=search"),
        (
            "hydra.launcher.cpus_per_job=1",
            "hydra.launcher.cpus_per_job: no such setting without hydra/launcher=parallel",
        ),
        ("~foo", "~foo: no such setting"),
        ("~note", "~note: it has no value"),
        ("~model", "~model: a choice can only be replaced: model=NAME"),
        ("~model=bn", "~model=bn: a choice can only be replaced: model=NAME"),
        ("~seed=3", "~seed=3: its value is 0; to remove it whatever it is, write ~seed"),
        ("+training.epochs=2", "+training.epochs: it has a value already; to change it, leave out the +"),
        (
            "+model=bn",
            "model: there is a choice already; to change it, leave out the + on a command line, or write "
            "'override /model: NAME' in the defaults of a file",
        ),
    ],
)
def test_a_wrong_key_names_the_nearest(override: str, said: str) -> None:
    assert refusal(override) == said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hydra.launcher=slurm", "'slurm', expected a mapping; the choice of this name is hydra/launcher=slurm"),
        ("hydra.sweeper=search", "'search', expected a mapping; the choice of this name is hydra/sweeper=search"),
        ("hydra.sweeper=null", "null, expected a mapping"),
        ("hydra.launcher=5", "5, expected a mapping"),
    ],
)
@pytest.mark.parametrize("multirun", [False, True])
def test_a_choice_of_hydra_has_a_slash(override: str, said: str, multirun: bool) -> None:
    assert refusal(override, multirun=multirun) == f"{override.partition('=')[0]}: got {said}"


@pytest.mark.parametrize("override", ["hydra.sweeper.params={seed:'1,2'}", "hydra.sweeper.params.seed='1,2'"])
def test_values_of_a_sweep_are_added_as_the_refusal_says(override: str) -> None:
    assert f", write +{override.partition('=')[0]}" in refusal(override, multirun=True)
    assert [job.seed for job in plan([f"+{override}"], multirun=True).jobs] == [1, 2]


def test_values_of_a_search_in_files_are_a_mapping() -> None:
    said = refusal("hydra/sweeper=search", "hydra.sweeper.params=5", multirun=True)
    assert said == "hydra.sweeper.params: got 5, expected a mapping"


def test_a_setting_of_another_model_is_one_that_the_chosen_model_has_not() -> None:
    assert refusal("model=dense", "model.pool_size=[2,2]") == "model.pool_size: no such setting of the chosen model"


@pytest.mark.parametrize("value", ["2", "2,3", "bn,null", "[2]", "[bn],[bn,2]", "range(3)"])
def test_a_choice_is_a_name(value: str) -> None:
    said = refusal(f"model={value}", multirun=True)
    assert said.startswith(f"model={value}: expected one of baseline, ")


@pytest.mark.parametrize("value", ["range(3),9", "choice(1,2),3", "interval(0,1),3", "glob(*),3"])
def test_a_range_in_a_list_of_values_is_refused(value: str) -> None:
    said = refusal(f"seed={value}", multirun=True)
    assert said == f"seed={value}: one of these values holds several: write one range, or each value"


@pytest.mark.parametrize("choice", ["bn/x", "../bn"])
@pytest.mark.parametrize("override", ["model={}", "model=[{}]"])
def test_a_wrong_choice_names_those_of_its_group(override: str, choice: str) -> None:
    said = f"model '{choice}' not found; did you mean 'bn'? (conf/model holds: baseline, "
    assert refusal(override.format(choice)).startswith(said)


@pytest.mark.parametrize("choice", ["/photos", "photos/cats", "photos"])
def test_a_folder_is_no_data_set_but_the_folder_of_one(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    said = f"data '{choice}' not found; your own images are data=folder data.dir={choice} (conf/data holds: "
    assert refusal(f"data={choice}").startswith(said)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs=ten", "training.epochs: got 'ten', expected a whole number"),
        ("training.epochs=1.5", "training.epochs: got 1.5, expected a whole number"),
        ("training.epochs=true", "training.epochs: got true, expected a whole number"),
        ("training.epochs=null", "training.epochs: got null, expected a value"),
        ("optimizer.learning_rate=[1]", "optimizer.learning_rate: got [1], expected a number"),
        ("training.whiten=maybe", "training.whiten: got 'maybe', expected true or false"),
        ("note=${oc.env:NO_SUCH}", "note: Environment variable 'NO_SUCH' not found"),
        ("note=[a,b]", "note: got ['a', 'b'], expected text"),
        ("model.layers={Dense: 1}", "model.layers: got a mapping, expected a list"),
        (
            "prediction=flip",
            "prediction: got 'flip', expected one of its settings: prediction.flip=..., prediction.shift=...",
        ),
        (
            "optimizer.schedule=cosine",
            "optimizer.schedule: got 'cosine', expected one of its settings: optimizer.schedule.cycles=..., "
            "optimizer.schedule.decay=..., optimizer.schedule.factor=..., optimizer.schedule.final=..., "
            "optimizer.schedule.milestones=..., optimizer.schedule.name=..., optimizer.schedule.patience=..., "
            "optimizer.schedule.power=..., optimizer.schedule.warmup=...; the choice of this name is "
            "optimizer/schedule=cosine",
        ),
    ],
)
def test_a_value_of_another_type_says_what_is_expected(override: str, said: str) -> None:
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
        (["training.epochs=1,2,x,4"], "job 3 of 4 (training.epochs=x): training.epochs: got 'x'"),
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


def test_a_knob_that_one_swept_model_lacks_names_the_job() -> None:
    said = refusal("model=baseline,large", "model.dense_units=8", multirun=True)
    assert said.startswith("job 2 of 2 (model=large model.dense_units=8): model.dense_units: no such setting")
