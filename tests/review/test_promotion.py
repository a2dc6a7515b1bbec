"""Tests of promoting real runs: the rules, the recorded history, and serving the champion with MLflow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import program
import pytest
import requests

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError
from cifar_exp.review import promotion, promotion_records, removal, verdicts
from cifar_exp.review.verdicts import APPROVED
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]

STARTUP_TIMEOUT = 180  # seconds


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Name of a registered model that only this test uses."""
    return str(request.node.name)[:100].replace("[", " ").replace("]", "")


def approve(store: Store, run: Run) -> Run:
    return verdicts.give(store, run, APPROVED, "bob", even_though="it is a test")


def test_the_first_champion_needs_only_approval(own_store: Store, log_trained: LogTrained, name: str) -> None:
    run = log_trained("weak")
    with pytest.raises(UserError, match=r"^weak cannot be promoted: it is unreviewed, not approved; --even-though"):
        promotion.promote(own_store, run, name, "champion", "bob")
    assert promotion_records.history(own_store, name, "champion") == []
    done = promotion.promote(own_store, approve(own_store, run), name, "champion", "bob", "we begin")
    assert (done.version, done.run_id, done.by, done.why, done.now) == (
        *("1", run.info.run_id, "bob", "we begin. First version with this alias.", True),
    )
    assert promotion_records.history(own_store, name, "champion") == [done]
    version = own_store.client.get_model_version_by_alias(name, "champion")
    assert version.run_id == run.info.run_id and version.source == f"models:/{run.outputs.model_outputs[0].model_id}"
    assert "by bob.\n\nwe begin. First version with this alias." in version.description
    with pytest.raises(UserError, match=r"weak is already .*@champion, as version 1"):
        promotion.promote(own_store, approve(own_store, run), name, "champion", "bob")


def test_only_a_significantly_better_run_replaces_the_champion(
    own_store: Store, log_trained: LogTrained, name: str
) -> None:
    weak, strong, twin = (approve(own_store, log_trained(one)) for one in ("weak", "strong", "twin"))
    assert weak.data.metrics["test/accuracy"] < strong.data.metrics["test/accuracy"] - 0.05
    promotion.promote(own_store, weak, name, "champion", "bob")
    beaten = promotion.promote(own_store, strong, name, "champion", "carl")
    assert beaten.why.startswith("strong is better than weak by ") and "larger than chance" in beaten.why
    with pytest.raises(UserError, match=r"^twin cannot be promoted: twin is .*McNemar p"):
        promotion.promote(own_store, twin, name, "champion", "bob")
    with pytest.raises(UserError, match=r"^weak cannot be promoted: weak is worse than strong"):
        promotion.promote(own_store, weak, name, "champion", "bob")
    back = promotion.promote(own_store, weak, name, "champion", "bob", even_though="the other is too slow")
    assert back.version == "1" and back.even_though == "the other is too slow"
    champions = promotion_records.history(own_store, name, "champion")
    assert [(one.run_name, one.by, one.now) for one in champions] == [
        ("weak", "bob", False),
        ("strong", "carl", False),
        ("weak", "bob", True),
    ]
    assert champions[1].accuracy == strong.data.metrics["test/accuracy"]
    assert promotion_records.history(own_store, name, "challenger") == []


def test_a_withdrawn_approval_does_not_count(own_store: Store, log_trained: LogTrained, name: str) -> None:
    run = approve(own_store, log_trained("strong"))
    run = verdicts.give(own_store, run, verdicts.REJECTED, "carl")
    with pytest.raises(UserError, match="it is rejected, not approved"):
        promotion.promote(own_store, run, name, "champion", "bob")


def test_other_test_images_need_a_reason(own_store: Store, log_trained: LogTrained, name: str) -> None:
    weak, strong = (approve(own_store, log_trained(one)) for one in ("weak", "strong"))
    promotion.promote(own_store, weak, name, "champion", "bob")
    import pandas as pd

    path = f"{strong.info.artifact_uri.removeprefix('file://')}/evaluation/predictions.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "label"] = (frame.loc[0, "label"] + 1) % 10
    frame.to_parquet(path, index=False)
    with pytest.raises(UserError, match=r"cannot be compared with the current version: .*label differs in row 0"):
        promotion.promote(own_store, strong, name, "champion", "bob")
    done = promotion.promote(own_store, strong, name, "champion", "bob", even_though="new images")
    assert done.now and "differs in row 0" in done.objections[0]


def test_a_run_without_a_model_is_refused(own_store: Store, name: str) -> None:
    run = own_store.client.create_run(own_store.experiment_id)
    with pytest.raises(UserError, match="logged no model"):
        promotion.promote(own_store, run, name, "champion", "bob")


