"""The trained weights that a run goes on from: another run's, or a file's."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_SETTING = "training.start_from"


@dataclass(frozen=True)
class InitialWeights:
    """Where trained weights come from."""

    digest: str
    """What they are the result of: the fingerprint of their run, or the SHA-256 of their file."""
    file: Path | None = None
    run: Run | None = None
    store: Store | None = None

    @property
    def name(self) -> str:
        """For a person."""
        return f"run {self.run.info.run_name!r} ({self.run.info.run_id})" if self.run else str(self.file)

    @property
    def link(self) -> str:
        """In Markdown."""
        if self.run and self.store:
            return f"[{self.run.info.run_name}]({self.store.run_address(self.run.info.run_id)})"
        return f"`{self.file}`"

    def tags(self) -> dict[str, str]:
        """What links a run to this one."""
        return {"cifar_exp.start_from": self.run.info.run_id if self.run else str(self.file)}

    def weights(self, folder: Path) -> Path:
        """Their .keras file; that of a run is downloaded into this folder.

        Raises:
            UserError: if the run's model cannot be had.
        """
        if self.file:
            return self.file
        assert self.run
        assert self.store
        try:
            return fetch.keras_file(self.store, self.run.outputs.model_outputs[-1].model_id, folder)
        except UserError as error:
            raise UserError(f"{_SETTING}: the model of {self.name} cannot be had: {error}") from error


def find(store: Store, wanted: str) -> InitialWeights:
    """What `training.start_from` names: a .keras file, a run id, a fingerprint, or the name of an experiment.

    Of several runs of one fingerprint or name it is the finished one that was started last.

    Raises:
        UserError: if there is none.
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
    if not run.outputs.model_outputs:
        raise UserError(f"{_SETTING}: run {wanted} ({run.info.status}) logged no model")
    return InitialWeights(run.data.tags.get("cifar_exp.fingerprint", run.info.run_id), run=run, store=store)


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
    condition = f"tags.`cifar_exp.fingerprint` = '{wanted}'" if is_fingerprint else f"params.name = '{wanted}'"
    found = client.search_runs(
        [experiment.experiment_id],
        f"{condition} AND attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return found[0] if found else None
