"""Trained weights that a run starts from: those of another run or of a file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError
from cifar_exp.tracking import addresses, fetch, run_tags
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_SETTING = "training.start_from"


@dataclass(frozen=True)
class InitialWeights:
    """Source of trained weights: either a file, or a run and its store."""

    digest: str
    """Fingerprint of the run, or SHA-256 of the file."""
    file: Path | None = None
    run: Run | None = None
    store: Store | None = None

    @property
    def name(self) -> str:
        """Name for log lines and messages."""
        return f"run {self.run.info.run_name!r} ({self.run.info.run_id})" if self.run else str(self.file)

    @property
    def link(self) -> str:
        """Link to the source in Markdown."""
        if self.run and self.store:
            return f"[{self.run.info.run_name}]({addresses.run(self.store, self.run.info.run_id)})"
        return f"`{self.file}`"

    def tags(self) -> dict[str, str]:
        """Tags for the run that starts from these weights."""
        return {run_tags.START_FROM: self.run.info.run_id if self.run else str(self.file)}

    def weights(self, folder: Path) -> Path:
        """Path of the .keras file with the weights.

        Args:
            folder: the model of a run is downloaded into it.

        Raises:
            UserError: if the model of the run cannot be downloaded.
        """
        if self.file:
            return self.file
        assert self.run
        assert self.store
        try:
            return fetch.keras_file(self.store, fetch.model_id(self.run), folder)
        except UserError as error:
            raise UserError(f"{_SETTING}: the model of {self.name} cannot be downloaded: {error}") from error


def find(store: Store, wanted: str) -> InitialWeights:
    """Find the weights that `training.start_from` names.

    Args:
        store: searched for runs.
        wanted: a .keras file, a run id, a fingerprint, or the name of a run. If several finished runs have the same
            fingerprint or name, the one that started last is used.

    Raises:
        UserError: if there is no such file or finished run, or the run logged no model.
    """
    if wanted.endswith(".keras"):
        file = Path(wanted).resolve()
        if not file.is_file():
            raise UserError(f"{_SETTING}: no such file: {wanted}")
        return InitialWeights(hashlib.sha256(file.read_bytes()).hexdigest(), file=file)
    store.check()
    run = _find_run(store, wanted)
    if run is None:
        raise UserError(
            f"{_SETTING}: no finished run {wanted!r} in experiment {store.experiment!r} of {store.uri}; "
            "run it first, or name a run id, a fingerprint or a .keras file"
        )
    try:
        fetch.model_id(run)
    except UserError as error:
        raise UserError(f"{_SETTING}: {error}") from error
    return InitialWeights(run.data.tags.get(run_tags.FINGERPRINT, run.info.run_id), run=run, store=store)


def _find_run(store: Store, wanted: str) -> Run | None:
    if not re.fullmatch(r"\w[\w.=+-]*", wanted) or not store.exists():
        return None
    client = store.client
    from mlflow.exceptions import MlflowException

    if re.fullmatch(r"[0-9a-f]{32}", wanted):
        try:
            return client.get_run(wanted)
        except MlflowException:
            return None
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None:
        return None
    is_fingerprint = re.fullmatch(r"[0-9a-f]{16}", wanted)
    condition = f"tags.`{run_tags.FINGERPRINT}` = '{wanted}'" if is_fingerprint else f"params.name = '{wanted}'"
    found = client.search_runs(
        [experiment.experiment_id],
        f"{condition} AND attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return found[0] if found else None
