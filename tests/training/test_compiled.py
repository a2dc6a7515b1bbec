"""What JAX has compiled is kept on the disk: jobs and processes that differ in values only compile nothing again."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")

# Trains a job for each list of overrides. Prints, for each, how often JAX asked for a program and how often it had one.
PROCESS = """
import collections, json, resource, sys
from trained import go_on
import jax

largest, *jobs = map(json.loads, sys.argv[1:])
if largest:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
for overrides in jobs:
    events = collections.Counter()
    jax.monitoring.clear_event_listeners()
    jax.monitoring.register_event_listener(lambda name, **_: events.update([name.rpartition("/")[2]]))
    losses = go_on(tuple(overrides)).history["train/loss"]
    print(json.dumps([events["compile_requests_use_cache"], events["cache_hits"], losses]))
"""
ADAM = ["optimizer=adam", "training.epochs=1"]
OTHER_VALUES = [*ADAM, "optimizer.learning_rate=0.02", "seed=1"]


def process(cache: Path, *jobs: list[str], largest: int = 0) -> list[list[Any]]:
    """Train in a process with this folder for caches; `largest` is the size in bytes from which no file is written."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    own = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-c", PROCESS, str(largest), *map(json.dumps, jobs)]
    done = subprocess.run(command, capture_output=True, text=True, env=kept | own)
    assert done.returncode == 0, done.stderr
    assert "persistent compilation cache" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def epochs(cache: Path) -> Counter[str]:
    """Number of compiled programs of an epoch, by name."""
    names = (path.name.partition("-")[0] for path in (cache / "cifar_exp" / "jax").iterdir())
    return Counter(name for name in names if name.endswith("_epoch"))


def test_nothing_is_compiled_again_for_other_values(tmp_path: Path) -> None:
    first, second = process(tmp_path, ADAM, OTHER_VALUES)
    assert epochs(tmp_path) == {"jit_train_epoch": 1, "jit_test_epoch": 1}
    assert first[0] > first[1] and second[0] == second[1] > 0
    assert first[2] != second[2]
    ((requests, found, losses),) = process(tmp_path, OTHER_VALUES)
    assert requests == found and losses == second[2]


def test_a_full_disk_costs_time_alone(tmp_path: Path) -> None:
    first, second = process(tmp_path, ADAM, ADAM, largest=4096)
    cut_off = [path for path in (tmp_path / "cifar_exp" / "jax").iterdir() if path.stat().st_size == 4096]
    assert any(path.name.startswith("jit_train_epoch-") for path in cut_off)
    assert second[2] == first[2]
