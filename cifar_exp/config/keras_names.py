"""The names and arguments of the installed Keras, read off its source text.

Importing Keras costs seconds; a config with a misspelt layer is to be refused in milliseconds.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cifar_exp.errors import UserError

# The parts of keras.src.layers that a model may use: layers of one tensor whose arguments are plain values. Others
# run code of their own (Lambda), load it (TFSMLayer) or read files (StringLookup).
_USABLE = (
    "activations", "convolutional", "core.dense", "core.einsum_dense", "core.identity", "normalization", "pooling",
    "preprocessing.rescaling", "regularization", "reshaping",
)  # fmt: skip
_OF_EVERY_LAYER = {"name", "dtype", "trainable", "autocast", "activity_regularizer"}


def _keras_folder() -> Path:
    spec = find_spec("keras")
    if spec is None or spec.origin is None:
        raise UserError("Keras is not installed: pip install tensorflow")
    return Path(spec.origin).parent


@cache
def exports(namespace: str) -> dict[str, tuple[str, str]]:
    """The public names of keras.<namespace>, each with the module that defines it and its name there."""
    tree = ast.parse((_keras_folder() / namespace / "__init__.py").read_text())
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.asname or alias.name) not in ("get", "serialize", "deserialize")
    }


def defined_as(namespace: str, name: str) -> str:
    """The name of a class where Keras defines it: MaxPool2D is MaxPooling2D."""
    return exports(namespace)[name][1]


@cache
def usable_layers() -> frozenset[str]:
    """The layers that a model may be made of."""
    prefixes = tuple(f"keras.src.layers.{part}." for part in _USABLE)
    return frozenset(name for name, (module, _) in exports("layers").items() if f"{module}.".startswith(prefixes))


@cache
def arguments(namespace: str, name: str) -> frozenset[str]:
    """The arguments of a class of keras.<namespace>, or none for a function such as an activation."""
    module, defined_as = exports(namespace)[name]
    tree = ast.parse(_keras_folder().joinpath(*module.split(".")[1:]).with_suffix(".py").read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == defined_as:
            init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
            named = {a.arg for a in (*init.args.args[1:], *init.args.kwonlyargs)} if init else set()
            takes_more = init is None or init.args.kwarg is not None
            return frozenset(named | (_OF_EVERY_LAYER if takes_more and namespace == "layers" else set()))
    return frozenset()
