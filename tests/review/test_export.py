"""Tests of cifar-exp export: every format, loaded in its own runtime, gives the probabilities of Keras."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import program
import pytest

from cifar_exp import cli, exits
from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError
from cifar_exp.evaluation import export_formats
from cifar_exp.importing import is_installed
from cifar_exp.review import logged_model
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]
Answer = Callable[..., tuple[int, str, str]]

DIGITS = datasets.load(DataConfig("digits")).test
ONNX = "onnx" if is_installed("tf2onnx") and is_installed("onnxruntime") else None


@pytest.fixture
def answer(own_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    """answer(RUN, "--json", ...) -> exit code, stdout and stderr of cifar-exp export."""
    monkeypatch.setattr(exits, "take_signals", lambda: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        where = ["--uri", own_store.uri, "--experiment", own_store.experiment]
        monkeypatch.setattr(sys, "argv", ["cifar-exp", "export", *arguments, *where])
        code = cli.main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def check(folder: Path, name: str, expected: np.ndarray) -> None:
    """Load a file with its own runtime, and compare what it says of all test images."""
    one = export_formats.FORMATS[name]
    assert np.allclose(one.load(folder / one.file)(DIGITS.images), expected, atol=1e-4)


def test_every_format_gives_the_probabilities_of_keras(
    answer: Answer, own_store: Store, log_trained: LogTrained, tmp_path: Path
) -> None:
    run = log_trained("strong")
    formats = [name for name in ("keras", "saved_model", ONNX, "tflite") if name]
    folder = tmp_path / "export"
    code, out, err = answer(run.info.run_id, "--to", ",".join(formats), "--int8", "--json", "-o", str(folder))
    assert (code, err) == (0, "")
    about = json.loads(out)
    assert about == json.loads((folder / "export.json").read_text())
    assert about["classes"] == list("0123456789") and about["input"] == {"shape": [None, 32, 32, 3], "dtype": "uint8"}
    files: dict[str, Any] = {one["format"]: one for one in about["files"]}
    assert list(files) == ["keras, not exported", *formats, "tflite int8"]
    expected = logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images)
    for name in formats:
        assert files[name]["max_difference"] <= 1e-4
        check(folder, name, expected)
        assert set(files[name]["milliseconds"]) == {"1", "256"}
    assert files["tflite"]["bytes"] == (folder / "model.tflite").stat().st_size
    assert files["saved_model"]["bytes"] > 30_720 * 4  # the weights of the only layer, in a folder
    own = float((expected.argmax(axis=1) == DIGITS.labels).mean())
    assert files["keras, not exported"]["test_accuracy"] == pytest.approx(own)
    int8 = export_formats.load_tflite(folder / "model_int8.tflite")(DIGITS.images)
    counted = float((int8.argmax(axis=1) == DIGITS.labels).mean())
    assert files["tflite int8"]["test_accuracy"] == pytest.approx(counted) and counted > own - 0.02
    assert files["tflite int8"]["bytes"] < 0.4 * files["tflite"]["bytes"]
    code, _, err = answer(run.info.run_id, "-o", str(folder))
    assert code == 2 and "the folder is not empty" in err


def test_a_model_that_averages_views_is_exported(
    answer: Answer, own_store: Store, log_trained: LogTrained, tmp_path: Path
) -> None:
    run = log_trained("averaged")
    formats = [name for name in ("saved_model", ONNX, "tflite") if name]
    code, out, _ = answer(run.info.run_id, "--to", ",".join(formats), "-o", str(tmp_path / "export"))
    assert code == 0 and "checked on 32 test images" in out and "model.tflite" in out
    expected = logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images)
    for name in formats:
        check(tmp_path / "export", name, expected)


def test_what_cannot_be_exported_here_is_refused_before_anything_is_read(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for to, said in (
        ("tflight", "--to tflight: expected some of keras, saved_model, onnx, tflite, torch_export; did you mean"),
        ("torch_export", "not with Keras on tensorflow; set KERAS_BACKEND=torch"),
    ):
        code, _, err = answer("no-such-run", "--to", f"keras,{to}")
        assert code == 2 and said in err and err.count("\n") == 1
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else found(name))
    with pytest.raises(UserError, match=r"needs .*: pip install 'cifar-exp\[onnx\]'"):
        export_formats.chosen(["onnx"], "tensorflow")


def test_torch_export_in_a_process_with_torch(log_trained: LogTrained, own_store: Store, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install 'cifar-exp[torch]'")
    run = log_trained("averaged")
    where = ["--uri", own_store.uri, "--experiment", own_store.experiment]
    command = [
        *program.COMMAND,
        "export",
        run.info.run_id,
        "--to",
        "torch_export,onnx" if ONNX else "torch_export",
        "--json",
        *where,
    ]
    done = program.execute(command, tmp_path, {"KERAS_BACKEND": "torch"})
    assert (done.returncode, done.stderr) == (0, "")
    here, file, *others = json.loads(done.stdout)["files"]
    assert (file["file"], here["file"]) == ("model.pt2", None)
    assert all(one["max_difference"] <= 1e-4 for one in (file, *others))
    assert file["bytes"] == (tmp_path / "export" / "model.pt2").stat().st_size
