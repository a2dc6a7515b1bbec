"""Tests of docker/s3.yml: artifacts are in a bucket, without a difference for users."""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import program
import pytest
from mlflow.artifacts import download_artifacts
from stack import NewStack, Stack, docker

MOTO = Path(__file__).parent / "images" / "moto.Dockerfile"
RUN = ("model=dense", "data=digits", "training.epochs=1")
SETTINGS = {
    "COMPOSE_FILE": "docker-compose.yml:docker/s3.yml",
    "S3_BUCKET": "runs/team",
    "S3_ENDPOINT_URL": "http://s3:5000",
    "S3_ACCESS_KEY_ID": "a-key",
    "S3_SECRET_ACCESS_KEY": "a-secret",
}
WITHIN = 120  # seconds, until a started service answers

CREATE = 'client.create_bucket(Bucket="runs")'
LIST = """
import hashlib, json
pages = client.get_paginator("list_objects_v2").paginate(Bucket="runs")
keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
sums = {key: hashlib.sha256(client.get_object(Bucket="runs", Key=key)["Body"].read()).hexdigest() for key in keys}
print(json.dumps(sums))
"""


@dataclass(frozen=True)
class Logged:
    """A run on a server that keeps artifacts in a bucket."""

    server: Stack
    run_id: str
    written: dict[str, bytes]  # artifacts in the folder of the run
    model: dict[str, bytes]


@pytest.fixture(autouse=True)
def _through_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set MLflow's client to download through the server, as in docs/server.md: it cannot reach the bucket itself."""
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")


@pytest.fixture(scope="module")
def bucket(new_stack: NewStack) -> Iterator[Stack]:
    """A server, and a moto container with a bucket on its network."""
    server = new_stack(**SETTINGS)
    docker("build", "--quiet", "--tag", "cifar-exp-test-moto", "--file", str(MOTO), str(program.ROOT))
    server.up()
    moto, network = f"{server.name}_s3", f"{server.name}_front"
    docker("run", "--detach", "--name", moto, "--network", network, "--network-alias", "s3", "cifar-exp-test-moto")
    try:
        until = time.monotonic() + WITHIN
        while _boto3(server, CREATE, check=False).returncode:
            assert time.monotonic() < until, docker("logs", moto).stderr
        yield server
    finally:
        docker("rm", "--force", moto)


@pytest.fixture(scope="module")
def logged(bucket: Stack, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder = tmp_path_factory.mktemp("s3")
    done = program.run(folder, *RUN, **bucket.environment(bucket.admin))
    assert done.returncode == 0, done.stderr
    (output,) = folder.glob("outputs/runs/*")
    run_id = json.loads((output / "sent.json").read_text())["run_id"]
    return Logged(bucket, run_id, _files(output / "artifacts"), _files(output / "model"))


def _boto3(server: Stack, code: str, check: bool = True) -> program.Done:
    """Run a line of boto3 in the server's container, with its credentials."""
    client = 'import boto3, os; client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])\n'
    return server.inside("mlflow", "python", "-c", client + code, check=check)


def _files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_artifacts_in_a_bucket_come_back_byte_for_byte(logged: Logged, tmp_path: Path) -> None:
    with logged.server.client(logged.server.admin) as client:
        program.artifacts(client, logged.run_id)
        back = _files(Path(download_artifacts(run_id=logged.run_id, dst_path=str(tmp_path / "run"))))
        (output,) = client.get_run(logged.run_id).outputs.model_outputs
        model = _files(Path(download_artifacts(f"models:/{output.model_id}", dst_path=str(tmp_path / "model"))))
    assert logged.written.items() <= back.items()
    assert logged.model.keys() <= model.keys()
    (weights,) = (name for name in logged.model if name.endswith(".keras"))
    assert model[weights] == logged.model[weights]


def test_artifacts_are_in_the_bucket_and_nowhere_else(logged: Logged) -> None:
    stored: dict[str, str] = json.loads(_boto3(logged.server, LIST).stdout)
    assert all(key.startswith("team/") for key in stored)
    for name, content in logged.written.items():
        (key,) = (key for key in stored if key.endswith(f"/{logged.run_id}/artifacts/{name}"))
        assert stored[key] == hashlib.sha256(content).hexdigest(), name
    files = ("/var/lib/mlflow", "-type", "f", "-not", "-name", "cifar_exp-*.lock")  # held while a worker starts
    assert logged.server.inside("mlflow", "find", *files).stdout == ""


def test_runs_do_not_name_the_bucket(logged: Logged) -> None:
    with logged.server.client(logged.server.admin) as client:
        assert client.get_run(logged.run_id).info.artifact_uri.startswith("mlflow-artifacts:/")


def test_backup_holds_the_database_and_leaves_the_bucket_alone(logged: Logged, tmp_path: Path) -> None:
    before = _boto3(logged.server, LIST).stdout
    logged.server.make("backup", f"FILE={tmp_path / 'b.tar'}")
    with tarfile.open(tmp_path / "b.tar") as backup:
        assert [member.name for member in backup if member.isfile()] == ["database.dump"]
    assert _boto3(logged.server, LIST).stdout == before


@pytest.mark.parametrize("missing", ["S3_BUCKET", "S3_ACCESS_KEY_ID"])
def test_a_missing_setting_is_named(new_stack: NewStack, missing: str) -> None:
    settings = SETTINGS | {missing: ""}
    server = new_stack(**settings)
    done = server.make("up", check=False)
    server.set(**SETTINGS)  # without the settings the server could not be removed
    assert done.returncode != 0
    assert missing in done.stderr
    assert docker("ps", "--all", "--quiet", "--filter", f"name={server.name}").stdout == ""
