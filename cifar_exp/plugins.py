"""What installed packages add: data sets and Keras layers, by entry point.

A config names what it uses, and only what the entry points of installed packages define is found under a name. So a
config that comes from a shared server cannot name code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cifar_exp.errors import UserError, reason

DATASETS, LAYERS = "cifar_exp.datasets", "cifar_exp.layers"  # groups of entry points


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name.

    Raises:
        UserError: if two packages define the same name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise UserError(f"{entry.name!r} of {group} is defined by {package(other)} and by {package(entry)}")
    return found


def package(entry: EntryPoint) -> str:
    """Name and version of the package that defines an entry point: `flowers 1.2`."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def load(entry: EntryPoint) -> Any:
    """Import what an entry point names.

    Raises:
        UserError: if its package cannot be imported.
    """
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{entry.name!r} of {package(entry)} cannot be imported: {reason(error)}") from error


def used(data_set: str, layers: Iterable[str]) -> dict[str, str]:
    """What a run uses of installed packages: `<group>/<name>` -> package and version."""
    names = [(DATASETS, data_set), *((LAYERS, layer) for layer in sorted(set(layers)))]
    return {f"{group}/{name}": package(installed(group)[name]) for group, name in names if name in installed(group)}


def missing(wanted: Collection[tuple[str, str]]) -> str:
    """Which of these packages is not installed here, in a sentence, or an empty string.

    Args:
        wanted: `used` of a run, as pairs.
    """
    for what, named in wanted:
        group, _, name = what.partition("/")
        if group in (DATASETS, LAYERS) and name not in installed(group):
            kind = "data set" if group == DATASETS else "layer"
            install = f"pip install {named.partition(' ')[0]}"
            return f"it needs the {kind} {name!r} of {named}, which is not installed here: {install}"
    return ""
