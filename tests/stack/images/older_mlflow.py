"""Runs inside the older server's container: logs to it as a user, and prints as JSON what its own client then reads."""

import hashlib
import json
import os
import time
import urllib.request
from pathlib import Path

from mlflow import MlflowClient, set_tracking_uri
from mlflow.server import get_app_client

SERVER = "http://127.0.0.1:5000"
ANN, PASSWORD = "ann", "the-password-of-ann"


def login(name: str, password: str) -> None:
    os.environ.update(MLFLOW_TRACKING_USERNAME=name, MLFLOW_TRACKING_PASSWORD=password)


def wait_until_it_answers() -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{SERVER}/health").close()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the older server does not answer")


def fill() -> dict[str, object]:
    client = MlflowClient(SERVER)
    experiment = client.create_experiment("older", tags={"kept": "yes"})
    # As cifar-exp review wrote it before the server kept the rules.
    verdict = {"state": "approved", "by": "bob", "at": "2026-03-01T12:00:00+00:00", "note": "looked at it"}
    tags = {"review.state": "approved", "review.verdict.2026-03-01T12-00-00.000000Z.bob.a1b2c3": json.dumps(verdict)}
    run_id = client.create_run(experiment, run_name="first", tags=tags).info.run_id
    client.log_param(run_id, "optimizer.name", "sgd")
    for step in range(1, 6):
        client.log_metric(run_id, "val/accuracy", step / 7, step=step)
    client.log_metric(run_id, "test/loss", float("inf"))
    client.log_text(run_id, "α β γ\n" * 1000, "logs/run.log")
    model = client.create_logged_model(experiment, name="model", source_run_id=run_id, params={"layers": "3"})
    weights = Path("weights.bin")
    weights.write_bytes(bytes(range(256)) * 100)
    client.log_model_artifact(model.model_id, str(weights))
    client.finalize_logged_model(model.model_id, "READY")
    client.set_terminated(run_id)

    run = client.get_run(run_id)
    return {
        "experiment": experiment,
        "run_id": run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "times": [run.info.start_time, run.info.end_time],
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {
            name: [[point.step, point.timestamp, point.value] for point in client.get_metric_history(run_id, name)]
            for name in run.data.metrics
        },
        "log": hashlib.sha256(Path(client.download_artifacts(run_id, "logs/run.log")).read_bytes()).hexdigest(),
        "model": model.model_id,
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "user": [ANN, PASSWORD],
    }


if __name__ == "__main__":
    wait_until_it_answers()
    login("admin", "an-older-password")
    get_app_client("basic-auth", tracking_uri=SERVER).create_user(ANN, PASSWORD)
    login(ANN, PASSWORD)
    set_tracking_uri(SERVER)  # where artifacts are sent
    print(json.dumps(fill()))
