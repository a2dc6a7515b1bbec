"""Where each value of a composed config comes from: Hydra's composition, repeated one source at a time.

What a source sets is what it holds, and whatever differs after Hydra has merged it. So the origins follow OmegaConf's
own rules of merging, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp.config.origins import SCHEMA, Origin, Sources, package_of
from cifar_exp.config.template import KeyPath, key_path, within

_MISSING = "???"
_HYDRA = ("hydra",)


@dataclass(frozen=True)
class Setting:
    """What was set, and what that replaced."""

    origin: Origin
    was: tuple[tuple[Any, Origin], ...] = ()
    """Other values before it, the latest first, but for a null of the schema. Interpolations are not resolved."""


@dataclass(frozen=True)
class Origins:
    """A composed config without Hydra's part, and where it comes from."""

    config: DictConfig
    settings: Mapping[KeyPath, Setting]
    """Of scalars, empty containers and lists, and of those inside a list."""
    choices: Mapping[str, tuple[KeyPath, str, Setting]]
    """Group -> where its settings are, the choice, and what chose it."""
    removed: Mapping[str, Setting]
    """Key that an override deletes -> that override."""


def trace(loader: ConfigLoaderImpl, overrides: Sequence[str], by_user: Collection[str], conf: Path) -> Origins:
    """Compose a job, and find out where each value comes from.

    Args:
        loader: Hydra's config loader.
        overrides: of the job, each with one value.
        by_user: keys of the overrides that were on the command line; a sweep adds others.
        conf: folder whose files are named `conf/...`, wherever it is.

    Raises:
        Exception: of Hydra or OmegaConf, for overrides that cannot be composed.
    """
    parsed, repository = loader._parse_overrides_and_create_caching_repo("config", list(overrides))
    defaults = create_defaults_list(repository, "config", parsed, prepend_hydra=True, skip_missing=False)
    sources = Sources(repository, conf)
    traced = _Traced()
    for default in defaults.defaults:
        loaded = loader._load_single_config(default, repository).config
        given = dict(_units(_content(loaded)))
        traced.config.merge_with(loaded)
        traced.record(given, sources.of(default))
    OmegaConf.set_struct(traced.config, True)  # as Hydra does before it applies overrides
    for override in defaults.config_overrides:
        path = key_path(override.key_or_group)
        if within(path, _HYDRA):
            continue
        ConfigLoaderImpl._apply_overrides_to_config([override], traced.config)
        origin = Origin(f"{traced.given_by(override, by_user)}: {override.input_line}", f"by {override.input_line}")
        if override.is_delete():
            traced.remove(override.key_or_group, origin)
        else:
            traced.record(dict(_units(override.value(), path)), origin)
    given_by = {override.get_key_element(): traced.given_by(override, by_user) for override in parsed}
    with open_dict(traced.config):
        del traced.config["hydra"]
    settings = {path: setting for path, setting in traced.settings.items() if not within(path, _HYDRA)}
    return Origins(traced.config, settings, _choices(defaults, sources, given_by), traced.removed)


