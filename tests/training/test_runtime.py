"""The process: what is set before Keras is imported, and before each run."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest

from cifar_exp.config.training_schema import TrainingConfig
from cifar_exp.errors import UserError
from cifar_exp.importing import is_installed
from cifar_exp.training import runtime


def settings(**changed: object) -> TrainingConfig:
    return TrainingConfig(epochs=1, batch_size=1, **changed)  # type: ignore[arg-type]


def test_prepare_sets_the_seed_and_the_precision() -> None:
    runtime.prepare(settings(precision="mixed_bfloat16"), seed=5)
    try:
        first = float(keras.random.uniform(()))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        runtime.prepare(settings(), seed=5)
    assert keras.config.dtype_policy().name == "float32"
    assert float(keras.random.uniform(())) == pytest.approx(first, abs=0.01)
    runtime.prepare(settings(), seed=6)
    assert float(keras.random.uniform(())) != pytest.approx(first, abs=0.001)


def test_names_of_layers_start_anew_with_each_run() -> None:
    names = []
    for _ in range(2):
        runtime.prepare(settings(), seed=0)
        names.append(keras.layers.Dense(1).name)
    assert names[0] == names[1]


def test_another_backend_than_that_of_the_process_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    own = keras.backend.backend()
    other = next((name for name in runtime.BACKENDS if name != own and is_installed(name)), None)
    if other is None:
        pytest.skip("needs a second backend: pip install 'cifar-exp[jax]'")
    monkeypatch.setenv("KERAS_BACKEND", other)
    with pytest.raises(UserError, match=f"^Keras runs on {own} in this process, not on {other}: set KERAS_BACKEND="):
        runtime.check_backend()


@pytest.mark.parametrize(
    ("device", "there", "seen", "warned"),
    [("auto", 1, [], True), ("auto", 1, ["H100"], False), ("auto", 0, [], False), ("cpu", 1, [], False)],
)
def test_a_gpu_that_is_there_and_not_used_is_no_secret(
    monkeypatch: pytest.MonkeyPatch, device: str, there: int, seen: list[str], warned: bool
) -> None:
    monkeypatch.setattr(runtime, "gpu_count", lambda: there)
    monkeypatch.setattr(runtime, "gpus", lambda: seen)
    said = runtime.unused_gpu(device)
    assert (said is not None) == warned
    assert not said or said.endswith(("cifar-exp[gpu]", "jax[cuda13]", "with CUDA"))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "gpus", lambda: [])
    with pytest.raises(UserError, match=r"^training.device=gpu: Keras sees no GPU"):
        runtime.prepare(settings(device="gpu"), seed=0)


def test_the_device_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "gpus", lambda: [])
    assert runtime.device().startswith("CPU: ")
    assert runtime.device().endswith(" cores")
    monkeypatch.setattr(runtime, "gpus", lambda: ["A", "B"])
    assert runtime.device() == "GPU: A, B"


def test_the_backend_is_told_with_its_version() -> None:
    name, version = runtime.backend().split()
    assert name == runtime.backend_package() == keras.backend.backend()
    assert version[0].isdigit()


def test_importing_keras_says_nothing_and_respects_what_the_user_has_set() -> None:
    program = """
import os, sys
from cifar_exp.training import runtime
from cifar_exp.config.training_schema import TrainingConfig
runtime.prepare(TrainingConfig(epochs=1, batch_size=1, device="cpu"), seed=0)
import keras
keras.ops.convert_to_numpy(keras.ops.ones(3) + 1)
assert runtime.gpus() == []
assert "jax" not in sys.modules
print(os.environ["TF_ENABLE_ONEDNN_OPTS"], os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TF_CPP_MIN_LOG_LEVEL"])
"""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment = inherited | {"TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["0", "-1", "3"], "")


def test_lines_of_libraries_are_discarded_and_own_ones_kept(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with runtime.silenced(1, 2):
        os.write(1, b"graph")
        os.write(2, b"warning")
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow alone")
def test_determinism_ends_with_its_run_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.python.framework import config

    def after(deterministic: bool = False) -> bool:
        runtime.prepare(settings(deterministic=deterministic), seed=0)
        return bool(config.is_op_determinism_enabled())

    assert [after(deterministic=True), after()] == [True, False]
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    assert after()
    monkeypatch.delenv("TF_DETERMINISTIC_OPS")
    assert not after()
