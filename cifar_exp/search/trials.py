"""The trials of a search as data: search/trials.parquet, and the Optuna study that they make up."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cifar_exp.tracking.untrusted import moment, parse_json

if TYPE_CHECKING:
    import optuna
    import pyarrow as pa
    import pyarrow.parquet as pq

FILE = "search/trials.parquet"
COMPLETE, PRUNED, RUNNING, FAILED, INTERRUPTED = "complete", "pruned", "running", "failed", "interrupted"
MAXIMIZE, MINIMIZE = "maximize", "minimize"

_METADATA = b"cifar_exp.search"
_PARAMS, _VALUES = "params.", "value/"
_STATES = (COMPLETE, PRUNED, RUNNING, FAILED, INTERRUPTED)
_MAX_VALUES, _MAX_BYTES = 5_000_000, 1 << 28  # of a file that is read: 10,000 trials of 400 epochs
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Search:
    """What the trials have in common."""

    metrics: tuple[str, ...]
    """Objectives, by the names of the metrics that runs log."""
    directions: tuple[str, ...]
    """`maximize` or `minimize`, for each objective."""
    sampler: str
    pruner: str
    seed: int
    n_trials: int
    epochs: int
    """Of a trial that is not pruned."""
    rungs: tuple[int, ...]
    """Epochs after which trials are compared and may be pruned."""
    distributions: Mapping[str, str]
    """Key of a setting -> distribution as JSON of `optuna.distributions.distribution_to_json`."""

    def score(self, value: float, objective: int = 0) -> float:
        """A value of an objective so that greater is better."""
        return value if self.directions[objective] == MAXIMIZE else -value


@dataclass(frozen=True)
class Trial:
    """One trial, or a run that confirms one with another seed."""

    trial: int
    """Number from 1; of a confirming run, the trial that it repeats. 0 and below: runs of an earlier sweep."""
    state: str
    """complete, pruned, running, failed or interrupted."""
    params: Mapping[str, Any]
    """Key of a setting -> value; keys whose condition does not hold are missing."""
    values: tuple[float | None, ...] = ()
    """Value of each objective so far; None if there is none."""
    history: tuple[float, ...] = ()
    """The first objective after each epoch, from epoch 1; empty if it is no metric of epochs."""
    epochs: int = 0
    seconds: float = 0.0
    started: int = 0
    """Milliseconds since 1970."""
    ended: int = 0
    """Milliseconds since 1970; of a running trial, its last event."""
    run_id: str | None = None
    name: str = ""
    job: int = 0
    """Number of the job in the sweep, from 1."""
    confirmed: bool = False
    """Whether this run confirms a trial with another seed."""
    seed: int = 0
    """Seed of the run."""
    diverged: bool = False
    """Whether its loss was not finite; it is failed, and its settings are known to be bad."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the sampler has stored with the trial (CMA-ES: its state)."""

    @property
    def value(self) -> float | None:
        """Value of the first objective."""
        return self.values[0] if self.values else None


@dataclass(frozen=True)
class Trials:
    """All trials of a search, in their order, then the runs that confirm some of them."""

    search: Search
    rows: tuple[Trial, ...]

    def write(self, path: Path) -> None:
        """Write a Parquet file atomically, with the search in its metadata."""
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        pq.write_table(self._table(), part)
        part.replace(path)

    def _table(self) -> pa.Table:
        import pyarrow as pa

        plain = {
            **{"trial": pa.int64(), "state": pa.string(), "epochs": pa.int64(), "seconds": pa.float64()},
            **{"started": pa.int64(), "ended": pa.int64(), "run_id": pa.string(), "name": pa.string()},
            **{"job": pa.int64(), "confirmed": pa.bool_(), "seed": pa.int64(), "diverged": pa.bool_()},
        }
        columns = {name: pa.array([getattr(row, name) for row in self.rows], kind) for name, kind in plain.items()}
        numbers = [[_number(value) for value in row.values] or [math.nan] * self._objectives for row in self.rows]
        columns["value"] = pa.array([of[0] for of in numbers], pa.float64())
        for position, metric in enumerate(self.search.metrics):
            columns[f"{_VALUES}{metric}"] = pa.array([of[position] for of in numbers], pa.float64())
        for key, distribution in self.search.distributions.items():
            values = [row.params.get(key) for row in self.rows]
            columns[f"{_PARAMS}{key}"] = pa.array(values, _arrow_type(distribution))
        columns["values"] = pa.array([list(row.history) for row in self.rows], pa.list_(pa.float64()))
        columns["attributes"] = pa.array([json.dumps(dict(row.attributes)) for row in self.rows], pa.string())
        metadata = {_METADATA: json.dumps(asdict(self.search)).encode()}
        return pa.table(columns).replace_schema_metadata(metadata)

    @property
    def _objectives(self) -> int:
        return len(self.search.metrics)


