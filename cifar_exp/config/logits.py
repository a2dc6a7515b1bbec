"""What a layer list ends in must be logits: one number of any value for each class.

The program adds the softmax itself, in the loss and in the logged classifier. A model that ends in a softmax, a ReLU
or a dropout trains without an error, and worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cifar_exp.config import keras_names
from cifar_exp.errors import UserError

if TYPE_CHECKING:
    from cifar_exp.config.architecture import Layer

# Activations whose values have no upper and no lower bound.
_UNBOUNDED = {"glu", "hard_shrink", "leaky_relu", "linear", "soft_shrink", "tanh_shrink"}
_ACTIVATION_LAYERS = {"ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"}


class _Flaw(NamedTuple):
    """Why what a layer gives is no logits, and whether its values are bounded, which no pooling changes."""

    reason: str
    bounded: bool


def check(layers: Sequence[Layer], where: str) -> None:
    """Refuse a list whose last values are bounded, random or normalized.

    Raises:
        UserError: naming the layer and what to drop.
    """
    if flaw := _follow(layers, where, None):
        raise UserError(flaw.reason)


def _follow(layers: Sequence[Layer], where: str, flaw: _Flaw | None) -> _Flaw | None:
    """The flaw of what these layers give, if they are given values of this flaw."""
    for position, layer in enumerate(layers, 1):
        here = f"{where}, layer {position} ({layer.kind})"
        if layer.layers:  # a Residual: a sum has the flaw that both of its parts have
            inner, outer = _follow(layer.layers, here, flaw), _follow(layer.shortcut, here, flaw)
            flaw = inner if outer else None
        else:
            flaw = _after(layer, here, flaw)
    return flaw


def _after(layer: Layer, here: str, flaw: _Flaw | None) -> _Flaw | None:
    kind = keras_names.defined_as("layers", layer.kind)
    if kind in _ACTIVATION_LAYERS or kind == "Activation":
        activation = _activation(layer) if kind == "Activation" else kind
        return _activated(here, activation, f"drop the {layer.kind} layer", _is_bounded(layer, kind), flaw)
    if kind == "Dense" or "Conv" in kind or kind == "EinsumDense":
        return _activated(here, _activation(layer), "drop the activation", _is_bounded(layer, kind), None)
    if flaw and flaw.bounded and not kind.endswith("Normalization"):
        return flaw
    if "Dropout" in kind or "Noise" in kind:
        return _flawed(here, "changes the logits at random in training", f"drop the {layer.kind} layer", False)
    if kind.endswith("Normalization"):
        return _flawed(here, "normalizes the logits", f"drop the {layer.kind} layer", kind == "UnitNormalization")
    return None if "Pooling" in kind else flaw


def _activated(here: str, activation: str, mend: str, bounded: bool, flaw: _Flaw | None) -> _Flaw | None:
    if activation == "linear" or (flaw and flaw.bounded and not bounded):
        return flaw
    return _flawed(here, f"applies {activation} to the logits", mend, bounded)


def _flawed(here: str, what: str, mend: str, bounded: bool) -> _Flaw:
    expected = "the list must end in logits, one number of any value for each class; the program adds the softmax"
    return _Flaw(f"{here}: {what}: {expected}; {mend}", bounded)


def _activation(layer: Layer) -> str:
    """The activation of a layer; `linear` if it has none."""
    value = layer.arguments.get("activation")
    return str(next(iter(value), "linear") if isinstance(value, dict) else value or "linear")


def _is_bounded(layer: Layer, kind: str) -> bool:
    """Whether its activation has an upper or a lower bound."""
    slope = layer.arguments.get("negative_slope")
    if kind == "ReLU":
        return not slope or layer.arguments.get("max_value") is not None
    if kind == "LeakyReLU":
        return slope == 0
    return kind != "PReLU" and (kind in _ACTIVATION_LAYERS or _activation(layer) not in _UNBOUNDED)