@dataclass
class _Traced:
    """A composition up to one of its sources."""

    config: DictConfig = field(default_factory=lambda: OmegaConf.create({}))
    settings: dict[KeyPath, Setting] = field(default_factory=dict)
    removed: dict[str, Setting] = field(default_factory=dict)
    _before: Any = field(default_factory=dict)

    def record(self, given: Mapping[KeyPath, Any], source: Callable[[KeyPath], Origin] | Origin) -> None:
        """Record what the latest source has set.

        Args:
            given: what it holds: scalars, empty containers and lists, by path.
            source: the origin of all of them, or that of each path.
        """
        at = (lambda _: source) if isinstance(source, Origin) else source
        before, after = dict(_units(self._before)), _content(self.config)
        settings: dict[KeyPath, Setting] = {}
        for path, value in _units(after):
            earlier = self.settings.get(path)
            # A missing value in a file replaces nothing. A list that differs only in items is still the earlier one.
            sets = path in given and (given[path] != _MISSING or value == _MISSING)
            if earlier and not sets and (isinstance(value, list) or _same(before[path], value)):
                settings[path] = earlier
            elif any(isinstance(given.get(path[:end]), list) for end in range(len(path))):
                settings[path] = Setting(at(path))  # the list that it is in has replaced another
            else:
                settings[path] = Setting(at(path), self._replaced(path, before, value))
        self.settings, self._before = settings, after

    def remove(self, key: str, origin: Origin) -> None:
        """Record that an override has deleted a key."""
        self.removed[key] = Setting(origin, self._replaced(key_path(key), dict(_units(self._before)), _MISSING))
        self.record({}, origin)

    def given_by(self, override: Override, by_user: Collection[str]) -> str:
        """Return who has given an override: the command line, a file that defines a sweep, or the sweep."""
        key = override.get_key_element()
        if key in by_user:
            return "command line"
        sections = (("hydra", "sweeper", "params", key), ("search", key))
        inside = (it for path, it in self.settings.items() if any(within(path, section) for section in sections))
        return next((setting.origin.name for setting in inside), "sweep")

    def _replaced(self, path: KeyPath, before: Mapping[KeyPath, Any], value: Any) -> tuple[tuple[Any, Origin], ...]:
        if earlier := self.settings.get(path):
            was = before[path]
            is_nothing = was == _MISSING or (was is None and earlier.origin == SCHEMA)
            return earlier.was if is_nothing or _same(was, value) else ((was, earlier.origin), *earlier.was)
        inside = next((setting for place, setting in self.settings.items() if within(place, path)), None)
        return ((_below(self._before, path), inside.origin),) if inside else ()


def _choices(
    defaults: DefaultsList, sources: Sources, given_by: Mapping[str, str]
) -> dict[str, tuple[KeyPath, str, Setting]]:
    """Return what chose the file of each group: an override, or the defaults list of another file."""
    found = {}
    for key, choice in defaults.overrides.known_choices.items():
        group = key.partition("@")[0]
        file = f"{group}/{choice}"
        # a file with a defaults list of its own stands for itself there, without the key
        keys = (default for default in defaults.defaults if default.config_path == file)
        default = next((it for it in keys if it.override_key == key or it.is_self), None)
        if default is None or group.startswith("hydra/"):
            continue
        metadata = defaults.overrides.override_metadata.get(key)
        listed = _listed(sources, str(default.parent), key)
        if metadata is not None and metadata.containing_config_path is not None:
            chosen = _listed(sources, metadata.containing_config_path, key)
        elif where := given_by.get(key) or given_by.get(f"+{key}"):
            chosen = str(choice), Origin(where, f"by {where}")
        else:
            chosen = listed
        if chosen:
            was = (listed,) if metadata is not None and listed is not None and listed[0] not in (choice, "null") else ()
            found[key] = package_of(default), str(choice), Setting(chosen[1], was)
    return found


def _listed(sources: Sources, config_path: str, key: str) -> tuple[str, Origin] | None:
    """Return the choice of a group in the defaults list of a file, and its place there."""
    group = config_path.rpartition("/")[0]
    for path, line in sources.lines(config_path).items():
        if len(path) == 3 and path[0] == "defaults":
            name = path[2].split()[-1]  # without `override` and `optional`
            if key == (name[1:] if name.startswith("/") else f"{group}/{name}".lstrip("/")):
                return line.text, sources.origin(config_path, path)
    return None


def _content(config: Any) -> dict[str, Any]:
    """Return plain containers; interpolations are not resolved."""
    content: Any = OmegaConf.to_container(config, resolve=False)
    return dict(content)


def _units(content: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield scalars, empty containers and lists with their paths, also those inside lists."""
    if not isinstance(content, dict) or (not content and path):
        yield path, content
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _units(value, (*path, str(key)))


def _below(content: Any, path: KeyPath) -> Any:
    """Return the part of plain containers at a path; None if there is none."""
    for part in path:
        if isinstance(content, dict):
            content = {str(key): value for key, value in content.items()}.get(part)
        elif isinstance(content, list) and part.isdecimal() and int(part) < len(content):
            content = content[int(part)]
        else:
            return None
    return content


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # 1, 1.0 and True are three values; NaN is one
