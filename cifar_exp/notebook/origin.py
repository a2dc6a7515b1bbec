"""Where a run is read from: its folder on this machine, or the tracking store. What it holds is data, never code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError
from cifar_exp.experiment import reproduce
from cifar_exp.notebook import process
from cifar_exp.review import EVERY_EPOCH, logged_model, run_record, run_results
from cifar_exp.review.run_record import RunRecord
from cifar_exp.tracking import fetch, local_run, server
from cifar_exp.tracking.delivery import ARTIFACTS, MODEL
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import YAML_BYTES

if TYPE_CHECKING:
    from mlflow.entities import Run


class Origin(Protocol):
    """What a run is read from, when it is asked for."""

    def record(self) -> RunRecord:
        """Parameters, last metrics and tags."""

    def store(self) -> Store:
        """Where the run is logged, or will be."""

    def history(self) -> Mapping[str, Mapping[int, float]]:
        """Metric -> epoch, from 1 -> value."""

    def file(self, name: str, limit: int) -> bytes:
        """An artifact of at most `limit` bytes; UserError if there is none."""

    def figures(self) -> list[str]:
        """Names of the PNG files in the folder of figures."""

    def config(self) -> Config:
        """The config that was logged."""

    @contextmanager
    def weights(self) -> Iterator[Path]:
        """Context manager that gives the .keras file of the logged model; UserError if there is none."""


@dataclass(frozen=True)
class Folder:
    """A run in its folder on this machine, which has everything even while the store is away."""

    path: Path

    def record(self) -> RunRecord:
        """Read from the journal."""
        record = run_record.from_folder(self.path)
        if record is None:
            raise UserError(f"{self.path}: no run was started there")
        return record

    def store(self) -> Store:
        """That the journal names."""
        run = LocalRun.read(self.path)
        if run is None:
            raise UserError(f"{self.path}: no run was started there")
        return run.store

    def history(self) -> Mapping[str, Mapping[int, float]]:
        """Read from the journal."""
        logged = local_run.metrics(self.path)
        return {name: logged[name] for name in EVERY_EPOCH if name in logged}

    def file(self, name: str, limit: int) -> bytes:
        """Read from the folder of artifacts."""
        path = self.path / ARTIFACTS / name
        if not path.is_file() or path.stat().st_size > limit:
            raise UserError(f"{self.path} has no {name} of at most {limit:,} bytes")
        return path.read_bytes()

    def figures(self) -> list[str]:
        """List the folder of figures."""
        return sorted(path.stem for path in (self.path / ARTIFACTS / "figures").glob("*.png"))

    def config(self) -> Config:
        """Read from the folder of artifacts."""
        content = self.file(reproduce.CONFIG, YAML_BYTES).decode()
        return reproduce.parse_config(content, str(self.path / ARTIFACTS / reproduce.CONFIG))

    @contextmanager
    def weights(self) -> Iterator[Path]:
        """The file that was saved to be logged."""
        path = self.path / MODEL / fetch.WEIGHTS
        if not path.is_file():
            raise UserError(f"{self.path} has no model: its run has not finished")
        yield path


@dataclass(frozen=True)
class Stored:
    """A run in a tracking store, which may hold anything: it is read as all other commands read it."""

    uri: str
    experiment: str
    run: Run

    @classmethod
    def of(cls, store: Store, run: Run) -> Stored:
        """A run that was found; its store keeps its place if the process changes its folder."""
        return cls(store.absolute_uri, store.experiment, run)

    def record(self) -> RunRecord:
        """As it was when the run was found."""
        return run_record.from_run(self.run)

    def store(self) -> Store:
        """The store."""
        return Store(self.uri, self.experiment)

    def history(self) -> Mapping[str, Mapping[int, float]]:
        """One request per metric."""
        with self._opened() as store:
            return run_results.metric_histories(store, self.run, EVERY_EPOCH)

    def file(self, name: str, limit: int) -> bytes:
        """Download the file."""
        with self._opened() as store:
            return fetch.file(store, self.run, name, limit)

    def figures(self) -> list[str]:
        """List the artifacts."""
        with self._opened() as store:
            listed = fetch.names(store, self.run, "figures")
        return sorted(Path(name).stem for name in listed if name.endswith(".png"))

    def config(self) -> Config:
        """Download the config."""
        with self._opened() as store:
            return reproduce.read(store, self.run.info.run_id).config

    @contextmanager
    def weights(self) -> Iterator[Path]:
        """Download the file for as long as it is read."""
        with TemporaryDirectory() as folder:
            with self._opened() as store:
                model = logged_model.from_run(store, self.run)
                path = fetch.keras_file(store, model.model_id, Path(folder))
            yield path

    @contextmanager
    def _opened(self) -> Iterator[Store]:
        """The store, once it has answered; what MLflow needs in the environment does not stay there."""
        server.check.cache_clear()  # it may have been away when the last command asked
        with process.environment(), (store := self.store()).connected():
            yield store
