"""Tests of hydra/launcher=parallel that do not start Ray: settings, errors and composed jobs."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from cifar_exp.config import composition
from cifar_exp.data import cifar10
from cifar_exp.errors import UserError
from cifar_exp.sweep import launcher, task, worker
from cifar_exp.sweep.resources import Settings
from cifar_exp.sweep.task import Task
from cifar_exp.tracking import sync
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store
from cifar_exp.training import runtime

PARALLEL = "hydra/launcher=parallel"


def settings(**changed: object) -> Settings:
    plan = composition.plan(["seed=1,2", PARALLEL, *(f"hydra.launcher.{k}={v}" for k, v in changed.items())], True)
    found = launcher.chosen(plan.launcher)
    assert found is not None
    return found


def tasks(*overrides: str, threads: int = 1) -> list[Task]:
    """Compose jobs from overrides, as Hydra's sweeper hands them over."""
    plan = composition.plan([*overrides, "sweep.name=s"], multirun=True)
    with initialize_config_dir(str(composition.CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", [*plan.arguments], RunMode.MULTIRUN)
        return task.compose(loader, config, [[*job, *plan.arguments] for job in plan.overrides], 0, threads)


def test_only_the_parallel_launcher_has_its_settings_checked() -> None:
    assert settings() == Settings(cpus_per_job=1, gpus_per_job=None, memory_per_job=None, address=None)
    for other in ([], ["hydra/launcher=basic"], ["hydra/launcher=submitit_local"]):
        assert launcher.chosen(composition.plan(["seed=1,2", *other], multirun=True).launcher) is None


def test_slurm_is_refused_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = composition.plan(["seed=1,2", "hydra/launcher=slurm"], multirun=True).launcher
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^hydra/launcher=slurm: there is no srun here"):
        launcher.chosen(chosen)
    (tmp_path / "srun").write_text("#!/bin/sh")
    (tmp_path / "srun").chmod(0o755)
    assert launcher.chosen(chosen) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cpus_per_job": 0}, "cpus_per_job: got 0, expected a number above 0"),
        ({"cpus_per_job": -1}, "cpus_per_job: got -1, expected a number above 0"),
        ({"cpus_per_job": "null"}, "cpus_per_job: got None, expected a number"),
        ({"cpus_per_job": "all"}, "cpus_per_job: got 'all', expected a number"),
        ({"cpus_per_job": ".inf"}, "cpus_per_job: got '.inf', expected a number"),
        ({"cpus_per_job": 100_000}, f"cpus_per_job: got 100000, this machine has {runtime.cores()}"),
        ({"gpus_per_job": 100}, f"gpus_per_job: got 100, this machine has {runtime.gpu_count()}"),
        ({"gpus_per_job": 1.5}, "gpus_per_job: got 1.5, expected a share of one GPU or a whole number of them"),
        ({"memory_per_job": 0}, "memory_per_job: got 0, expected a number above 0"),
        ({"memory_per_job": 1e6}, "memory_per_job: got 1e+06, this machine has "),
        ({"address": "nowhere"}, "address: got 'nowhere', expected HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as refused:
        settings(**wrong)
    assert str(refused.value).startswith(f"hydra.launcher.{message}")


@pytest.mark.parametrize("address", ["..:6379", f"{'a' * 70}:6379", "127.0.0.1:99999", '"ray://[::1]:1"'])
def test_an_address_that_none_can_have_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="nobody answers there") as refused:
        settings(address=address)
    assert "Name or service not known" not in str(refused.value)


def test_a_cluster_that_does_not_answer_is_refused() -> None:
    with socket.socket() as taken:  # bound but not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"^hydra.launcher.address={address}: nobody answers there"):
            settings(address=address)


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory", "there", "taken", "threads"),
    [
        (1, None, None, 0, {"CPU": 1}, 1),
        (0.5, None, None, 0, {"CPU": 0.5}, 1),
        (3.5, None, 2, 0, {"CPU": 3.5, "memory": 2e9}, 3),
        (1, None, None, 4, {"CPU": 1, "GPU": 1}, 1),
        (1, 0, None, 4, {"CPU": 1}, 1),
        (1, 0.25, None, 4, {"CPU": 1, "GPU": 0.25}, 1),
    ],
)
def test_resources_of_a_job(
    cpus: float, gpus: float | None, memory: float | None, there: float, taken: dict[str, float], threads: int
) -> None:
    asked = Settings(cpus, gpus, memory, None)
    assert (asked.resources(there), asked.threads) == (taken, threads)


def test_jobs_are_composed_with_their_names_numbers_and_folders() -> None:
    first, second = tasks("optimizer=sgd,adam", "model.dense_units=32")
    assert [job.title for job in (first, second)] == ["[1/2] baseline-sgd", "[2/2] baseline-adam"]
    assert second.folder == Path("outputs/sweeps/s/1").absolute()
    composed = second.compose()
    assert composed.optimizer.name == "adam" and composed.model.dense_units == 32
    assert composed.hydra.job.num == 1
    assert first.kind == second.kind


def test_a_job_waits_for_the_jobs_whose_weights_it_starts_from() -> None:
    jobs = tasks("name=a,b", "training.start_from=null,a")
    assert [job.after for job in jobs] == [frozenset(), frozenset({1}), frozenset(), frozenset({1, 2})]


def test_jobs_with_different_permanent_settings_do_not_share_a_process() -> None:
    jobs = tasks("training.deterministic=true,false", "training.device=cpu,auto")
    assert len({job.kind for job in jobs}) == 4


def test_jobs_that_can_and_cannot_share_batches_between_cores_do_not_share_a_process() -> None:
    one, two = (tasks("model=baseline,bn,large", "training.device=cpu", threads=count) for count in (1, 2))
    assert [job.kind.shares_cores for job in one] == [False, False, False]
    assert [job.kind.shares_cores for job in two] == [True, False, True]


def test_launcher_settings_do_not_change_the_fingerprint() -> None:
    plans = [composition.plan(["seed=1,2", *more], True) for more in ([], [PARALLEL, "hydra.launcher.cpus_per_job=2"])]
    assert plans[0].jobs[0] == plans[1].jobs[0]


@pytest.mark.parametrize("arguments", [["-m", PARALLEL, "hydra.launcher.cpus_per_job=0"], [PARALLEL, "--cfg", "job"]])
def test_errors_and_help_do_not_import_ray(arguments: list[str]) -> None:
    program = f"""
import sys
from cifar_exp.__main__ import main
sys.argv = ["cifar_exp", *{arguments!r}]
main()
assert not {{"ray", "keras", "tensorflow", "mlflow"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" or done.stderr.startswith("cifar_exp: hydra.launcher.cpus_per_job: got 0")


@pytest.mark.parametrize(
    ("without", "chosen", "message"),
    [
        ("ray", "parallel", "hydra/launcher=parallel needs ray: pip install 'cifar-exp[parallel]'"),
        (
            "submitit",
            "slurm",
            "hydra/launcher 'submitit_slurm' needs hydra-submitit-launcher: pip install 'cifar-exp[slurm]'",
        ),
    ],
)
def test_a_launcher_whose_package_is_missing_is_refused(
    tmp_path: Path, without: str, chosen: str, message: str
) -> None:
    program = f"""
import importlib.util, pkgutil, sys
find_spec, walk = importlib.util.find_spec, pkgutil.walk_packages
importlib.util.find_spec = lambda name, *more: None if name == {without!r} else find_spec(name, *more)
pkgutil.walk_packages = lambda *a, **k: (module for module in walk(*a, **k) if {without!r} not in module.name)
from cifar_exp.__main__ import main
sys.argv = ["cifar_exp", "-m", "seed=1,2", "hydra/launcher={chosen}"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cifar_exp: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_sent_images_are_written_where_the_data_set_finds_them(small_cifar10: Path, tmp_path: Path) -> None:
    content = {path.name: path.read_bytes() for path in small_cifar10.iterdir()}
    for _ in range(2):  # once for each of two workers
        worker._write_images(tmp_path / "images", cifar10.FOLDER, content)
        found = cifar10.find(str(tmp_path / "images"), verify="size")
        assert {path.name: path.read_bytes() for path in found.folder.iterdir()} == content
    assert {path.name for path in tmp_path.iterdir()} == {"small", "images"}


def test_images_that_exist_are_not_sent(small_cifar10: Path) -> None:
    data = OmegaConf.create({"name": "cifar10", "dir": str(small_cifar10)})
    worker._bring_images(data, {("cifar10", str(small_cifar10)): worker.Images("digest", None)})
    assert data.dir == str(small_cifar10)


def test_a_run_lost_with_its_machine_is_set_to_killed(store: Store, tmp_path: Path) -> None:
    runs = []
    for sweep, number in (("lost", 1), ("lost", 2), ("other", 1)):
        tags = {"cifar_exp.sweep": sweep, "cifar_exp.job": str(number), "cifar_exp.outcome": "running"}
        run = Run.start(store, tmp_path / f"{sweep}{number}", "r", tags, {})
        assert run.wait_until_started() and run.wait(60)
        runs.append(run)
    sync.record_lost_job(store, "lost", 1)
    found = [store.client.get_run(str(run.id)) for run in runs]
    assert [run.info.status for run in found] == ["KILLED", "RUNNING", "RUNNING"]
    assert [run.data.tags["cifar_exp.outcome"] for run in found] == ["interrupted", "running", "running"]
    for run in runs:
        run.finish("FINISHED")
