"""A composed config that value overrides are applied to, again and again, without composing it again."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import Container, DictConfig, Node, OmegaConf, open_dict
from omegaconf._utils import split_key

from cifar_exp.config import from_data

_REFERENCE = re.compile(r"\$\{(\w+(?:[.\[][^{}:$]*)?)\}")  # ${model.filters[0]}: no resolver, not nested, not relative

KeyPath = tuple[str, ...]


class NotCovered(Exception):
    """Raised for overrides that only Hydra's own composition covers."""


class Template:
    """A composition that value overrides are applied to.

    Args:
        composed: with Hydra's part; it is kept as it is.
    """

    def __init__(self, composed: DictConfig) -> None:
        self._composed = composed
        self._resolved: dict[KeyPath, Any] = {}  # contents that no override so far has changed
        self._changed: dict[
            frozenset[KeyPath], dict[KeyPath, bool]
        ] = {}  # by the paths of overrides: which nodes they change

    @cached_property
    def _working(self) -> DictConfig:
        """A copy without Hydra's part, whose nodes are replaced while overrides are applied."""
        working = copy.deepcopy(self._composed)
        with open_dict(working):
            del working["hydra"]
        return working

    @cached_property
    def _references(self) -> dict[KeyPath, frozenset[KeyPath] | None]:
        return _references(OmegaConf.to_container(self._composed))

    def composed_with(self, values: Sequence[Override], overrides: Sequence[str]) -> DictConfig:
        """Return a copy with overridden values.

        Args:
            values: the value overrides to apply.
            overrides: all overrides of the job; Hydra's part of the config lists them.
        """
        composed = copy.deepcopy(self._composed)
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)
        parsed = [parse(override) for override in overrides]
        hydra, task = composed.hydra, [override for override in parsed if not override.is_hydra_override()]
        hydra.overrides.task = [override.input_line for override in task]
        hydra.overrides.hydra = [override.input_line for override in parsed if override.is_hydra_override()]
        hydra.runtime.cwd = os.getcwd()
        with open_dict(hydra):
            for key in hydra.job.env_copy:
                hydra.job.env_set[key] = os.environ[key]
        naming = hydra.job.config.override_dirname
        hydra.job.override_dirname = get_overrides_dirname(
            overrides=task, kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
        )
        return composed

    def resolved_with(self, values: Sequence[Override]) -> dict[str, Any]:
        """Return the resolved content with overridden values; only what they can change is resolved again."""
        values = [override for override in values if not override.is_hydra_override()]
        restore: list[Callable[[], None]] = []
        try:
            for override in values:
                restore.append(self._set_aside(override))  # noqa: PERF401  # one may fail after others
            ConfigLoaderImpl._apply_overrides_to_config(values, self._working)
            overridden = frozenset(_changed_path(override) for override in values)
            changed = self._changed.setdefault(overridden, {})
            root, keys = self._working, map(str, self._working)
            return {key: self._content(root, key, (key,), overridden, changed) for key in keys}
        finally:
            for put_back in reversed(restore):
                put_back()

    def _content(
        self, parent: Any, key: Any, path: KeyPath, overridden: frozenset[KeyPath], changed: dict[KeyPath, bool]
    ) -> Any:
        """Return the resolved content of a node.

        Args:
            parent: the container that holds the node.
            key: of the node in it.
            path: of the node from the root.
            overridden: paths of the overrides.
            changed: whether the overrides change the content of a node, by its path; filled as needed.
        """
        if path not in changed:
            changed[path] = self._is_changed(path, overridden)
        if not changed[path]:
            if path not in self._resolved:
                self._resolved[path] = resolved(parent, key)
            return self._resolved[path]
        node: Any = parent._get_node(key)
        children = node.__dict__.get("_content") if isinstance(node, Container) else None
        if isinstance(children, dict):
            return {name: self._content(node, name, (*path, str(name)), overridden, changed) for name in children}
        if isinstance(children, list):
            return [self._content(node, n, (*path, str(n)), overridden, changed) for n in range(len(children))]
        return resolved(parent, key)

    def _is_changed(self, path: KeyPath, overridden: Collection[KeyPath]) -> bool:
        """Whether overrides at these paths change the content at `path`, itself or through what it refers to."""
        waiting, reached = [path], set[KeyPath]()
        while waiting:
            place = waiting.pop()
            if any(within(place, other) or within(other, place) for other in overridden):
                return True
            reached.add(place)
            for origin, targets in self._references.items():
                if within(origin, place) or within(place, origin):
                    if targets is None:
                        return True
                    waiting += targets - reached
        return False

    def _set_aside(self, override: Override) -> Callable[[], None]:
        """Replace the node that an override changes by a copy of it.

        Returns:
            What puts the node back.
        """
        path = split_key(override.key_or_group)
        if override.is_delete() or override.is_add() or override.is_force_add():
            path = path[:-1]  # the parent node changes
        if not path:
            raise NotCovered(override.input_line)  # the root gains or loses a key
        holder: Any = self._working
        for position, part in enumerate(path):
            children = _children(holder)
            if part not in children:
                raise NotCovered(override.input_line)
            node = children[part]
            if position == len(path) - 1 or not isinstance(node, DictConfig):
                break
            holder = node
        replacement = copy.deepcopy(node)
        replacement._set_parent(holder)
        children[part] = replacement

        def put_back() -> None:
            children[part] = node

        return put_back


_PARSER = OverridesParser.create()


@lru_cache(maxsize=1_000)
def parse(override: str) -> Override:
    """Parse one override by Hydra's grammar."""
    (parsed,) = _PARSER.parse_overrides([override])
    assert isinstance(parsed, Override)
    return parsed


def _children(node: DictConfig) -> dict[Any, Node]:
    content = node.__dict__["_content"]
    if not isinstance(content, dict):  # null, missing, or an interpolation
        raise NotCovered(node._get_full_key(None))
    return content


def resolved(parent: Any, key: Any) -> Any:
    """Return the content of a node with its interpolations resolved.

    Args:
        parent: the container that holds the node.
        key: of the node in it.
    """
    node: Any = parent._get_node(key)
    node = node._maybe_dereference_node(throw_on_resolution_failure=True)
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, Container) else node._value()


def _changed_path(override: Override) -> KeyPath:
    """Return the path whose content an override changes: that of the parent node if it adds or deletes a key."""
    path = key_path(override.key_or_group)
    return path[:-1] if override.is_delete() or override.is_add() or override.is_force_add() else path


def key_path(key: str) -> KeyPath:
    """Split a dotted key, as overrides have it: `model.filters[0]` -> `("model", "filters", "0")`."""
    return tuple(str(part) for part in split_key(key))


def within(path: KeyPath, other: KeyPath) -> bool:
    """Whether `path` is `other`, or below it."""
    return path[: len(other)] == other


def _references(content: Any, path: KeyPath = ()) -> dict[KeyPath, frozenset[KeyPath] | None]:
    """Return the paths that each string with interpolations refers to, by its own path; None if they are unknown."""
    if isinstance(content, dict | list):
        children = content.items() if isinstance(content, dict) else enumerate(content)
        return {place: to for key, child in children for place, to in _references(child, (*path, str(key))).items()}
    if not isinstance(content, str) or "${" not in content:
        return {}
    if content in from_data.INTERPOLATIONS.values():
        return {path: frozenset([path[:-1]])}  # it describes the group that it is in
    found = _REFERENCE.findall(content)
    return {path: frozenset(map(key_path, found)) if len(found) == content.count("${") else None}
