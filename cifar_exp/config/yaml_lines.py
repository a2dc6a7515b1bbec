"""The line of a YAML file on which each of its keys stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import yaml

from cifar_exp.config.template import KeyPath

_MERGE = "tag:yaml.org,2002:merge"  # the key <<


class Line(NamedTuple):
    """Where a key or an item of a list stands, and what follows it."""

    number: int
    """From 1."""
    text: str
    """The scalar that is its value; empty for others."""


def lines(content: str) -> dict[KeyPath, Line]:
    """Find the keys and the items of a YAML file.

    Args:
        content: of a file that can be read.

    Returns:
        Line by path; items of a list are counted from 0.
    """
    root = yaml.compose(content, Loader=yaml.SafeLoader)
    return dict(_below(root, ())) if root else {}


def find(known: Mapping[KeyPath, Line], path: KeyPath) -> Line | None:
    """Return the line of a path, or of the nearest one above it that the file has."""
    while path and path not in known:
        path = path[:-1]
    return known.get(path)


def _below(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, Line]]:
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield from _entry(item, item, (*path, str(position)))
    elif isinstance(node, yaml.MappingNode):
        for key, value in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):  # own keys replace merged ones
            if key.tag == _MERGE:
                for merged in reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]:
                    yield from _below(merged, path)
            else:
                yield from _entry(key, value, (*path, str(key.value)))


def _entry(key: yaml.Node, value: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, Line]]:
    yield path, Line(key.start_mark.line + 1, value.value if isinstance(value, yaml.ScalarNode) else "")
    yield from _below(value, path)