def read(path: Path | BinaryIO) -> Trials:
    """Read the trials of a search.

    Args:
        path: a file that `Trials.write` has written, by its path or opened.

    Raises:
        ValueError: if it is not such a file, or holds too much.
        OSError: if it cannot be read.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        content = (file.schema_arrow.metadata or {}).get(_METADATA)
        if content is None:
            raise ValueError(f"{path} does not hold the trials of a search")
        search = _search(parse_json(content))
        columns, types = Trials(search, ())._table().schema, {column.name: column.type for column in file.schema_arrow}
        for column in columns:
            if types.get(column.name) != column.type:
                raise ValueError(f"its column {column.name!r} is {types.get(column.name)}, expected {column.type}")
        return Trials(search, tuple(_trial(search, row) for row in _rows(file, columns.names)))


def undominated(search: Search, rows: Sequence[Trial]) -> list[Trial]:
    """Those of complete trials that no other beats in every objective: the Pareto front."""
    scores = [tuple(search.score(value or 0.0, at) for at, value in enumerate(row.values)) for row in rows]

    def is_beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(a >= b for a, b in zip(other, own, strict=True)) for other in scores)

    return [row for row, own in zip(rows, scores, strict=True) if not is_beaten(own)]


def to_study(trials: Trials) -> optuna.Study:
    """Make the Optuna study of a search, in memory.

    Runs that confirm a trial are not part of it. A trial that diverged is pruned rather than failed, so that samplers
    learn to avoid its settings.
    """
    import optuna

    study = new_study(trials.search)
    known = distributions(trials.search)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.add_trials([_frozen(row, known) for row in trials.rows if not row.confirmed])
    return study


def new_study(search: Search, objectives: int | None = None) -> optuna.Study:
    """A study without trials, in memory, with the first `objectives` of its objectives; default: all."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in search.directions]
    return optuna.create_study(directions=directions[:objectives])


def distributions(search: Search) -> dict[str, optuna.distributions.BaseDistribution]:
    """Optuna's distribution of each setting."""
    from optuna.distributions import json_to_distribution

    return {key: json_to_distribution(of) for key, of in search.distributions.items()}


def _frozen(row: Trial, distributions: Mapping[str, Any]) -> optuna.trial.FrozenTrial:
    import optuna

    states = optuna.trial.TrialState
    state = {COMPLETE: states.COMPLETE, PRUNED: states.PRUNED, FAILED: states.FAIL}.get(row.state, states.RUNNING)
    if row.state == FAILED and row.diverged:
        state = states.PRUNED
    params = {key: value for key, value in row.params.items() if key in distributions}
    frozen = optuna.trial.create_trial(
        state=states.RUNNING,
        params=params,
        distributions={key: distributions[key] for key in params},
        system_attrs=dict(row.attributes),
        user_attrs={"trial": row.trial, "name": row.name, "run_id": row.run_id},
        intermediate_values={epoch: value for epoch, value in enumerate(row.history, 1) if math.isfinite(value)},
    )
    frozen.state = state
    if state == states.COMPLETE:
        frozen.values = [_number(value) for value in row.values]
    if state.is_finished():
        frozen.datetime_start, frozen.datetime_complete = _time(row.started), _time(max(row.started, row.ended))
    else:
        frozen.datetime_start = _time(row.started)
    return frozen


def _search(content: Any) -> Search:
    listed = {name: tuple(content[name]) for name in ("metrics", "directions", "rungs")}
    search = Search(**(content | listed))
    texts = (*search.metrics, search.sampler, search.pruner, *search.distributions.values())
    numbers = (search.seed, search.n_trials, search.epochs, *search.rungs)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise ValueError("the search in it is not described by texts and whole numbers")
    if not 0 < len(search.metrics) == len(search.directions) or set(search.directions) - {MAXIMIZE, MINIMIZE}:
        raise ValueError(f"got the directions {search.directions}, expected {MAXIMIZE} or {MINIMIZE} for each metric")
    return search


def _rows(file: pq.ParquetFile, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a file, within limits: a few kilobytes of repeated values can expand to gigabytes."""
    parts = [file.metadata.row_group(part) for part in range(file.metadata.num_row_groups)]
    columns = [part.column(column) for part in parts for column in range(part.num_columns)]
    if (values := sum(column.num_values for column in columns)) > _MAX_VALUES:
        raise ValueError(f"it holds {values:,} values; at most {_MAX_VALUES:,} are read")
    size, largest = 0, sum(column.total_uncompressed_size for column in columns)  # no row is larger
    at_once = min(_ROWS_AT_ONCE, max(1, _MAX_BYTES // max(1, largest)))
    for batch in file.iter_batches(at_once, columns=list(names)):
        size += batch.nbytes
        if size > _MAX_BYTES:
            raise ValueError(f"it holds more than {_MAX_BYTES >> 20} MB")
        yield from batch.to_pylist()


def _trial(search: Search, row: Mapping[str, Any]) -> Trial:
    known = {f.name for f in fields(Trial)} - {"params", "values", "history", "attributes"}
    if row["state"] not in _STATES or None in [row[name] for name in (*known - {"run_id"}, "values", "attributes")]:
        raise ValueError(f"its row of trial {row['trial']} is not complete, or has no state of a trial")
    params = {key: row[f"{_PARAMS}{key}"] for key in search.distributions}
    values = tuple(row[f"{_VALUES}{metric}"] for metric in search.metrics)
    return Trial(
        params={key: value for key, value in params.items() if value is not None},
        values=tuple(None if math.isnan(value) else value for value in values),
        history=tuple(row["values"]),
        attributes=parse_json(row["attributes"]),
        **{name: row[name] for name in known},
    )


def _arrow_type(distribution: str) -> pa.DataType:
    import pyarrow as pa

    kinds = {"FloatDistribution": pa.float64(), "IntDistribution": pa.int64()}
    return kinds.get(parse_json(distribution)["name"], pa.string())


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _time(milliseconds: int) -> datetime:
    return moment(milliseconds).astimezone().replace(tzinfo=None)
