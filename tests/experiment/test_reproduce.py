"""Tests of reproducing a logged run: the logged config is read as untrusted data, and the results are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import program
import pytest
import yaml

from cifar_exp.config import overrides
from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError
from cifar_exp.experiment import reproduce
from cifar_exp.experiment.artifacts import _composable
from cifar_exp.experiment.experiment import Job, run
from cifar_exp.experiment.reproduce import Logged
from cifar_exp.tracking.store import Store

Compose = Callable[..., Config]
SMALL = ("data=digits", "data.train_images=200", "model=dense", "model.layers=[Flatten,{Dense:{units:10}}]")
QUICK = (*SMALL, "training.epochs=2", "training.deterministic=true", "tracking.system_metrics=false")


@pytest.fixture(scope="module")
def own(store: Store) -> Store:
    return Store(store.uri, "reproduced")


@pytest.fixture(scope="module")
def logged(own: Store, compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of a run that was trained on this machine."""
    config = compose(*QUICK)
    config = replace(config, tracking=replace(config.tracking, uri=own.uri, experiment=own.experiment))
    result = run(config, Job(), tmp_path_factory.mktemp("logged") / "run")
    assert result.run_id is not None
    return result.run_id


def test_a_deterministic_run_is_reproduced_to_the_last_bit_and_linked(logged: str, own: Store, tmp_path: Path) -> None:
    verdict = reproduce.again(reproduce.read(own, logged), own, tmp_path / "run")
    assert verdict.matches, verdict.lines
    assert verdict.lines[-1] == "Equal to the last bit."
    found = own.client.search_runs([own.experiment_id], f"tags.`cifar_exp.reproduces` = '{logged}'")
    assert len(found) == 1 and found[0].info.status == "FINISHED"
    assert found[0].data.tags["cifar_exp.fingerprint"] == own.client.get_run(logged).data.tags["cifar_exp.fingerprint"]


def test_the_command_reports_equality_and_exits_with_0(logged: str, own: Store, tmp_path: Path) -> None:
    command = [*program.COMMAND, "reproduce", "--uri", own.uri, "--experiment", own.experiment]
    done = program.execute([*command, logged[:8]], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Equal to the last bit.\n") and "test/accuracy" in done.stdout
    gone = program.execute([*command, "0" * 32], tmp_path)
    assert gone.returncode == 2
    assert gone.stderr.startswith("cifar_exp: no run '0000") and gone.stderr.count("\n") == 1


def test_a_run_with_a_changed_setting_does_not_match(logged: str, own: Store, tmp_path: Path) -> None:
    verdict = reproduce.again(reproduce.read(own, logged, ["seed=1"]), own, tmp_path / "run")
    assert not verdict.matches
    assert any(line.startswith("Not the same run: its fingerprint is ") for line in verdict.lines)


@pytest.mark.parametrize(
    ("logged", "accuracy", "matches", "says"),
    [(0.55, 0.60, True, "within 0.1"), (0.55, 0.90, False, "outside 0."), (95.0, 0.95, False, "outside 0.")],
)
def test_without_determinism_small_differences_match(
    compose: Compose, logged: float, accuracy: float, matches: bool, says: str
) -> None:
    config = compose(*SMALL)  # tested on 360 images
    there = Logged("id", "name", config, {"test/accuracy": logged, "test/loss": 1.0}, "f", "commit")
    verdict = reproduce._compare(there, {"test/accuracy": accuracy, "test/loss": 1.1}, "f", config)
    assert verdict.matches == matches
    assert says in verdict.lines[-1]


def test_a_deterministic_run_that_differs_does_not_match(compose: Compose) -> None:
    config = compose(*QUICK)
    there = Logged("id", "name", config, {"test/accuracy": 0.55}, "f", "0123456789abcdef")
    verdict = reproduce._compare(there, {"test/accuracy": 0.5500001}, "f", config)
    assert not verdict.matches
    assert "Not equal, though deterministic: it was trained at commit 0123456789ab" in verdict.lines[-1]


def edited(compose: Compose, **changes: object) -> str:
    return yaml.safe_dump(_composable(compose(*SMALL)) | changes)


def test_a_logged_config_is_read_back_unchanged(compose: Compose) -> None:
    config = compose(*SMALL, "experiment=s3_bn")
    back = reproduce.parse_config(yaml.safe_dump(_composable(config)), "here")
    assert replace(back, tracking=config.tracking) == config


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"name": "m", "layers": [{"os.system": {"command": "touch pwned"}}]}}, "os.system"),
        ({"model": {"name": "m", "layers": [{"Lambda": {"function": "f"}}]}}, "Lambda"),
        ({"model": {"_target_": "os.system", "name": "m", "layers": ["Flatten", {"Dense": {"units": 9}}]}}, "10"),
        ({"note": "${oc.env:HOME}"}, r"refers to nothing"),
        ({"surprise": 1}, "surprise"),
        ({"seed": "one"}, "one"),
        ({"data": "gone"}, "it is not a config"),
    ],
)
def test_an_invalid_config_is_refused_and_executes_nothing(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^here: .*{says}") as refused:
        reproduce.parse_config(edited(compose, **changes), "here")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"), [("image_shape", ["???", 32, 3]), ("image_shape", [32, 32, "???"]), ("size", [8, "???"])]
)
def test_a_list_with_a_missing_value_is_refused(compose: Compose, key: str, value: list[object]) -> None:
    data = yaml.safe_load(edited(compose))["data"] | {key: value}
    with pytest.raises(UserError, match=f"^here: data.{key}: needs a value$"):
        reproduce.parse_config(edited(compose, data=data), "here")


@pytest.mark.parametrize("content", ["", "[1]", "a: &a [*a]", "!!python/object/apply:os.system ['touch pwned']", "{"])
def test_a_file_that_is_not_a_config_is_refused(content: str) -> None:
    with pytest.raises(UserError, match=r"^here: "):
        reproduce.parse_config(content, "here")


def test_a_config_that_would_expand_to_gigabytes_is_refused(own: Store, logged: str, tmp_path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    forged = own.client.create_run(own.experiment_id).info.run_id
    for content, says in (("\n".join(["a0: &a0 [lol]", *levels]), "alias"), ("a: " + "b" * 1_000_000, "bytes")):
        (tmp_path / "config.yaml").write_text(content)
        own.client.log_artifact(forged, str(tmp_path / "config.yaml"), "config")
        with pytest.raises(UserError, match=says) as refused:
            reproduce.read(own, forged)
        assert "\n" not in str(refused.value)


def test_overrides_must_be_settings_without_interpolations(compose: Compose) -> None:
    content = edited(compose)
    assert reproduce.parse_config(content, "here", ["data.verify=size", "seed=7"]).seed == 7
    for wrong in (
        "seed",
        "note=${oc.env:HOME}",
        r"note=$\{oc.env\:HOME\}",
        "sede=1",
        "+note=x",
        "note=[1",
        "note={a",
        "note=a #2",
        "seed=1,2",
    ):
        with pytest.raises(UserError) as refused:
            reproduce.parse_config(content, "here", [wrong])
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["my photos #2", "{a", "1_000", "0x10", "~", "on", "null", "it's", "a\\", "日本"])
def test_a_folder_of_any_name_can_be_given(compose: Compose, name: str) -> None:
    override = overrides.write("data.dir", name)
    assert reproduce.parse_config(edited(compose), "here", [override]).data.dir == name


def test_a_missing_run_is_refused(own: Store, logged: str) -> None:
    with pytest.raises(UserError, match="^run " + "0" * 32):
        reproduce.read(own, "0" * 32)
