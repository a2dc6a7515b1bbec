"""A run's settings as an experiment: composed from the file, they are what the overrides were."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cifar_exp.config import composition, preset
from cifar_exp.errors import UserError


def written(folder: Path, *given: str) -> str:
    path = preset.write(given, "mine", folder, "About\nit.")
    assert path == folder / "experiment" / "mine.yaml"
    return path.read_text()


@pytest.mark.parametrize(
    "given",
    [
        ("model=bn", "optimizer=sgd", "optimizer.momentum=0.9", "optimizer.learning_rate=0.0029223"),
        ("model.filters.0=24", "training.epochs=3", "seed=2"),
        ("optimizer=sgd", "optimizer/schedule=one_cycle", "optimizer.schedule.warmup=0.3"),
        ("data=digits", "model=dense", "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]"),
        ("experiment=s2_final", "optimizer.learning_rate=0.01", "model.filters.1=32"),
        ("experiment=s1_bn", "model=bn"),
    ],
)
def test_an_experiment_composes_to_what_the_overrides_were(given: tuple[str, ...], tmp_path: Path) -> None:
    text = written(tmp_path, *given, "tracking.system_metrics=false", "data.dir=/there")
    assert text.startswith(
        f"# @package _global_\n# python -m cifar_exp --config-dir {tmp_path} experiment=mine\n# About it.\n"
    )
    assert "/there" not in text
    (wanted,) = composition.plan(given, multirun=False).jobs
    (found,) = composition.plan(["experiment=mine"], multirun=False, config_dir=str(tmp_path)).jobs
    assert (found.model, found.optimizer, found.training, found.data, found.augmentation, found.seed) == (
        wanted.model,
        wanted.optimizer,
        wanted.training,
        wanted.data,
        wanted.augmentation,
        wanted.seed,
    )
    assert found.name == "mine"


def test_a_name_that_is_taken_or_none_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "seed=1")
    for name, message in [
        ("mine", "exists: choose another name"),
        ("best", "exists"),
        ("a/b", "expected letters"),
        ("null", "no number"),
        ("12", "no number"),
    ]:
        with pytest.raises(UserError, match=message):
            preset.write(["seed=1"], name, tmp_path, "")
    assert [path.name for path in (tmp_path / "experiment").iterdir()] == ["mine.yaml"]


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an experiment cannot take a setting away"):
        preset.write(["~search"], "mine", tmp_path, "")
    assert not (tmp_path / "experiment" / "mine.yaml").exists()


def test_a_secret_of_the_environment_is_not_read(tmp_path: Path) -> None:
    for hidden in (
        "optimizer.no_weight_decay=['${oc.env:PASSWORD}']",
        r"training.start_from=$\{oc.env\:PASSWORD\}",
        r"+model.knob={a: [$\{oc.env\:PASSWORD\}]}",
    ):
        with pytest.raises(UserError, match="refers to another value, maybe a secret"):
            preset.write(["optimizer=adamw", hidden], "mine", tmp_path, "")
    assert not list(tmp_path.iterdir())
    written(tmp_path, "seed=1", "note=${oc.env:HOME}", "tracking.uri=${oc.env:HOME}")  # of the machine, not kept


def test_a_run_on_images_of_ones_own_is_kept_without_their_folder(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("cat", "dog"):
        (images / name).mkdir(parents=True)
        for shade in range(20):
            Image.new("L", (8, 8), shade * 12).save(images / name / f"{shade}.png")
    text = written(tmp_path / "conf", "data=folder", f"data.dir={images}", "model=dense")
    assert str(images) not in text
