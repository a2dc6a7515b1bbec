"""A real server with logins and the rules of review, its members, and runs as training logs them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import requests
import server_process
from receiver import Receiver, receiving

if TYPE_CHECKING:
    from mlflow import MlflowClient

ADMIN = "admin"
PASSWORD = "correct horse battery staple"
SETTINGS = (
    "[mlflow]\ndatabase_uri = sqlite:///{folder}/users.db\ndefault_permission = READ\nauth_cache_ttl_seconds = 30\n"
)
WRONG = "nowhere:of-a-token"
"""An address for messages, of no form that there is."""
IMAGES, CLASSES = 400, ("airplane", "cat", "frog")
TIMEOUT = 60


@dataclass(frozen=True)
class Team:
    """A server whose members are ann, eve, bob (an approver) and max, who may not read experiment `secret`."""

    uri: str
    folder: Path
    receiver: Receiver
    """Of the messages that the server sends."""

    def call(self, user: str, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send a request as a user, as any program could."""
        return requests.request(
            method, f"{self.uri}{path}", auth=(user, PASSWORD), timeout=TIMEOUT, allow_redirects=False, **arguments
        )

    @contextmanager
    def client(self, user: str) -> Iterator[MlflowClient]:
        """MLflow's own client, logged in as a user."""
        import mlflow

        before = dict(os.environ)
        os.environ.update({"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": PASSWORD})
        mlflow.set_tracking_uri(self.uri)
        try:
            yield mlflow.MlflowClient(self.uri)
        finally:
            os.environ.clear()
            os.environ.update(before)
            mlflow.set_tracking_uri(None)

    def log(
        self,
        user: str,
        name: str,
        right: float = 0.8,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        experiment: str = "cifar10",
        status: str = "FINISHED",
        seed: int = 0,
    ) -> str:
        """Log a run as training does, with predictions of which a share is right, and a model; return its id."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag

        labels = np.arange(IMAGES) % len(CLASSES)
        wrong = np.random.default_rng(seed).permutation(IMAGES)[round(right * IMAGES) :]
        predicted = labels.copy()
        predicted[wrong] = (labels[wrong] + 1) % len(CLASSES)
        probabilities = {
            f"p_{one}": np.where(predicted == at, 0.9, 0.05).astype(np.float32) for at, one in enumerate(CLASSES)
        }
        frame = pd.DataFrame({"index": np.arange(IMAGES), "label": labels, "predicted": predicted, **probabilities})
        all_tags = {"cifar_exp.outcome": "running", "cifar_exp.git_dirty": "false"} | dict(tags or {})
        all_tags |= {"review.state": "unreviewed", "review.by": "", "review.note": ""}
        outcome = all_tags.pop("outcome", "completed")
        with self.client(user) as client, tempfile.TemporaryDirectory() as folder:
            found = client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else client.create_experiment(experiment)
            run_id: str = client.create_run(experiment_id, tags=all_tags, run_name=name).info.run_id
            now = time.time_ns() // 1_000_000
            metrics = [Metric("test/accuracy", float(np.mean(predicted == labels)), now, 3)]
            for epoch in (1, 2, 3):
                metrics += [Metric("val/accuracy", right * epoch / 3, now + epoch, epoch)]
                metrics += [Metric("val/loss", 1.5 - right * epoch / 3, now + epoch, epoch)]
            all_params = {"model.name": "baseline", "optimizer.name": "adam", "seed": str(seed)} | dict(params or {})
            client.log_batch(run_id, metrics, [Param(*pair) for pair in all_params.items()])
            source = Dataset("digits-test", "0" * 32, "local", "{}", profile=f'{{"images": {IMAGES}}}')
            client.log_inputs(run_id, [DatasetInput(source, [InputTag("mlflow.data.context", "test")])])
            path = Path(folder, "predictions.parquet")
            frame.to_parquet(path)
            client.log_artifact(run_id, str(path), "evaluation")
            model = client.create_logged_model(experiment_id, "model", run_id, model_type="keras")
            Path(folder, "MLmodel").write_text(f"model_id: {model.model_id}\n")
            client.log_model_artifact(model.model_id, str(Path(folder, "MLmodel")))
            client.finalize_logged_model(model.model_id, "READY")
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
            client.log_batch(run_id, tags=[RunTag("cifar_exp.outcome", outcome)])
            if status != "RUNNING":
                client.set_terminated(run_id, status)
        return run_id

    def log_evaluation(self, run: str, data: str, experiment: str) -> str:
        """Log an evaluation of a run as ann, as `cifar-exp evaluate` does; return its id."""
        from mlflow.entities import Metric

        tags = {"cifar_exp.kind": "evaluation", "cifar_exp.evaluates": run}
        logged = self.log("ann", "evaluation", tags=tags, params={"data": data, "part": "test"}, experiment=experiment)
        metrics = {"evaluation/accuracy": 0.5, "robustness/mce": 0.625, "attack/accuracy/pgd_8": 0.0625}
        with self.client("ann") as client:
            client.log_batch(logged, [Metric(name, value, 0, 0) for name, value in metrics.items()])
        return logged


def settings(folder: Path) -> dict[str, str]:
    """Variables of a server that has its users in a folder."""
    (folder / "auth.ini").write_text(SETTINGS.format(folder=folder))
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
    }


@contextmanager
def start(folder: Path) -> Iterator[Team]:
    """Start a server and make its members."""
    with (
        receiving() as receiver,
        server_process.serve(
            *(folder, "--app-name", "cifar-exp"), **settings(folder), CIFAR_EXP_NOTIFY=f"{receiver.address} {WRONG}"
        ) as uri,
    ):
        team = Team(uri, folder, receiver)
        roles = {
            role["name"]: role["id"]
            for role in team.call(ADMIN, "GET", "/api/3.0/mlflow/roles/list?workspace=default").json()["roles"]
        }
        for name in ("ann", "bob", "eve", "max"):
            made = team.call(
                ADMIN, "POST", "/api/2.0/mlflow/users/create", json={"username": name, "password": PASSWORD}
            )
            assert made.ok, made.text
        for name, role in (("ann", "member"), ("bob", "member"), ("eve", "member"), ("bob", "approver")):
            given = team.call(
                ADMIN, "POST", "/api/3.0/mlflow/roles/assign", json={"username": name, "role_id": roles[role]}
            )
            assert given.ok, given.text
        yield team
