"""Names and arguments of the installed Keras, parsed from its source code.

Importing Keras takes seconds; a misspelled layer should be refused in milliseconds.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from cifar_exp import plugins
from cifar_exp.errors import UserError

# Parts of keras.src.layers that a model may use: layers with one input, or attention from it to itself, and with plain
# values as arguments. Other layers run arbitrary code (Lambda), load it (TFSMLayer) or read files (StringLookup).
_USABLE = (
    "activations", "attention.multi_head_attention", "convolutional", "core.dense", "core.einsum_dense",
    "core.identity", "normalization", "pooling", "preprocessing.rescaling", "regularization", "reshaping",
)  # fmt: skip
_COMMON_ARGUMENTS = {"name": None, "dtype": None, "trainable": bool, "autocast": bool, "activity_regularizer": None}


def _keras_folder() -> Path:
    spec = find_spec("keras")
    if spec is None or spec.origin is None:
        raise UserError("Keras is not installed: pip install tensorflow")
    return Path(spec.origin).parent


@cache
def exports(namespace: str) -> dict[str, tuple[str, str]]:
    """Return the public names of keras.<namespace>, each with its defining module and its name in that module."""
    tree = ast.parse((_keras_folder() / namespace / "__init__.py").read_text())
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.asname or alias.name) not in ("get", "serialize", "deserialize")
    }


def defined_as(namespace: str, name: str) -> str:
    """Resolve an alias of Keras: MaxPool2D is MaxPooling2D. Names of installed packages are returned as they are."""
    return exports(namespace)[name][1] if name in exports(namespace) else name


@cache
def usable_layers() -> frozenset[str]:
    """Return the layers that a model may use: those of Keras, and those that installed packages add."""
    prefixes = tuple(f"keras.src.layers.{part}." for part in _USABLE)
    of_keras = {name for name, (module, _) in exports("layers").items() if f"{module}.".startswith(prefixes)}
    return frozenset(of_keras | (plugins.installed(plugins.LAYERS).keys() - exports("layers").keys()))


@cache
def arguments(namespace: str, name: str) -> Mapping[str, type | None]:
    """Return the arguments of a class of keras.<namespace>; functions, such as activations, have none.

    Returns:
        Each argument with bool or float if its default in Keras is of that type, and with None otherwise.
    """
    if namespace == "layers" and name not in exports("layers"):
        entry = plugins.installed(plugins.LAYERS)[name]
        return dict.fromkeys(_arguments_of(_source(entry), entry.attr, namespace))
    module, defined_as = exports(namespace)[name]
    path = _keras_folder().joinpath(*module.split(".")[1:]).with_suffix(".py")
    return _arguments_of(path, defined_as, namespace)


def _source(entry: EntryPoint) -> Path:
    """Return the file of the module that an entry point names, without importing it, because it imports Keras."""
    parts = entry.module.split(".")
    for name in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")):
        if entry.dist and (path := Path(str(entry.dist.locate_file(str(name))))).is_file():
            return path
    try:
        spec = find_spec(entry.module)  # for an editable installation; it imports the parent packages
    except ImportError:
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UserError(f"layer {entry.name!r} of {plugins.package(entry)}: no source file of {entry.module}")
    return Path(spec.origin)


def _arguments_of(source: Path, defined_as: str, namespace: str) -> Mapping[str, type | None]:
    """Return the arguments of the constructor of a class in a source file."""
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == defined_as:
            init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
            named = _with_types(init.args) if init else {}
            takes_more = init is None or init.args.kwarg is not None
            return (_COMMON_ARGUMENTS if takes_more and namespace == "layers" else {}) | named
    return {}


def _with_types(signature: ast.arguments) -> dict[str, type | None]:
    named = [*signature.args[1:], *signature.kwonlyargs]
    defaults: list[ast.expr | None] = [*signature.defaults, *signature.kw_defaults]
    defaults = [*[None] * (len(named) - len(defaults)), *defaults]  # the first arguments have none
    values = [default.value if isinstance(default, ast.Constant) else None for default in defaults]
    return {
        argument.arg: type(value) if isinstance(value, bool | float) else None
        for argument, value in zip(named, values, strict=True)
    }
