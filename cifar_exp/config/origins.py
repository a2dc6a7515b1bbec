"""The sources of a composed config, in words: files with their lines, the schema, installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import ResultDefault

from cifar_exp import plugins
from cifar_exp.config import yaml_lines
from cifar_exp.config.template import KeyPath, key_path
from cifar_exp.config.yaml_lines import Line


@dataclass(frozen=True)
class Origin:
    """A source of values, in words."""

    name: str
    """`conf/optimizer/sgd.yaml:4`, `command line: seed=1`, `default (schema)`."""
    joined: str
    """The same after `was 0.01`: `in conf/optimizer/sgd.yaml:4`, `by seed=1`, `by default`."""


SCHEMA = Origin("default (schema)", "by default")


class Sources:
    """The files, and other sources, that a defaults list names."""

    def __init__(self, repository: IConfigRepository, conf: Path) -> None:
        self._repository, self._conf = repository, conf.resolve()
        self._lines: dict[str, dict[KeyPath, Line]] = {}

    def of(self, default: ResultDefault) -> Callable[[KeyPath], Origin]:
        """Return a function that tells where in a source a path of the config is set."""
        config_path, package = str(default.config_path), package_of(default)
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
            return SCHEMA
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


def package_of(default: ResultDefault) -> KeyPath:
    """Return the path of the config at which the content of a source is merged."""
    return key_path(default.package) if default.package else ()
