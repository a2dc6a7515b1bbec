"""What JAX has compiled is kept on the disk: jobs and processes that differ in values only compile nothing again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from cifar_exp.importing import is_installed

pytestmark = pytest.mark.skipif(not is_installed("jax"), reason="JAX is not installed")

# Trains the jobs of each group in a fork of one process that has imported JAX. A group has a folder for caches, the
# size in bytes from which no file can be written, or 0, and jobs: lists of overrides. Prints, for each job, how often
# JAX asked for a program and how often it had one, and the losses.
PROCESS = """
import collections, json, os, resource, sys
from trained import go_on
import jax

for group in sys.argv[1:]:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    cache, largest, jobs = json.loads(group)
    os.environ["XDG_CACHE_HOME"] = cache
    answers = []
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    for overrides in jobs:
        events = collections.Counter()
        jax.monitoring.clear_event_listeners()
        jax.monitoring.register_event_listener(lambda name, **_: events.update([name.rpartition("/")[2]]))
        losses = go_on(tuple(overrides)).history["train/loss"]
        answers.append([events["compile_requests_use_cache"], events["cache_hits"], losses])
    print(json.dumps(answers), flush=True)
    os._exit(0)
"""
ADAM = ["optimizer=adam", "training.epochs=1"]
OTHER_VALUES = [*ADAM, "optimizer.learning_rate=0.02", "seed=1"]


Answers = list[tuple[int, int, list[float]]]


class Compiled(NamedTuple):
    """What each process told of its jobs, and the folders for caches."""

    first: Answers
    second: Answers
    on_a_full_disk: Answers
    cache: Path
    full: Path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    cache, full = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("full")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    own = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    groups = [
        (str(cache), 0, [ADAM, OTHER_VALUES]),
        (str(cache), 0, [OTHER_VALUES]),
        (str(full), 4096, [ADAM, ADAM]),
    ]
    command = [sys.executable, "-c", PROCESS, *map(json.dumps, groups)]
    done = subprocess.run(command, capture_output=True, text=True, env=kept | own)
    assert done.returncode == 0, done.stderr
    assert "persistent compilation cache" not in done.stderr
    return Compiled(*map(json.loads, done.stdout.splitlines()), cache, full)


def epochs(cache: Path) -> Counter[str]:
    """Number of compiled programs of an epoch, by name."""
    names = (path.name.partition("-")[0] for path in (cache / "cifar_exp" / "jax").iterdir())
    return Counter(name for name in names if name.endswith("_epoch"))


def test_nothing_is_compiled_again_for_other_values(compiled: Compiled) -> None:
    first, second = compiled.first
    assert epochs(compiled.cache) == {"jit_train_epoch": 1, "jit_test_epoch": 1}
    assert first[0] > first[1] and second[0] == second[1] > 0
    assert first[2] != second[2]
    ((requests, found, losses),) = compiled.second
    assert requests == found > 0 and losses == second[2]


def test_a_full_disk_costs_time_alone(compiled: Compiled) -> None:
    first, second = compiled.on_a_full_disk
    cut_off = [path for path in (compiled.full / "cifar_exp" / "jax").iterdir() if path.stat().st_size == 4096]
    assert any(path.name.startswith("jit_train_epoch-") for path in cut_off)
    assert second[2] == first[2]
