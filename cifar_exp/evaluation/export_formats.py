"""The formats that a classifier is exported to: how each is written, and how its own runtime predicts with it.

All files take images (N, H, W, C) uint8 and return probabilities (N, classes) float32, for any N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data.splits import Images
from cifar_exp.errors import UserError, did_you_mean
from cifar_exp.importing import is_installed

if TYPE_CHECKING:
    import keras

Predict = Callable[[Images], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        file: name of the file or folder.
        backends: of Keras that can write it.
        write: classifier, path -> the file.
        load: path -> prediction in the format's own runtime.
        packages: that it needs beside Keras's backend.
    """

    file: str
    backends: tuple[str, ...]
    write: Callable[[keras.Model, Path], None]
    load: Callable[[Path], Predict]
    packages: tuple[str, ...] = field(default=())


def chosen(names: Sequence[str], backend: str) -> dict[str, Format]:
    """The formats with these names, if they can be written here.

    Args:
        names: of formats.
        backend: of Keras.

    Raises:
        UserError: naming the format that is unknown, or needs another backend or a package.
    """
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--to {name}: expected some of {', '.join(FORMATS)}{did_you_mean(name, FORMATS)}")
        if backend not in FORMATS[name].backends:
            other = FORMATS[name].backends[0]
            raise UserError(f"--to {name}: not with Keras on {backend}; set KERAS_BACKEND={other}")
        for package in FORMATS[name].packages:
            if not is_installed(package):
                raise UserError(f"--to {name}: needs {package}: pip install 'cifar-exp[{name}]'")
    return {name: FORMATS[name] for name in dict.fromkeys(names)}


def write_int8(classifier: keras.Model, path: Path, images: Images) -> None:
    """Write a TFLite file with weights and activations in 8 bits.

    Args:
        classifier: to be exported, on TensorFlow.
        path: of the file.
        images: (N, H, W, C) uint8; the ranges of the activations are those for these images.
    """
    import tensorflow as tf

    _export(
        classifier,
        path,
        "litert",
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[np.newaxis]] for image in images),
    )


def _export(classifier: keras.Model, path: Path, keras_format: str, **options: Any) -> None:
    """Keras's export, for any number of images."""
    import keras

    inputs = [
        keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype="uint8", name=tensor.name)
        for tensor in classifier.inputs
    ]
    classifier.export(str(path), format=keras_format, verbose=False, input_signature=inputs, **options)


def _write_keras(classifier: keras.Model, path: Path) -> None:
    classifier.save(path)


def _load_keras(path: Path) -> Predict:
    import keras

    model = keras.models.load_model(path)  # of the file that was just written here
    return lambda images: np.asarray(model.predict_on_batch(images))


def _write_saved_model(classifier: keras.Model, path: Path) -> None:
    _export(classifier, path, "tf_saved_model")


def _load_saved_model(path: Path) -> Predict:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    return lambda images: np.asarray(model.serve(images))


def _write_onnx(classifier: keras.Model, path: Path) -> None:
    _export(classifier, path, "onnx")
    # The converter may write an operator that ONNX does not have, such as that of TensorFlow's exact GELU.
    _load_onnx(path)


def _load_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (images_input,) = session.get_inputs()
    return lambda images: np.asarray(session.run(None, {images_input.name: images})[0])


def _write_tflite(classifier: keras.Model, path: Path) -> None:
    _export(classifier, path, "litert")


def load_tflite(path: Path) -> Predict:
    """Prediction with a TFLite file, by TensorFlow's interpreter."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape: list[tuple[int, ...]] = []

    def predict(images: Images) -> npt.NDArray[np.float32]:
        if shape != [images.shape]:
            interpreter.resize_tensor_input(entry["index"], images.shape)
            interpreter.allocate_tensors()
            shape[:] = [images.shape]
        interpreter.set_tensor(entry["index"], images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result["index"]))

    return predict


def _write_torch(classifier: keras.Model, path: Path) -> None:
    import torch

    _export(classifier, path, "torch", dynamic_shapes={0: torch.export.Dim("batch")})


def _load_torch(path: Path) -> Predict:
    import torch

    model = torch.export.load(path).module()

    def predict(images: Images) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(images)))

    return predict


FORMATS: Mapping[str, Format] = {
    "keras": Format("model.keras", ("tensorflow", "jax", "torch"), _write_keras, _load_keras),
    "saved_model": Format("saved_model", ("tensorflow", "jax"), _write_saved_model, _load_saved_model),
    "onnx": Format("model.onnx", ("tensorflow", "torch"), _write_onnx, _load_onnx, ("onnx", "onnxruntime", "tf2onnx")),
    "tflite": Format("model.tflite", ("tensorflow",), _write_tflite, load_tflite),
    "torch_export": Format("model.pt2", ("torch",), _write_torch, _load_torch),
}
