"""Where each value of a composed config comes from: Hydra's composition, repeated one source at a time.

What a source sets is what it holds, and whatever differs after Hydra has merged it. So the origins follow OmegaConf's
own rules of merging, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp import plugins
from cifar_exp.config import yaml_lines
from cifar_exp.config.template import KeyPath, key_path, within
from cifar_exp.config.yaml_lines import Line

_MISSING = "???"
_HYDRA = ("hydra",)


@dataclass(frozen=True)
class Origin:
    """A source of values, in words."""

    name: str
    """`conf/optimizer/sgd.yaml:4`, `command line: seed=1`, `default (schema)`."""
    joined: str
    """The same after `was 0.01`: `in conf/optimizer/sgd.yaml:4`, `by seed=1`, `by default`."""


_SCHEMA = Origin("default (schema)", "by default")


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
    parsed, files_by_name = loader._parse_overrides_and_create_caching_repo("config", list(overrides))
    defaults = create_defaults_list(files_by_name, "config", parsed, prepend_hydra=True, skip_missing=False)
    sources = _Sources(files_by_name, conf)
    said = {override.get_key_element(): _said(override, by_user) for override in parsed}
    traced = _Traced()
    for default in defaults.defaults:
        loaded = loader._load_single_config(default, files_by_name).config
        given = dict(_units(_content(loaded)))
        traced.config.merge_with(loaded)
        traced.record(given, sources.of(default))
    OmegaConf.set_struct(traced.config, True)  # as Hydra does before it applies overrides
    for override in defaults.config_overrides:
        path = key_path(override.key_or_group)
        if within(path, _HYDRA):
            continue
        ConfigLoaderImpl._apply_overrides_to_config([override], traced.config)
        origin = traced.of_override(override, by_user)
        if override.is_delete():
            traced.remove(override.key_or_group, origin)
        else:
            traced.record(dict(_units(override.value(), path)), origin)
    with open_dict(traced.config):
        del traced.config["hydra"]
    settings = {path: setting for path, setting in traced.settings.items() if not within(path, _HYDRA)}
    return Origins(traced.config, settings, _choices(defaults, sources, said), traced.removed)


def below(content: Any, path: KeyPath) -> Any:
    """Return the part of plain containers at a path; None if there is none."""
    for part in path:
        if isinstance(content, dict):
            content = {str(key): value for key, value in content.items()}.get(part)
        elif isinstance(content, list) and part.isdecimal() and int(part) < len(content):
            content = content[int(part)]
        else:
            return None
    return content


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

    def of_override(self, override: Override, by_user: Collection[str]) -> Origin:
        """Return the origin of what an override sets: the command line, or the file whose sweep it is of."""
        key, where = override.get_key_element(), _said(override, by_user)
        if key not in by_user:
            sections = (("hydra", "sweeper", "params", key), ("search", key))
            listed = (
                setting for section in sections for path, setting in self.settings.items() if within(path, section)
            )
            where = next((setting.origin.name for setting in listed), where)
        return Origin(f"{where}: {override.input_line}", f"by {override.input_line}")

    def _replaced(self, path: KeyPath, before: Mapping[KeyPath, Any], value: Any) -> tuple[tuple[Any, Origin], ...]:
        if earlier := self.settings.get(path):
            was = before[path]
            is_nothing = was == _MISSING or (was is None and earlier.origin == _SCHEMA)
            return earlier.was if is_nothing or _same(was, value) else ((was, earlier.origin), *earlier.was)
        inside = next((setting for place, setting in self.settings.items() if within(place, path)), None)
        return ((below(self._before, path), inside.origin),) if inside else ()


class _Sources:
    """The files, and other sources, that a defaults list names."""

    def __init__(self, repository: IConfigRepository, conf: Path) -> None:
        self._repository, self._conf = repository, conf.resolve()
        self._lines: dict[str, dict[KeyPath, Line]] = {}

    def of(self, default: ResultDefault) -> Callable[[KeyPath], Origin]:
        """Return a function that tells where in a source a path of the config is set."""
        config_path, package = str(default.config_path), _package(default)
        return lambda path: self.origin(config_path, path[len(package) :])

    def origin(self, config_path: str, path: KeyPath) -> Origin:
        """Return the place of a path of a source."""
        line = yaml_lines.find(self.lines(config_path), path)
        return self._named(config_path, f":{line.number}" if line else "")

    def lines(self, config_path: str) -> dict[KeyPath, Line]:
        """Return the lines of a file; none for sources that are not files."""
        if config_path not in self._lines:
            place, name = self._place(config_path)
            if place.startswith("file://"):
                content = Path(place.removeprefix("file://"), name).read_text(encoding="utf-8")
            elif place.startswith("pkg://"):
                content = files(place.removeprefix("pkg://").replace("/", ".")).joinpath(name).read_text("utf-8")
            else:
                content = ""
            self._lines[config_path] = yaml_lines.lines(content)
        return self._lines[config_path]

    def _place(self, config_path: str) -> tuple[str, str]:
        loaded = self._repository.load_config(config_path)
        assert loaded is not None
        return str(loaded.path), config_path if config_path.endswith(".yaml") else f"{config_path}.yaml"

    def _named(self, config_path: str, line: str) -> Origin:
        place, name = self._place(config_path)
        if place.startswith("file://"):
            named = self._file(Path(place.removeprefix("file://")).resolve() / name)
        elif place.startswith("pkg://"):
            named = f"{place}/{name}"
        elif config_path == "schema":
            return _SCHEMA
        else:  # of an installed package
            group, _, choice = config_path.rpartition("/")
            entry = plugins.installed(plugins.DATASETS).get(choice) if group == "data" else None
            named = plugins.package(entry) if entry else f"{config_path} of Hydra's config store"
        return Origin(f"{named}{line}", f"in {named}{line}")

    def _file(self, file: Path) -> str:
        """Name a file: one of conf/ as such, others from the current folder if they are in it."""
        if file.is_relative_to(self._conf):
            return str(Path("conf") / file.relative_to(self._conf))
        here = Path.cwd()
        is_here = file.is_relative_to(here) and file.relative_to(here).parts[0] != "conf"
        return str(file.relative_to(here) if is_here else file)


def _choices(
    defaults: DefaultsList, sources: _Sources, said: Mapping[str, str]
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
        elif key in said or f"+{key}" in said:
            where = said.get(key) or said[f"+{key}"]
            chosen = str(choice), Origin(where, f"by the {where}")
        else:
            chosen = listed
        if chosen:
            was = (listed,) if metadata is not None and listed is not None and listed[0] not in (choice, "null") else ()
            found[key] = _package(default), str(choice), Setting(chosen[1], was)
    return found


def _listed(sources: _Sources, config_path: str, key: str) -> tuple[str, Origin] | None:
    """Return the choice of a group in the defaults list of a file, and its place there."""
    group = config_path.rpartition("/")[0]
    for path, line in sources.lines(config_path).items():
        if len(path) == 3 and path[0] == "defaults":
            name = path[2].split()[-1]  # without `override` and `optional`
            if key == (name[1:] if name.startswith("/") else f"{group}/{name}".lstrip("/")):
                return line.text, sources.origin(config_path, path)
    return None


def _package(default: ResultDefault) -> KeyPath:
    return key_path(default.package) if default.package else ()


def _said(override: Override, by_user: Collection[str]) -> str:
    return "command line" if override.get_key_element() in by_user else "sweep"


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


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # 1, 1.0 and True are three values; NaN is one
