"""Hydra's config loader, which composes each set of group choices once and applies value overrides to a copy.

Hydra composes every job of a sweep from its files. Value overrides never decide which files those are, so jobs that
choose the same groups share one composition. Whatever this does not cover is left to Hydra's own composition, so the
result is always Hydra's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal import hydra as hydra_app
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp.config.template import NotCovered, Template, parse

_TEMPLATES = 256  # compositions kept: a few hundred kilobytes each


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

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """List the choices of a group; Hydra's loader copies all that it knows for each list."""
        if overrides:
            options: list[str] = super().get_group_options(group_name, results_filter, config_name, overrides)
        else:
            options = self._repository(config_name, ()).get_group_options(group_name, results_filter)
        return options

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
        parsed = [parse(override) for override in overrides]
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

    def _repository(self, config_name: str | None, search: tuple[str, ...]) -> IConfigRepository:
        known = self._known(search)
        if search not in known.repositories:
            _, known.repositories[search] = self._parse_overrides_and_create_caching_repo(config_name, list(search))
        return known.repositories[search]

    def _is_group(self, config_name: str | None, search: tuple[str, ...], key: str) -> bool:
        known, name = self._known(search), (*search, key)
        if name not in known.groups:
            known.groups[name] = self._repository(config_name, search).group_exists(key)
        return known.groups[name]


hydra_app.ConfigLoaderImpl = Loader  # Hydra offers no setting for it