def test_an_alias_moved_by_hand_is_shown_as_such(own_store: Store, log_trained: LogTrained, name: str) -> None:
    weak, strong = (approve(own_store, log_trained(one)) for one in ("weak", "strong"))
    promotion.promote(own_store, weak, name, "champion", "bob")
    promotion.promote(own_store, strong, name, "champion", "bob")
    client = own_store.client
    client.set_registered_model_alias(name, "champion", "1")
    client.set_model_version_tag(name, "1", "promotion.9999", '{"at": "2030-01-01T00:00:00+00:00", "by": "eve"}')
    *before, last = promotion_records.history(own_store, name, "champion")
    assert [one.now for one in before] == [False, False]
    assert (last.version, last.run_name, last.at, last.now) == ("1", "weak", None, True)
    assert last.why == "The alias was not set by cifar-exp promote."
    client.delete_registered_model_alias(name, "champion")
    assert [one.now for one in promotion_records.history(own_store, name, "champion")] == [False, False]


@pytest.mark.parametrize("alias", ["v1", "", "a b", "1st", "a@b"])
def test_an_alias_is_a_name(own_store: Store, log_trained: LogTrained, name: str, alias: str) -> None:
    with pytest.raises(UserError, match=r"^--alias "):
        promotion.promote(own_store, approve(own_store, log_trained("weak")), name, alias, "bob")


def test_the_registered_model_is_named_as_the_config_says_or_the_experiment() -> None:
    assert promotion.model_name(Store("x", "cifar10"), None) == "cifar10"
    assert promotion.model_name(Store("x", "a/b"), "fruit") == "fruit"
    with pytest.raises(UserError, match=r"review\.model=NAME"):
        promotion.model_name(Store("x", "a/b"), None)


def test_the_commands_promote_and_show_and_mlflow_serves_the_champion(
    mlflow_server: str, log_trained: LogTrained, tmp_path: Path
) -> None:
    def cli(*arguments: str) -> program.Done:
        return program.execute([*program.COMMAND, *arguments], tmp_path, {"MLFLOW_TRACKING_URI": mlflow_server})

    none = cli("champion")
    assert none.returncode == 2 and none.stderr.startswith("cifar_exp: no model version cifar10@champion in http://")
    store = Store(mlflow_server, "cifar10")
    run = log_trained("strong", store)
    refused = cli("promote", "strong")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    approve(store, run)
    done = cli("promote", "strong", "--note", "for the demo")
    assert (done.returncode, done.stderr) == (0, "")
    serve = done.stdout.splitlines()[-1]
    assert serve.startswith(f"Serve it:  MLFLOW_TRACKING_URI={mlflow_server} mlflow models serve --env-manager local")
    shown = cli("champion", "--json")
    (champion,) = json.loads(shown.stdout)
    assert (champion["run_id"], champion["why"]) == (run.info.run_id, "for the demo. First version with this alias.")

    images = datasets.load(DataConfig(name="digits")).test.images[:4]
    variables, command = serve.removeprefix("Serve it:  ").split(" ", 1)
    key, _, value = variables.partition("=")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command.replace("--port 5001", f"--port {port}").split()],
            cwd=tmp_path,
            env=os.environ | {key: value, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + STARTUP_TIMEOUT
        while True:
            try:
                if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                    break
            except requests.RequestException:
                pass
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.5)
        answer = requests.post(
            f"http://127.0.0.1:{port}/invocations", json={"inputs": images.tolist()}, timeout=60
        ).json()
    finally:
        os.killpg(server.pid, 9)
        server.wait()
    import mlflow.artifacts
    import pandas as pd

    logged = pd.read_parquet(
        mlflow.artifacts.download_artifacts(
            f"runs:/{run.info.run_id}/evaluation/predictions.parquet", dst_path=str(tmp_path), tracking_uri=store.uri
        )
    )
    served = np.array(answer["predictions"])
    assert served.shape == (4, 10)
    assert np.allclose(served, logged.filter(like="p_").to_numpy()[:4], atol=1e-5)


def test_a_removed_alias_is_on_record_with_its_reason(own_store: Store, log_trained: LogTrained, name: str) -> None:
    run = approve(own_store, log_trained("weak"))
    with pytest.raises(UserError, match=r"^no version of .* is champion: there is nothing to remove$"):
        removal.remove(own_store, name, "champion", "bob", "why not")
    promotion.promote(own_store, run, name, "champion", "bob")
    with pytest.raises(UserError, match=r"version 1 of .* is champion: give the reason"):
        removal.remove(own_store, name, "champion", "bob", " ")
    done = removal.remove(own_store, name, "champion", "bob", "it saw the test images")
    client = own_store.client
    client.set_model_version_tag(
        name, "1", "promotion.removed.9999", '{"at": "2030-01-01T00:00:00+00:00", "by": "eve"}'
    )
    assert removal.latest(own_store, name, "champion") == done
    assert removal.latest(own_store, name, "challenger") is None
    assert client.get_registered_model(name).aliases == {}
    assert client.get_model_version(name, "1").description == done.line
    (before,) = promotion_records.history(own_store, name, "champion")
    assert (before.by, before.now) == ("bob", False)
    again = promotion.promote(own_store, run, name, "champion", "bob")
    assert (again.version, again.why) == ("1", "No version had this alias.")
