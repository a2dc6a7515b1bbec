"""Tests of a model that a format cannot hold, and of a file that does not give the probabilities of Keras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cifar_exp.errors import UserError
from cifar_exp.evaluation import export, export_formats


class InPython(keras.layers.Layer):  # type: ignore[misc]
    """A layer that no other runtime can compute."""

    def call(self, tensor: Any) -> Any:
        import tensorflow as tf

        result = tf.numpy_function(lambda values: values, [tensor], tf.float32)
        result.set_shape(tensor.shape)
        return result


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 1)).astype(np.uint8)


def classifier(*layers: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((2, 2, 1), dtype="uint8", name="images")
    tensor = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    for layer in layers:
        tensor = layer(tensor)
    return keras.Model(inputs, keras.layers.Softmax()(tensor))


def test_the_layer_that_a_format_cannot_hold_is_named(tmp_path: Path) -> None:
    model = classifier(keras.layers.Dense(3), InPython(name="odd"))
    with pytest.raises(UserError, match=r"--to tflite: layer 'odd \(InPython\)' cannot be exported") as refused:
        export.export(model, export_formats.chosen(["tflite"], "tensorflow"), tmp_path, IMAGES)
    assert "\n" not in str(refused.value)


def test_a_layer_whose_operator_onnx_runtime_does_not_have_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    model = classifier(keras.layers.Dense(3), keras.layers.Dense(3, activation="gelu", name="exact"))
    with pytest.raises(UserError, match=r"--to onnx: layer 'exact \(Dense\)' cannot be exported") as refused:
        export.export(model, export_formats.chosen(["onnx"], "tensorflow"), tmp_path, IMAGES)
    assert "\n" not in str(refused.value)


def test_a_file_with_other_probabilities_does_not_agree(tmp_path: Path) -> None:
    model, other = classifier(keras.layers.Dense(3)), classifier(keras.layers.Dense(3))
    formats = export_formats.chosen(["keras"], "tensorflow")
    assert [one.agrees for one in export.export(model, formats, tmp_path, IMAGES)] == [True, True]
    wrong = {"keras": replace(formats["keras"], write=lambda _, path: other.save(path))}
    here, file = export.export(model, wrong, tmp_path, IMAGES)
    assert here.agrees and not file.agrees and file.difference > export.TOLERANCE
