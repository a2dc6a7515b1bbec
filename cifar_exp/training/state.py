"""The state of a training as named arrays, to save it in a checkpoint and to restore it.

On every backend the state consists of all variables of the model, including the states of its random layers, and all
variables of its optimizer. Nothing else is needed: the order of the images depends only on seed and epoch, and early
stopping on the history.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cifar_exp.errors import UserError
from cifar_exp.training.checkpoint import Arrays, Checkpoint

Weights = list[npt.NDArray[Any]]  # as keras.Model.get_weights returns them


def capture(model: keras.Model, best: Weights | None) -> dict[str, npt.NDArray[Any]]:
    """Copy the state of a training between two epochs.

    Args:
        model: the model that is trained, compiled and built, including its augmentation.
        best: weights that early stopping may restore; None if they are the current ones.

    Returns:
        Arrays by name.
    """
    arrays = {name: _bits(variable) for name, variable in _variables(model).items()}
    if best is not None:
        arrays |= {name: _plain(value) for name, value in zip(_best_names(model), best, strict=True)}
    return arrays


def restore(model: keras.Model, checkpoint: Checkpoint, with_best: bool) -> Weights | None:
    """Restore the state of a training from a checkpoint.

    Args:
        model: compiled and built in the same way as the model whose state was captured.
        checkpoint: of the last trained epoch.
        with_best: whether the checkpoint must contain weights that early stopping may restore.

    Returns:
        These weights, or None without `with_best`.

    Raises:
        UserError: if an array is missing or has another shape or dtype. The model is then unchanged.
    """
    variables = _variables(model)
    expected = {name: _bits(variable) for name, variable in variables.items()}
    best_names = _best_names(model) if with_best else []
    expected |= dict(zip(best_names, map(_plain, model.get_weights()), strict=False))
    _check(checkpoint, expected)
    for name, variable in variables.items():
        variable.assign(_from_bits(checkpoint.arrays[name], variable))
    if not with_best:
        return None
    return [_from_bits(checkpoint.arrays[name], weight) for name, weight in zip(best_names, model.weights, strict=True)]


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return all variables that a step changes, by name: weights, random states and those of the optimizer."""
    optimizer = model.optimizer
    optimizer_variables = list(optimizer.variables)
    # Keras does not list the momentum product of a Nadam that is wrapped for the loss scale of half precision.
    for value in vars(getattr(optimizer, "inner_optimizer", optimizer)).values():
        if isinstance(value, keras.Variable) and not any(value is variable for variable in optimizer_variables):
            optimizer_variables.append(value)
    named = zip(_names("model", model.variables), model.variables, strict=True)
    return dict(named) | dict(zip(_names("optimizer", optimizer_variables), optimizer_variables, strict=True))


def _best_names(model: keras.Model) -> list[str]:
    return _names("best", model.weights)


def _names(kind: str, variables: Sequence[keras.Variable]) -> list[str]:
    """Name variables by kind, index and path, such as `model/2/conv2d/kernel`.

    Numbers are removed from Keras's path, because they count the layers of the process.
    """
    return [f"{kind}/{n}/{re.sub(r'_[0-9]+(?=[/_]|$)', '', variable.path)}" for n, variable in enumerate(variables)]


def _check(checkpoint: Checkpoint, expected: Arrays) -> None:
    saved = checkpoint.arrays
    names = [*expected, *(name for name in saved if name not in expected)]
    # Weights first: their names tell more than those of the optimizer.
    for name in sorted(names, key=lambda name: not name.startswith("model/")):
        got, wanted = _describe(saved.get(name)), _describe(expected.get(name))
        if got != wanted:
            problem = f"{name} is {got} in the checkpoint and {wanted} in the model"
            raise UserError(f"checkpoint {checkpoint.file} does not fit: {problem}")


def _describe(array: npt.NDArray[Any] | None) -> str:
    if array is None:
        return "missing"
    return f"{' x '.join(map(str, array.shape)) or 'a number'} {array.dtype}"


def _bits(variable: keras.Variable) -> npt.NDArray[Any]:
    return _plain(keras.ops.convert_to_numpy(variable))


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return bfloat16 arrays as integers with the same bits, since NumPy has no bfloat16; others unchanged."""
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else np.asarray(array)


def _from_bits(array: npt.NDArray[Any], variable: keras.Variable) -> npt.NDArray[Any]:
    """Reverse `_plain` for the dtype of a variable."""
    dtype = keras.ops.convert_to_numpy(variable).dtype
    return array.view(dtype) if dtype.kind == "V" else array
