"""Composition of all jobs of a command line from conf/, checked before Hydra runs the first one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from importlib.metadata import entry_points
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar_exp import plugins
from cifar_exp.config import checks, composition_errors, overrides, schema, space
from cifar_exp.config.loader import Loader
from cifar_exp.config.plan import Plan, announced, in_sweep
from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError

_PACKAGE = Path(__file__).parent.parent
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())  # wheel, checkout

_SEARCH = "hydra_plugins.cifar_exp_search.SearchSweeper"
_SUBDIR = "${hydra.job.num}"  # folder of a job in the folder of its sweep
_JOB_NAME = "launch"  # as hydra.main names it, so that what it composes is shared with the checks

ConfigStore.instance().store(name="schema", node=schema.schema())
for _entry in entry_points(group=plugins.DATASETS):  # so that data=NAME needs no file
    ConfigStore.instance().store(group="data", name=_entry.name, node={"name": _entry.name})


def plan(arguments: Sequence[str], multirun: bool, config_dir: str | None = None) -> Plan:
    """Compose and check all jobs of a command line.

    Args:
        arguments: the overrides.
        multirun: whether -m was given.
        config_dir: folder with additional choices, from --config-dir.

    Raises:
        UserError: if a job cannot run. The message has the job and the setting.
    """
    with composing():
        listed = list_jobs(arguments, multirun, config_dir)
        return replace(listed, jobs=tuple(_checked_jobs(listed)))


def composing() -> AbstractContextManager[None]:
    """Context manager in which Hydra composes from conf/."""
    context: AbstractContextManager[None] = initialize_config_dir(str(CONF), job_name=_JOB_NAME, version_base="1.3")
    return context


def list_jobs(arguments: Sequence[str], multirun: bool, config_dir: str | None = None) -> Plan:
    """List all jobs of a command line, within `composing`: what `plan` returns, but for the jobs themselves.

    Raises:
        UserError: if the jobs cannot be listed.
    """
    search = (overrides.write("hydra.searchpath", [f"file://{_folder(config_dir)}"]),) if config_dir else ()
    parsed = _parse(arguments, intervals=True)
    # Without settings of a model: in a sweep, they may exist only in the models of the sweep.
    fixed = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
    of_all = [o for o in fixed if not o.lstrip("+~").startswith("model.")]
    base = _compose([*search, *of_all])
    for section in ("launcher", "sweeper"):
        _require_mapping(f"hydra.{section}", base.hydra[section])
    is_search = base.hydra.sweeper.get("_target_") == _SEARCH
    if not is_search:
        overrides.refuse_intervals(parsed)
    if multirun or base.hydra.mode == RunMode.MULTIRUN:
        folders: Any = OmegaConf.to_container(base.hydra.sweep, resolve=False)
        if folders["subdir"] != _SUBDIR:
            raise UserError(f"hydra.sweep.subdir: got {folders['subdir']}, expected {_SUBDIR}, by which jobs are found")
        return (_list_search if is_search else _list_sweep)(parsed, base, search)
    if is_search:
        raise UserError("hydra/sweeper=search: several trials are a sweep: add -m")
    for override in parsed:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: several values are a sweep: add -m, or call cifar_exp.sweep")
    if base.sweep.name:
        raise UserError(f"sweep.name={base.sweep.name}: only a sweep has a name: add -m")
    job = _of_a_job(fixed)
    folder = _folder_of("run", base if of_all == fixed else _compose([*search, *fixed]))
    return Plan((), (job,), composed_with=(*search, *(o for o in fixed if o not in job)), run_folder=folder)


def _list_sweep(parsed: list[Override], base: DictConfig, search: tuple[str, ...]) -> Plan:
    swept = _parse(_params(base))
    for override in swept + parsed:
        if override.is_sweep_override() and _is_of_all(override.key_or_group):
            raise UserError(f"{override.input_line}: got several values, expected one: it is set for the whole sweep")
    parsed = swept + [o for o in parsed if not o.is_hydra_override()]
    is_named = _name(base)
    # Like Hydra's sweeper: a key that is given twice has its last values and its first position.
    lists = {o.get_key_element(): [f"{o.get_key_element()}={v}" for v in overrides.values(o)] for o in parsed}
    jobs = tuple(_of_a_job(job) for job in product(*lists.values()))
    varies = tuple(dict.fromkeys(o.get_key_element() for o in parsed if o.is_sweep_override()))
    return Plan(
        (),
        jobs,
        _folder_of("sweep", base),
        base.sweep.name,
        varies,
        is_named,
        base.hydra.launcher,
        composed_with=search,
        is_basic=str(base.hydra.sweeper.get("_target_")).endswith(".BasicSweeper"),
        of_the_sweep=_of_the_sweep(parsed),
    )


def _list_search(parsed: list[Override], base: DictConfig, search: tuple[str, ...]) -> Plan:
    """List jobs with every choice and both ends of every range; the trials are composed when they are asked for."""
    loader = GlobalHydra.instance().config_loader()
    parsed = _parse(_params(base), intervals=True) + [o for o in parsed if not o.is_hydra_override()]
    for override in parsed:
        if override.is_sweep_override() and _is_of_all(override.key_or_group):
            raise UserError(f"{override.input_line}: got several values, expected one: it is set for the whole search")
    is_named = _name(base)
    settings = [o for o in parsed if not o.key_or_group.startswith("sweep.")]
    fixed = {o.get_key_element(): o for o in settings if not o.is_sweep_override()}
    section: Any = OmegaConf.to_container(base.search, resolve=False)
    choices = {str(group): str(choice) for group, choice in base.hydra.runtime.choices.items()}
    chosen = {key: o.get_value_element_as_str() for key, o in fixed.items()}
    found = space.of([o for o in settings if o.is_sweep_override()], section, chosen, choices, loader)
    if of_all := next((key for key in found.keys if _is_of_all(key)), None):
        raise UserError(f"search.{of_all}: it is set for the whole search")
    if not found.dimensions:
        raise UserError(
            "hydra/sweeper=search: no setting has several values; give a range, such as "
            "'optimizer.learning_rate=tag(log,interval(1e-4,1e-1))', or drop hydra/sweeper=search"
        )
    common = tuple(str(o.input_line) for o in fixed.values())
    jobs = tuple((*common, *found.overrides(point)) for point in found.checked_points())
    return Plan(
        (),
        jobs,
        _folder_of("sweep", base),
        base.sweep.name,
        found.keys,
        is_named,
        base.hydra.launcher,
        composed_with=search,
        of_the_sweep=_of_the_sweep(parsed),
        space=found,
        fixed=common,
        sweeper=base.hydra.sweeper,
    )


def _checked_jobs(listed: Plan) -> Iterator[Config]:
    """Compose and check each job; a refusal begins with the job."""
    for number, job in announced(listed.overrides):
        try:
            yield _checked([*listed.composed_with, *job])
        except UserError as error:
            where = in_sweep(number, listed.count, job) if listed.folder else ""
            if listed.space:
                where = f"a trial with {' '.join(job[len(listed.fixed) :])} cannot run: "
            raise UserError(f"{where}{error}") from error


def _name(base: DictConfig) -> bool:
    """Give the sweep a name if it has none, to which hydra.sweep.dir refers; return whether it had one."""
    is_named = bool(base.sweep.name)
    if not is_named:
        base.sweep.name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{uuid4().hex[:4]}"
    checks.check_sweep(base.sweep.name, base.sweep.retries)
    return is_named


def _folder_of(what: str, composed: DictConfig) -> Path:
    """The folder of a `run` or a `sweep`."""
    HydraConfig.instance().set_config(composed)  # to which ${hydra:...} refers, as when Hydra runs it
    try:
        return Path(str(composed.hydra[what].dir))
    except OmegaConfBaseException as error:  # it refers to something that there is not
        raise UserError(composition_errors.explain(error)) from error


def _of_the_sweep(parsed: Sequence[Override]) -> tuple[str, ...]:
    return tuple(str(o.input_line) for o in parsed if o.key_or_group.startswith("sweep."))


def _folder(config_dir: str) -> Path:
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder")
    return folder


def _of_a_job(job: Sequence[str]) -> tuple[str, ...]:
    """Remove overrides of Hydra and of the sweep."""
    return tuple(o for o in job if not _is_of_all(o))


def _is_of_all(override: str) -> bool:
    """Whether an override, or a key, is of Hydra or of the sweep, so that it cannot differ between jobs."""
    return override.lstrip("+~").startswith(("hydra", "sweep."))


def _parse(arguments: Sequence[str], intervals: bool = False) -> list[Override]:
    loader = GlobalHydra.instance().config_loader()
    parsed = overrides.parse(arguments, loader, intervals)
    for override in parsed:
        choices = loader.get_group_options(override.key_or_group)
        if choices and override.is_delete():
            raise UserError(f"{override.input_line}: a choice can only be replaced: {override.key_or_group}=NAME")
        if choices and not overrides.names_choices(override):
            raise UserError(f"{override.input_line}: expected one of {', '.join(choices)}")
    return parsed


def _compose(job: Sequence[str]) -> DictConfig:
    """Compose a config, including Hydra's own settings."""
    try:
        composed: DictConfig = compose("config", list(job), return_hydra_config=True)
        return composed
    except Exception as error:
        raise UserError(composition_errors.explain(error)) from error


def _params(base: DictConfig) -> list[str]:
    """Return the overrides that a file has for its sweep."""
    params: Any = base.hydra.sweeper.get("params") or {}
    _require_mapping("hydra.sweeper.params", params)
    return [f"{key}={value}" for key, value in params.items()]


def _require_mapping(key: str, got: object) -> None:
    """Refuse a value in place of a section of Hydra, such as hydra.launcher=parallel for hydra/launcher=parallel."""
    if not isinstance(got, Mapping):
        expected = composition_errors.settings_of(key, str(got))
        raise UserError(f"{key}: got {'null' if got is None else repr(got)}, expected {expected}")


def _checked(job: Sequence[str]) -> Config:
    """Compose and check a job."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, Loader)
    try:
        content = loader.resolve("config", job)
    except UserError:
        raise
    except Exception as error:
        raise UserError(composition_errors.explain(error)) from error
    return checks.from_content(content)
