"""A YAML file of the user that cannot be read is told by file, line and what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_exp.config.composition import plan
from cifar_exp.errors import UserError


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"name: own\nlayers:\n\t- Flatten\n", "line 3: found character '\\t' that cannot start any token"),
        (b"name: own\nlayers: []\nname: own\n", "line 3: found duplicate key name"),
        (b"name: own\n# caf\xe9\n", "line 2: found the byte 0xE9, which is not UTF-8; save the file as UTF-8"),
        (b"caf\xe9: 1\n", "line 1: found the byte 0xE9, which is not UTF-8; save the file as UTF-8"),
        (b"name: own\nnote: a\x07b\n", "line 2: found the character '\\x07', which YAML does not allow"),
        (b"name: *own\n", "line 1: found undefined alias 'own'"),
        (b"name: [own\n", "line 2: expected ',' or ']', but got '<stream end>'"),
    ],
)
@pytest.mark.parametrize("group", ["model", "experiment"])
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, group: str, content: bytes, found: str) -> None:
    file = tmp_path / group / "own.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    for arguments, where in (([f"{group}=own"], ""), ([f"{group}=own", "seed=1,2"], "")):
        with pytest.raises(UserError) as refused:
            plan(arguments, multirun=len(arguments) > 1, config_dir=str(tmp_path))
        assert str(refused.value) == f"{where}{file}, {found}"


def test_a_wrong_file_of_a_swept_choice_names_the_job(tmp_path: Path) -> None:
    file = tmp_path / "model" / "own.yaml"
    file.parent.mkdir()
    file.write_bytes(b"a: 1\n\tb: 2\n")
    with pytest.raises(UserError, match=r"^job 2 of 2 \(model=own\): .*own\.yaml, line 2: found character '\\t'"):
        plan(["model=bn,own"], multirun=True, config_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "optimizer: {learning_rate: 'interval(1e-4,1e-1)'}",
            "conf/experiment/own.yaml: optimizer.learning_rate: got 'interval(1e-4,1e-1)', expected a number; a "
            "setting in a file holds one value: write several on the command line, key=1,2 with -m, or in "
            "hydra.sweeper.params",
        ),
        ("defaults: [/model: bn]", "model: there is a choice already; to change it, leave out the + on a command"),
        (
            "training: {epoch: 3}",
            "conf/experiment/own.yaml: training.epoch: no such setting; did you mean 'training.epochs'?",
        ),
        (
            "hydra: {mode: MULTIRUN, sweeper: {params: {seed: 'interval(1,3)'}}}",
            "seed=interval(1,3): an interval has no single values",
        ),
    ],
)
def test_a_setting_in_an_experiment_file_is_told_with_its_file(tmp_path: Path, setting: str, said: str) -> None:
    file = tmp_path / "experiment" / "own.yaml"
    file.parent.mkdir()
    file.write_text(f"# @package _global_\n{setting}\n")
    with pytest.raises(UserError) as refused:
        plan(["experiment=own"], multirun=False, config_dir=str(tmp_path))
    assert str(refused.value).startswith(said)
