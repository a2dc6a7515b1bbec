"""Find the trials of a search by its name: in its folder here, or in the store."""

from __future__ import annotations

import io
from pathlib import Path

from cifar_exp.errors import UserError, did_you_mean, reason
from cifar_exp.review import query
from cifar_exp.search import trials
from cifar_exp.search.trials import Trials
from cifar_exp.tracking import fetch, run_tags
from cifar_exp.tracking.delivery import ARTIFACTS
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.store import Store

SWEEPS = Path("outputs/sweeps")  # default of hydra.sweep.dir in conf/config.yaml
_UNQUOTABLE = {"'", "\\"}  # cannot be escaped in a filter
_LIMIT = 256 * 1024 * 1024  # bytes of the file in a store


def by_name(store: Store, name: str, root: Path = SWEEPS) -> Trials:
    """Find the trials of a search; those in its folder are newer than those in the store while it runs.

    Args:
        store: contains the parent run.
        name: of the search.
        root: folder of the sweeps.

    Raises:
        UserError: if there is no such search, or its trials cannot be read.
    """
    if found := if_search(store, name, root):
        return found
    parents = query.search(store, f"tags.`{run_tags.KIND}` = '{run_tags.SWEEP_KIND}'", ["attributes.start_time DESC"])
    names = [run.data.tags.get(run_tags.SWEEP, "") for run in parents]
    where = f"experiment {store.experiment!r} of {store.uri}"
    if name in names:
        raise UserError(f"sweep {name!r} is not a search, or has not logged its trials: {where} has no {trials.FILE}")
    raise UserError(f"no search {name!r} in {root} or in {where}{did_you_mean(name, names)}")


def if_search(store: Store, name: str, root: Path = SWEEPS) -> Trials | None:
    """Find the trials of a sweep if it is a search; None if it is not, or there is no such sweep.

    Args:
        store: contains the parent run.
        name: of the sweep.
        root: folder of the sweeps.

    Raises:
        UserError: if the trials cannot be read.
    """
    folder = root / name
    path = folder / ARTIFACTS / trials.FILE
    local = LocalRun.read(folder) if path.exists() else None
    if local and local.belongs_to(store):
        return _read(path, str(path))
    if not store.exists():
        return None
    with store.connected():
        run = None if _UNQUOTABLE & set(name) else store.find_sweep(name)
        logged = store.artifacts(run).list_artifacts(str(Path(trials.FILE).parent)) if run else []
    if run is None or trials.FILE not in [item.path for item in logged]:
        return None
    content = fetch.file(store, run, trials.FILE, _LIMIT)
    return _read(io.BytesIO(content), f"{trials.FILE} of run {run.info.run_id}")


def _read(source: Path | io.BytesIO, where: str) -> Trials:
    try:
        found = trials.read(source)
        trials.to_study(found)  # as the export does; the report draws from the same
    except Exception as error:  # of Arrow and Optuna, which have no common class; anybody can log such a file
        raise UserError(f"{where} cannot be read as the trials of a search: {reason(error)}") from error
    return found
