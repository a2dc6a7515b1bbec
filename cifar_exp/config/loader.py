"""Hydra's config loader, which composes each set of group choices once and applies value overrides to a copy.

Hydra composes every job of a sweep from its files. Value overrides never decide which files those are, so jobs that
choose the same groups share one composition. Whatever this does not cover is left to Hydra's own composition, so the
result is always Hydra's.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from hydra._internal import hydra as hydra_app
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import Container, DictConfig, Node, OmegaConf, open_dict
from omegaconf._utils import split_key

from cifar_exp.config import from_data

_TEMPLATES = 256  # compositions kept: a few hundred kilobytes each
_REFERENCE = re.compile(r"\$\{(\w+(?:[.\[][^{}:$]*)?)\}")  # ${model.filters[0]}: no resolver, not nested, not relative

KeyPath = tuple[str, ...]


class NotCovered(Exception):
    """Raised for overrides that only Hydra's own composition covers."""


@dataclass
class _Composed:
    """What loaders have read from a search path.

    Attributes:
        templates: compositions, by the job's name for Hydra, the config and the overrides that choose files.
        repositories: the config files, by the overrides of the search path.
        groups: whether a key is a config group, by the overrides of the search path and the key.
    """

    templates: dict[tuple[str, ...], Template] = field(default_factory=dict)
    repositories: dict[tuple[str, ...], IConfigRepository] = field(default_factory=dict)
    groups: dict[tuple[str, ...], bool] = field(default_factory=dict)


# By search path, of those with nothing but files of packages, which stay as they are. One command has at least two
# loaders: that which checks its jobs, and Hydra's.
_shared: dict[str, _Composed] = {}


class Loader(ConfigLoaderImpl):  # type: ignore[misc]
    """Hydra's config loader with one composition for each set of group choices."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._own = _Composed()
        places = config_search_path.get_path()
        has_files_of_a_user = any(place.provider == "command-line" for place in places)
        self._shared = self._own if has_files_of_a_user else _shared.setdefault(repr(places), _Composed())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_own": None, "_shared": None}  # a launcher may send it to another process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._own = self._shared = _Composed()

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a config; the arguments and the result are those of Hydra's loader."""
        if run_mode == RunMode.RUN or not validate_sweep_overrides:  # without them, Hydra asks for hydra.mode
            try:
                template, values = self._template(config_name, overrides)
                return template.composed_with(values, overrides)
            except Exception:  # Hydra's own composition below raises the error
                pass
        composed: DictConfig = super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )
        return composed

    def resolve(self, config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
        """Compose a config without Hydra's part, as plain containers with every interpolation resolved.

        The containers are shared between calls and must not be changed.

        Raises:
            Exception: of Hydra or OmegaConf, for overrides that cannot be composed.
        """
        try:
            template, values = self._template(config_name, overrides)
            return template.resolved_with(values)
        except Exception:
            composed = super().load_configuration(config_name, list(overrides), RunMode.RUN, from_shell=False)
            with open_dict(composed):
                del composed["hydra"]
            resolved: Any = OmegaConf.to_container(composed, resolve=True)
            return dict(resolved)

    def _template(self, config_name: str | None, overrides: Sequence[str]) -> tuple[Template, list[Override]]:
        """Compose the overrides that decide which files are read.

        Returns:
            The composition, and the value overrides to apply to it.

        Raises:
            NotCovered: if an override needs Hydra's own composition.
        """
        parsed = [_parse(override) for override in overrides]
        search = tuple(str(o.input_line) for o in parsed if o.key_or_group == "hydra.searchpath")
        structure: list[str] = []
        values: list[Override] = []
        for override in parsed:
            key = override.key_or_group
            if override.is_sweep_override() or key == "hydra":
                raise NotCovered(override.input_line)
            is_group = self._is_group(config_name, search, key) and not isinstance(override.value(), dict)
            if not is_group and override.package is not None:
                raise NotCovered(override.input_line)
            if is_group or key == "hydra.searchpath":
                structure.append(str(override.input_line))
            else:
                values.append(override)
        known = self._known(search)
        name = (str(JobRuntime().get("name")), str(config_name), *structure)
        if name not in known.templates:
            template = Template(super().load_configuration(config_name, structure, RunMode.RUN))
            if len(known.templates) >= _TEMPLATES:
                return template, values
            known.templates[name] = template
        return known.templates[name], values

    def _known(self, search: tuple[str, ...]) -> _Composed:
        return self._own if search else self._shared

    def _is_group(self, config_name: str | None, search: tuple[str, ...], key: str) -> bool:
        known, name = self._known(search), (*search, key)
        if search not in known.repositories:
            _, known.repositories[search] = self._parse_overrides_and_create_caching_repo(config_name, list(search))
        if name not in known.groups:
            known.groups[name] = known.repositories[search].group_exists(key)
        return known.groups[name]


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
        parsed = [_parse(override) for override in overrides]
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
                self._resolved[path] = _content(parent, key)
            return self._resolved[path]
        node: Any = parent._get_node(key)
        children = node.__dict__.get("_content") if isinstance(node, Container) else None
        if isinstance(children, dict):
            return {name: self._content(node, name, (*path, str(name)), overridden, changed) for name in children}
        if isinstance(children, list):
            return [self._content(node, n, (*path, str(n)), overridden, changed) for n in range(len(children))]
        return _content(parent, key)

    def _is_changed(self, path: KeyPath, overridden: Collection[KeyPath]) -> bool:
        """Whether overrides at these paths change the content at `path`, itself or through what it refers to."""
        waiting, reached = [path], set[KeyPath]()
        while waiting:
            place = waiting.pop()
            if any(_within(place, other) or _within(other, place) for other in overridden):
                return True
            reached.add(place)
            for origin, targets in self._references.items():
                if _within(origin, place) or _within(place, origin):
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
def _parse(override: str) -> Override:
    (parsed,) = _PARSER.parse_overrides([override])
    assert isinstance(parsed, Override)
    return parsed


def _children(node: DictConfig) -> dict[Any, Node]:
    content = node.__dict__["_content"]
    if not isinstance(content, dict):  # null, missing, or an interpolation
        raise NotCovered(node._get_full_key(None))
    return content


def _content(parent: Any, key: Any) -> Any:
    node: Any = parent._get_node(key)
    node = node._maybe_dereference_node(throw_on_resolution_failure=True)
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, Container) else node._value()


def _changed_path(override: Override) -> KeyPath:
    """Return the path whose content an override changes: that of the parent node if it adds or deletes a key."""
    path = _path(override.key_or_group)
    return path[:-1] if override.is_delete() or override.is_add() or override.is_force_add() else path


def _path(key: str) -> KeyPath:
    return tuple(str(part) for part in split_key(key))


def _within(path: KeyPath, other: KeyPath) -> bool:
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
    return {path: frozenset(map(_path, found)) if len(found) == content.count("${") else None}


hydra_app.ConfigLoaderImpl = Loader  # Hydra offers no setting for it
