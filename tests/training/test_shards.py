"""A batch in shards: the same training but for rounding, or ghost batches that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
from trained import fit, go_on

from cifar_exp.config.composition import plan
from cifar_exp.errors import UserError
from cifar_exp.training import runtime, threads
from cifar_exp.training.checkpoint import Checkpoints
from cifar_exp.training.shards import split_into_shards

CONVOLVES = "model.layers=[{Conv2D:{filters:4,kernel_size:3}},{MaxPooling2D:{pool_size:4}},Flatten,{Dense:{units:10}}]"
NORMALIZES = "model.layers=[{BatchNormalization:{momentum:0.5}},Flatten,{Dense:{units:10}}]"


def two_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "shards", lambda: 2)


@pytest.mark.parametrize("batch", [32, 199], ids=["the last of 8", "the last of 1"])
def test_training_in_shards_is_the_same_but_for_rounding(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    overrides = (CONVOLVES, f"training.batch_size={batch}", "training.epochs=2")
    whole = fit(*overrides)
    two_side_by_side(monkeypatch)
    shared = go_on(overrides)
    assert shared.history["train/loss"] == pytest.approx(whole.history["train/loss"], rel=1e-4)
    assert shared.history["val/loss"] == pytest.approx(whole.history["val/loss"], rel=1e-4)
    for one, other in zip(shared.model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_each_shard_draws_its_own_dropout() -> None:
    dropout = keras.Sequential([keras.Input((1000,)), keras.layers.Dropout(0.5)])
    dropped = keras.ops.convert_to_numpy(split_into_shards(dropout, 2)(np.ones((2, 1000)), training=True)) == 0
    assert 0.4 < dropped.mean() < 0.6
    assert not np.array_equal(*dropped)


def test_a_checkpoint_made_in_shards_goes_on_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    overrides = ("optimizer.momentum=0.9", "augmentation=flip_zoom", CONVOLVES, "training.epochs=2")
    with monkeypatch.context() as patched:
        two_side_by_side(patched)
        with pytest.raises(KeyboardInterrupt):
            go_on(overrides, tmp_path, stop_after=1)
    left = Checkpoints(tmp_path).newest()
    assert left is not None
    resumed = go_on(overrides, tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2]
    assert resumed.history["train/loss"][0] == left.history["train/loss"][0]


def test_batch_normalization_sees_whole_batches_unless_ghosts_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = (NORMALIZES, "training.epochs=1")
    whole = fit(*overrides)
    two_side_by_side(monkeypatch)
    assert go_on(overrides).history["train/loss"] == whole.history["train/loss"]
    ghosts = go_on((*overrides, "training.ghost_batches=2"))
    assert ghosts.history["train/loss"] != pytest.approx(whole.history["train/loss"], rel=1e-4)


def test_a_ghost_batch_is_normalized_by_its_own_images() -> None:
    images = np.random.default_rng(0).normal(5, 3, (7, 4)).astype("float32")
    normalization = keras.layers.BatchNormalization(epsilon=1e-6)
    model = keras.Sequential([keras.Input((4,)), normalization])
    outputs = keras.ops.convert_to_numpy(split_into_shards(model, 2)(images, training=True))
    for ghost in (slice(0, 3), slice(3, 7)):
        expected = (images[ghost] - images[ghost].mean(0)) / images[ghost].std(0)
        assert np.allclose(outputs[ghost], expected, atol=1e-4)


def test_a_batch_with_fewer_images_than_ghosts_is_refused() -> None:
    with pytest.raises(UserError, match=r"^training.ghost_batches: got 2, .* of 200 images has 1: choose another"):
        go_on((NORMALIZES, "training.ghost_batches=2", "training.batch_size=199"))
    with pytest.raises(UserError, match=r"^training.ghost_batches: got 33, expected at most training.batch_size, 32$"):
        plan([NORMALIZES, "training.ghost_batches=33", "data=digits"], multirun=False)


BATCH = f"training.batch_size={16 * runtime.cores()}"
SHARED: Sequence[tuple[Sequence[str], bool]] = [
    (["model=baseline"], True),
    (["model=baseline,large"], True),
    (["model=bn"], False),  # its normalization looks at whole batches
    (["model=baseline,bn"], False),  # one process runs both
    (["model=bn", f"training.ghost_batches={runtime.cores()}"], True),
    (["model=baseline", f"training.ghost_batches={runtime.cores() + 1}"], False),
    (["model=baseline", "training.deterministic=true"], False),  # the same bits, whatever else the process runs
    (["model=baseline", "training.device=gpu"], False),
    (["model=baseline", "training.batch_size=8"], False),
    (["model=[Flatten,{Dense:{units:10,activity_regularizer:l2}}]"], False),
]


@pytest.mark.skipif(runtime.cores() == 1, reason="one core has nobody to share with")
@pytest.mark.parametrize(("overrides", "expected"), SHARED, ids=lambda value: str(value))
def test_a_process_computes_shards_side_by_side_where_all_its_jobs_can(
    monkeypatch: pytest.MonkeyPatch, overrides: Sequence[str], expected: bool
) -> None:
    monkeypatch.setattr(runtime, "gpu_count", lambda: 0)
    monkeypatch.setattr(runtime, "backend_package", lambda: "tensorflow")
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "")  # put back at the end, whatever becomes of it
        monkeypatch.delenv(name)
    given = [part.replace("model=[", "model.layers=[") for part in overrides]
    threads.share_cores(plan([BATCH, *given], multirun=True).jobs, runtime.cores())
    assert threads.shards() == (runtime.cores() if expected else 1)


def test_threads_that_the_user_has_set_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "")
    assert not threads.threads_are_set()
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    assert threads.threads_are_set()
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "two")
    with pytest.raises(UserError, match=r"^TF_NUM_INTEROP_THREADS=two: expected a number of threads$"):
        threads.threads_are_set()


def test_a_worker_of_one_thread_has_one_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "1")  # as `use_threads` sets them
    assert threads.shards() == 1
