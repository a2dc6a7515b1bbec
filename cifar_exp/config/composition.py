"""Composing conf/ before Hydra runs anything: every job of a command line, checked, errors in one line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from cifar_exp.config import checks, schema
from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError, did_you_mean

_PACKAGE = Path(__file__).parent.parent
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())  # wheel, checkout

ConfigStore.instance().store(name="schema", node=schema.schema())


@dataclass(frozen=True)
class Plan:
    """What a command line will run: one job, or the jobs of a sweep in their order."""

    jobs: tuple[Config, ...]
    overrides: tuple[tuple[str, ...], ...]  # of each job
    folder: Path | None = None  # of the sweep, if it is one
    sweep_name: str = ""
    varies: tuple[str, ...] = ()  # the keys that differ between jobs
    is_named: bool = False  # by whoever started it
    launcher: DictConfig | None = None  # Hydra's choice of what runs them

    def check(self, check: Callable[[Config, Collection[str]], None]) -> None:
        """Let `check` refuse any job, given the names of those before it; its refusal then names the job."""
        earlier: set[str] = set()
        for number, (job, overrides) in enumerate(zip(self.jobs, self.overrides, strict=True), 1):
            try:
                check(job, earlier)
            except UserError as error:
                where = _where(number, len(self.jobs), overrides) if self.folder else ""
                raise UserError(f"{where}{error}") from error
            if job.name:
                earlier.add(job.name)

    @property
    def arguments(self) -> list[str]:
        """What tells every job, in whatever process it runs, which sweep it is part of."""
        if self.folder is None:
            return []
        varies = ",".join(f"'{key}'" for key in self.varies)
        return [f"sweep.name={self.sweep_name}", f"sweep.varies=[{varies}]", f"sweep.jobs={len(self.jobs)}"]


def plan(overrides: Sequence[str], multirun: bool, config_dir: str | None = None) -> Plan:
    """Compose and check every job of this command line.

    Raises:
        UserError: for the first job that cannot run, naming the job and the field.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        search = [f"hydra.searchpath=['file://{_folder(config_dir)}']"] if config_dir else []
        parsed = _parse(overrides)
        # Without the knobs of a model: in a sweep they may be those of the swept models alone.
        fixed = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
        base = _compose([*search, *(o for o in fixed if not o.lstrip("+~").startswith("model."))], "", hydra=True)
        if multirun or base.hydra.mode == RunMode.MULTIRUN:
            return _plan_sweep(parsed, base, search)
        for override in parsed:
            if override.is_sweep_override():
                raise UserError(f"{override.input_line}: several values are a sweep: add -m")
        if base.sweep.name:
            raise UserError(f"sweep.name={base.sweep.name}: only a sweep has a name: add -m")
        return Plan((_checked(_compose([*search, *fixed], ""), ""),), (_of_a_job(fixed),))


def _plan_sweep(parsed: list[Override], base: DictConfig, search: list[str]) -> Plan:
    swept = _parse([f"{key}={value}" for key, value in (base.hydra.sweeper.get("params") or {}).items()])
    parsed = swept + [o for o in parsed if not str(o.input_line).lstrip("+~").startswith("hydra")]
    is_named = bool(base.sweep.name)
    if not is_named:  # hydra.sweep.dir refers to it
        base.sweep.name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{uuid4().hex[:4]}"
    checks.check_sweep(base.sweep.name, base.sweep.retries)
    batches = BasicSweeper.split_arguments(parsed, None)
    overrides = tuple(_of_a_job(job) for batch in batches for job in batch)
    jobs = []
    for number, job in enumerate(overrides, 1):
        where = _where(number, len(overrides), job)
        jobs.append(_checked(_compose([*search, *job], where), where))
    varies = tuple(dict.fromkeys(o.get_key_element() for o in parsed if o.is_sweep_override()))
    return Plan(
        tuple(jobs), overrides, Path(base.hydra.sweep.dir), base.sweep.name, varies, is_named, base.hydra.launcher
    )


def _folder(config_dir: str) -> Path:
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder")
    return folder


def _where(number: int, of: int, overrides: Sequence[str]) -> str:
    return f"job {number} of {of} ({' '.join(overrides)}): "


def _of_a_job(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(o for o in overrides if not o.lstrip("+~").startswith(("hydra", "sweep.")))


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        loader = GlobalHydra.instance().config_loader()
        parsed: list[Override] = OverridesParser.create(loader).parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UserError(explain(error)) from error
    for override in parsed:
        if not override.key_or_group:
            raise UserError(f"{override.input_line!r} is not of the form key=value")
        choices = loader.get_group_options(override.key_or_group)
        if choices and not override.is_sweep_override() and not isinstance(override.value(), str | list):
            raise UserError(f"{override.input_line}: expected one of {', '.join(choices)}")
    return parsed


def _compose(overrides: Sequence[str], where: str, hydra: bool = False) -> DictConfig:
    try:
        composed: DictConfig = compose("config", list(overrides), return_hydra_config=hydra)
        return composed
    except Exception as error:
        raise UserError(where + explain(error)) from error


def _checked(composed: DictConfig, where: str) -> Config:
    try:
        return checks.from_composed(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
    except UserError as error:
        raise UserError(f"{where}{error}") from error
    except Exception as error:
        raise UserError(where + explain(error)) from error


def explain(error: BaseException) -> str:
    """A composition error of Hydra or OmegaConf in one line that names the nearest right name."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if choice.startswith("submitit_"):  # conf/hydra/launcher/slurm.yaml builds on it
            return f"{group} {choice!r} needs hydra-submitit-launcher: pip install 'cifar-exp[slurm]'"
        options = [str(option) for option in error.options or []]
        return f"{group} {choice!r} not found{did_you_mean(choice, options)} (conf/{group} holds: {', '.join(options)})"
    if isinstance(error, OverrideParseException):
        reason = [line for line in str(error).splitlines() if not line.startswith("See http")][-1].strip()
        return f"{error.override!r} is not of the form key=value: {reason}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigKeyError | AttributeError) or "Could not override" in str(error):
        found = re.search(r"Could not override '([^']+)'", str(error))
        key = found.group(1) if found else str(getattr(cause, "full_key", cause))
        return f"{key}: no such setting{did_you_mean(key, _known_keys())}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _known_keys() -> set[str]:
    """Every setting and every group of the default config."""

    def walk(node: Any, path: str) -> set[str]:
        found = set()
        for key in node:
            found.add(f"{path}{key}")
            if OmegaConf.is_dict(child := node._get_node(key)) and not child._is_none():
                found |= walk(child, f"{path}{key}.")
        return found

    return walk(compose("config"), "") | {"experiment", "optimizer/schedule"}
