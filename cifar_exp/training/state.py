"""What the next step of a training depends on <-> named arrays.

These are all variables of the model, the states of its random layers among them, and all of its optimizer, on every
backend. The order of the images depends on seed and epoch alone, and early stopping on the history.
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

Weights = list[npt.NDArray[Any]]  # as keras.Model.get_weights gives them


def capture(model: keras.Model, best: Weights | None) -> dict[str, npt.NDArray[Any]]:
    """The state of a compiled and built model between two epochs.

    Args:
        model: what is trained, its augmentation included.
        best: weights that early stopping may restore, unless they are the present ones.
    """
    arrays = {name: _bits(variable) for name, variable in _variables(model).items()}
    if best is not None:
        arrays |= {name: _plain(value) for name, value in zip(_best_names(model), best, strict=True)}
    return arrays


def restore(model: keras.Model, checkpoint: Checkpoint, with_best: bool) -> Weights | None:
    """Bring a compiled and built model into the state of the checkpoint.

    Args:
        model: as it was made for the training that the checkpoint is of.
        checkpoint: its epoch is the last that was trained.
        with_best: whether it must hold weights for early stopping to restore, and they are what is given back.

    Raises:
        UserError: naming the first weight that does not fit; the model is unchanged.
    """
    variables = _variables(model)
    expected = {name: _bits(variable) for name, variable in variables.items()}
    best_names = _best_names(model) if with_best else []
    expected |= dict(zip(best_names, map(_plain, model.get_weights()), strict=False))
    _check(checkpoint, expected)
    for name, variable in variables.items():
        variable.assign(_of_bits(checkpoint.arrays[name], variable))
    if not with_best:
        return None
    return [_of_bits(checkpoint.arrays[name], weight) for name, weight in zip(best_names, model.weights, strict=True)]


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Everything that a step changes: weights, random states, then slots and step count of the optimizer."""
    optimizer = model.optimizer
    of_optimizer = list(optimizer.variables)
    # Keras does not list Nadam's product of momentums where the loss scale of half precision is wrapped around it.
    for value in vars(getattr(optimizer, "inner_optimizer", optimizer)).values():
        if isinstance(value, keras.Variable) and not any(value is variable for variable in of_optimizer):
            of_optimizer.append(value)
    named = zip(_names("model", model.variables), model.variables, strict=True)
    return dict(named) | dict(zip(_names("optimizer", of_optimizer), of_optimizer, strict=True))


def _best_names(model: keras.Model) -> list[str]:
    return _names("best", model.weights)


def _names(kind: str, variables: Sequence[keras.Variable]) -> list[str]:
    """`model/2/conv2d/kernel`: Keras's path without its count of layers in this process, and the place in the list."""
    return [f"{kind}/{n}/{re.sub(r'_[0-9]+(?=[/_]|$)', '', variable.path)}" for n, variable in enumerate(variables)]


def _check(checkpoint: Checkpoint, expected: Arrays) -> None:
    found = checkpoint.arrays
    names = [*expected, *(name for name in found if name not in expected)]
    for name in sorted(names, key=lambda name: not name.startswith("model/")):  # a layer says more than its optimizer
        there, here = _described(found.get(name)), _described(expected.get(name))
        if there != here:
            raise UserError(f"checkpoint {checkpoint.file} does not fit: {name} is {there} there and {here} here")


def _described(array: npt.NDArray[Any] | None) -> str:
    if array is None:
        return "missing"
    return f"{' x '.join(map(str, array.shape)) or 'a number'} {array.dtype}"


def _bits(variable: keras.Variable) -> npt.NDArray[Any]:
    return _plain(keras.ops.convert_to_numpy(variable))


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """bfloat16 is none of numpy's own types: its bits as integers."""
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else np.asarray(array)


def _of_bits(array: npt.NDArray[Any], variable: keras.Variable) -> npt.NDArray[Any]:
    own = keras.ops.convert_to_numpy(variable).dtype
    return array.view(own) if own.kind == "V" else array
