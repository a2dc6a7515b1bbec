"""Check that a list of layers ends in logits: one unbounded number for each class.

The program adds the softmax itself, in the loss and in the logged classifier. A model that ends in a softmax, a ReLU or
a dropout would train without an error, but worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cifar_exp.config import keras_names
from cifar_exp.config.layers import GATE, RESIDUAL, Layer, in_order
from cifar_exp.errors import UserError

# Activations whose values have no upper and no lower bound.
_UNBOUNDED = {"hard_shrink", "leaky_relu", "linear", "soft_shrink", "tanh_shrink"}
_ACTIVATION_LAYERS = {"ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"}


class _Flaw(NamedTuple):
    """Why the output of a layer cannot be logits.

    Attributes:
        reason: message for the user.
        bounded: whether the values are bounded. Then they stay bounded after other layers, such as pooling.
    """

    reason: str
    bounded: bool


def check(layers: Sequence[Layer], where: str) -> None:
    """Refuse a list of layers whose output is bounded, random or normalized.

    Args:
        layers: of the model.
        where: which list it is, for error messages.

    Raises:
        UserError: with the layer and what to drop.
    """
    if flaw := _follow(layers, where, None):
        raise UserError(flaw.reason)


def _follow(layers: Sequence[Layer], where: str, flaw: _Flaw | None) -> _Flaw | None:
    """Return the flaw of the output of layers.

    Args:
        layers: in order.
        where: which list it is, for error messages.
        flaw: of the input of the first layer.
    """
    for name, layer in in_order(layers, where):
        if layer.kind == RESIDUAL:  # a sum is flawed only if both branches are
            inner, outer = _follow(layer.layers, name, flaw), _follow(layer.shortcut, name, flaw)
            flaw = inner if outer else None
        elif layer.kind == GATE:  # so is a product, but a gate is usually bounded: what it multiplies is to blame
            flaw = flaw if _follow(layer.layers, name, flaw) else None
        else:
            flaw = _output_flaw(layer, name, flaw)
    return flaw


def _output_flaw(layer: Layer, where: str, flaw: _Flaw | None) -> _Flaw | None:
    """Return the flaw of the output of a layer whose input has this flaw."""
    if layer.kind not in keras_names.exports("layers"):  # of an installed package: what it computes is not known
        return None
    kind = keras_names.defined_as("layers", layer.kind)
    if kind in _ACTIVATION_LAYERS or kind == "Activation":
        activation = _activation(layer) if kind == "Activation" else kind
        return _activation_flaw(where, activation, f"drop the {layer.kind} layer", _is_bounded(layer, kind), flaw)
    if "Dense" in kind or "Conv" in kind or kind == "MultiHeadAttention":
        return _activation_flaw(where, _activation(layer), "drop the activation", _is_bounded(layer, kind), None)
    if flaw and flaw.bounded and not kind.endswith("Normalization"):
        return flaw
    if "Dropout" in kind or "Noise" in kind:
        return _flaw(where, "changes the logits at random in training", f"drop the {layer.kind} layer", False)
    if kind.endswith("Normalization"):
        return _flaw(where, "normalizes the logits", f"drop the {layer.kind} layer", kind == "UnitNormalization")
    return None if "Pooling" in kind else flaw


def _activation_flaw(where: str, activation: str, advice: str, bounded: bool, flaw: _Flaw | None) -> _Flaw | None:
    """Return the flaw of values after an activation.

    Args:
        where: which layer it is, for error messages.
        activation: name of the activation.
        advice: what to do about it.
        bounded: whether the activation has an upper or a lower bound.
        flaw: of the values before it.
    """
    if activation == "linear" or (flaw and flaw.bounded and not bounded):
        return flaw
    return _flaw(where, f"applies {activation} to the logits", advice, bounded)


def _flaw(where: str, problem: str, advice: str, bounded: bool) -> _Flaw:
    expected = "the list must end in logits, one number of any value for each class; the program adds the softmax"
    return _Flaw(f"{where}: {problem}: {expected}; {advice}", bounded)


def _activation(layer: Layer) -> str:
    """Return the activation of a layer; `linear` if it has none."""
    value = layer.arguments.get("activation")
    return str(next(iter(value), "linear") if isinstance(value, dict) else value or "linear")


def _is_bounded(layer: Layer, kind: str) -> bool:
    """Whether the activation of a layer has an upper or a lower bound."""
    slope = layer.arguments.get("negative_slope")
    if kind == "ReLU":
        return not slope or layer.arguments.get("max_value") is not None
    if kind == "LeakyReLU":
        return slope == 0
    return kind != "PReLU" and (kind in _ACTIVATION_LAYERS or _activation(layer) not in _UNBOUNDED)
