"""Tests of reproducing and resuming what another member of the team has logged."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import program
import pytest
import yaml
from stack import Stack, User

from cifar_exp.tracking.store import Store

RUN = (*program.REPEATABLE, "tracking.experiment=colleagues")
STORE = ("--experiment", "colleagues")


@pytest.fixture(scope="module")
def bob(server: Stack) -> User:
    """A member with another machine and clone."""
    return server.add("colleague")


@pytest.fixture(scope="module")
def logged(server: Stack, ann: User, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of a run that ann has logged."""
    done = program.run(tmp_path_factory.mktemp("ann"), *RUN, "training.epochs=2", **server.environment(ann))
    assert (done.returncode, done.stderr) == (0, "")
    with server.client(ann) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("colleagues").experiment_id])
        return str(run.info.run_id)


def test_a_run_is_reproduced_to_the_last_bit_from_a_fresh_clone(
    server: Stack, logged: str, bob: User, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(program.ROOT), str(clone)], check=True)
    own = server.environment(bob) | {"PYTHONPATH": str(clone)}
    done = program.execute([*program.COMMAND, "reproduce", logged, *STORE], tmp_path, own)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("Equal to the last bit.\n")
    with server.client(bob) as client:
        experiment = client.get_experiment_by_name("colleagues").experiment_id
        (again,) = client.search_runs([experiment], f"tags.`cifar_exp.reproduces` = '{logged}'")
        first = client.get_run(logged)
        assert (again.data.tags["mlflow.user"], first.data.tags["mlflow.user"]) == (bob.name, "ann")
        assert again.data.tags["cifar_exp.fingerprint"] == first.data.tags["cifar_exp.fingerprint"]


@pytest.mark.parametrize("layer", ["os.system", "Lambda", "Convolution9D"])
def test_a_config_that_a_colleague_edited_runs_no_code(
    server: Stack, ann: User, bob: User, logged: str, layer: str, tmp_path: Path
) -> None:
    name = "config/config.yaml"
    with server.client(bob) as client:  # every member may change logged runs
        original = program.artifact(client, logged, name, tmp_path).read_text()
        config = yaml.safe_load(original)
        config["model"]["layers"].insert(0, {layer: {"command": f"touch {tmp_path}/ran"}})
        client.log_text(logged, yaml.safe_dump(config), name)
        try:
            done = program.execute([*program.COMMAND, "reproduce", logged, *STORE], tmp_path, server.environment(ann))
        finally:
            client.log_text(logged, original, name)
    assert done.returncode == 2, done.stdout
    assert layer in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("outputs")) and not (tmp_path / "ran").exists()


def test_a_sweep_of_a_colleague_is_resumed_by_its_name(server: Stack, ann: User, bob: User, tmp_path: Path) -> None:
    command = ("-m", "seed=1,2", *RUN, "training.epochs=4", "sweep.name=handed-over")
    folders = {user.name: tmp_path / user.name for user in (ann, bob)}
    for folder in folders.values():
        folder.mkdir()
    stopped = program.run_until(
        folders[ann.name], r"\[2/2\].*epoch 2/", signal.SIGTERM, *command, **server.environment(ann)
    )
    assert stopped.returncode == 128 + signal.SIGTERM
    done = program.run(folders[bob.name], *command, **server.environment(bob))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("has finished before") == 1 and "goes on after epoch" in done.stdout
    with server.client(bob) as client:
        experiment = client.get_experiment_by_name("colleagues").experiment_id
        found = client.search_runs([experiment], "tags.`cifar_exp.sweep` = 'handed-over'")
        assert [run.info.status for run in found] == ["FINISHED"] * 3
        for run in found:
            if "cifar_exp.job" in run.data.tags:
                assert list(program.points(client, run.info.run_id, "train/loss")) == [1, 2, 3, 4]
                left = Store(server.url, "colleagues").artifacts(run).list_artifacts("checkpoints")
                assert not any(item.file_size for item in left)  # without permission to delete, checkpoints are emptied
