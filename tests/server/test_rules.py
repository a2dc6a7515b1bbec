"""The rules of review on MLflow's own routes, as plain clients meet them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import requests
from team import Team

from cifar_exp.review import verdicts

PREFIXES = ("/api", "/ajax-api")
VERDICT = {"state": "approved", "by": "bob", "at": "2026-01-01T00:00:00+00:00"}

Call = Callable[..., requests.Response]


def approve(server: Team, run_id: str, by: str = "bob", **more: str) -> None:
    done = server.call(by, "POST", "/api/3.0/cifar-exp/verdict", json={"run_id": run_id, "action": "approve", **more})
    assert done.ok, done.text


def refused(answer: requests.Response, sentence: str = "") -> None:
    assert answer.status_code == 403, (answer.status_code, answer.text)
    body = answer.json()
    assert body["error_code"] == "PERMISSION_DENIED" and sentence in body["message"]
    assert body["message"].count("\n") == 0


@pytest.fixture(scope="module")
def run_id(server: Team) -> str:
    return server.log("ann", "to be judged")


@pytest.fixture(scope="module")
def approved(server: Team) -> str:
    made = server.log("ann", "approved")
    approve(server, made)
    return made


@pytest.fixture(scope="module")
def champion(server: Team) -> tuple[str, str]:
    """Registered model and run of a champion."""
    made = server.log("ann", "the champion", experiment="champions")
    approve(server, made)
    body = {"run_id": made, "model": "digits"}
    done = server.call("bob", "POST", "/api/3.0/cifar-exp/promote", json=body)
    assert done.ok, done.text
    return "digits", made


@pytest.mark.parametrize(
    ("user", "prefix", "key"),
    [
        ("ann", "/api", "review.verdict.2026-01-01T00-00-00.000000Z.bob.abcdef"),
        ("ann", "/ajax-api", "Review.by"),
        ("eve", "/api", " review.note"),
        ("bob", "/ajax-api", "promotion.x"),
        ("admin", "/api", "review.state"),
    ],
)
def test_nobody_writes_a_tag_of_the_review(server: Team, run_id: str, prefix: str, user: str, key: str) -> None:
    value, base = json.dumps(VERDICT), f"{prefix}/2.0/mlflow"
    tags = [{"key": "harmless", "value": "1"}, {"key": key, "value": value}]
    experiment = server.call(user, "GET", f"{base}/runs/get?run_id={run_id}").json()["run"]["info"]["experiment_id"]
    for path, body in (
        ("runs/set-tag", {"run_id": run_id, "key": key, "value": value}),
        ("runs/log-batch", {"run_id": run_id, "tags": tags}),
        ("runs/delete-tag", {"run_id": run_id, "key": key}),
        ("runs/create", {"experiment_id": experiment, "tags": tags}),
        ("experiments/create", {"name": f"{user} {key} {prefix}", "tags": tags}),
        ("experiments/set-experiment-tag", {"experiment_id": experiment, "key": key, "value": value}),
        ("registered-models/create", {"name": f"{user}-{key}", "tags": tags}),
    ):
        refused(server.call(user, "POST", f"{base}/{path}", json=body), "is written by verdicts and promotions only")
    # MLflow takes neither of these from members. If it did, the rules would read them as MLflow does.
    camel = server.call(user, "POST", f"{base}/runs/log-batch", json={"runId": run_id, "tags": tags})
    assert camel.status_code in (400, 403)
    twice = json.dumps(json.dumps({"run_id": run_id, "key": key, "value": value}))  # as very old clients send it
    headers = {"Content-Type": "application/json"}
    assert server.call(user, "POST", f"{base}/runs/set-tag", data=twice, headers=headers).status_code in (400, 403)
    with server.client(user) as client:
        logged = client.get_run(run_id).data.tags
        undecided = {"review.state": "unreviewed", "review.by": "", "review.note": ""}
        assert {name: value for name, value in logged.items() if "review" in name.lower()} == undecided
        assert not client.search_experiments(filter_string=f"name = '{user} {key} {prefix}'")


def test_the_facts_of_a_finished_run_stand(server: Team, run_id: str) -> None:
    base = "/api/2.0/mlflow"
    for key in ("cifar_exp.outcome", "cifar_exp.git_dirty", "cifar_exp.warning", "cifar_exp.kind"):
        for path, body in (
            ("runs/set-tag", {"run_id": run_id, "key": key, "value": "changed"}),
            ("runs/log-batch", {"run_id": run_id, "tags": [{"key": key, "value": "changed"}]}),
        ):
            refused(server.call("ann", "POST", f"{base}/{path}", json=body), "of a finished run cannot be changed")
    refused(server.call("ann", "POST", f"{base}/runs/delete-tag", json={"run_id": run_id, "key": "cifar_exp.outcome"}))
    again = {"run_id": run_id, "key": "cifar_exp.outcome", "value": "completed"}  # what a replay after an outage sends
    assert server.call("ann", "POST", f"{base}/runs/set-tag", json=again).ok
    assert server.call("eve", "POST", f"{base}/runs/set-tag", json=again | {"key": "color", "value": "blue"}).ok


def test_a_finished_run_is_reopened_by_its_creator_only(server: Team) -> None:
    made = server.log("ann", "reopened")
    update = {"run_id": made, "status": "RUNNING"}
    refused(server.call("eve", "POST", "/api/2.0/mlflow/runs/update", json=update), "by the user who created it")
    assert server.call("ann", "POST", "/api/2.0/mlflow/runs/update", json=update).ok
    assert server.call("ann", "POST", "/api/2.0/mlflow/runs/update", json=update | {"status": "FINISHED"}).ok
    assert server.call("eve", "POST", "/api/2.0/mlflow/runs/update", json={"run_id": made, "run_name": "new"}).ok


def test_the_creator_of_a_run_is_who_has_logged_in(server: Team, run_id: str) -> None:
    with server.client("eve") as client:
        experiment_id = client.get_run(run_id).info.experiment_id
    tags = [{"key": "mlflow.user", "value": "bob"}, {"key": "a", "value": "b"}]
    body = {"experiment_id": experiment_id, "tags": tags, "user_id": "bob", "start_time": 1}
    made = server.call("eve", "POST", "/api/2.0/mlflow/runs/create", json=body)
    assert made.ok, made.text
    new = made.json()["run"]["info"]["run_id"]
    with server.client("eve") as client:
        logged = client.get_run(new)
    assert (logged.data.tags["mlflow.user"], logged.data.tags["a"], verdicts.owner(logged)) == ("eve", "b", "eve")
    damaged = body | {"tags": [{"key": 5}, *tags], "run_name": "damaged", "status": ["x"]}  # which MLflow reads in part
    made = server.call("eve", "POST", "/api/2.0/mlflow/runs/create", json=damaged)
    if made.ok:
        with server.client("eve") as client:
            assert verdicts.owner(client.get_run(made.json()["run"]["info"]["run_id"])) == "eve"
    for wrong in ("mlflow.user", ["mlflow.user"], {"key": "mlflow.user"}):
        refused(server.call("eve", "POST", "/api/2.0/mlflow/runs/create", json=body | {"tags": wrong}))
    change = {"run_id": new, "key": "mlflow.user", "value": "bob"}
    refused(server.call("eve", "POST", "/api/2.0/mlflow/runs/set-tag", json=change), "who created the run")
    refused(server.call("eve", "POST", "/api/2.0/mlflow/runs/delete-tag", json=change))


def test_the_creator_of_a_run_of_the_prompt_lab_is_known_as_well(server: Team, run_id: str) -> None:
    with server.client("eve") as client:
        experiment_id = client.get_run(run_id).info.experiment_id
    body = {"experiment_id": experiment_id, "user_id": "bob", "prompt_template": "a {{b}}", "model_route": "m"}
    body |= {"prompt_parameters": [{"key": "b", "value": "c"}], "model_input": "a c", "mlflow_version": "3"}
    path = "/ajax-api/2.0/mlflow/runs/create-promptlab-run"
    made = server.call("eve", "POST", path, json=body | {"model_output": "d"})
    assert made.ok, made.text
    with server.client("eve") as client:
        assert verdicts.owner(client.get_run(made.json()["run"]["info"]["run_id"])) == "eve"
    refused(server.call("eve", "POST", path, json=body | {"tags": [{"key": "review.state", "value": "approved"}]}))


@pytest.mark.parametrize("user", ["ann", "admin"])
def test_what_is_approved_is_not_deleted(server: Team, approved: str, user: str) -> None:
    with server.client("ann") as client:
        run = client.get_run(approved)
    model = run.outputs.model_outputs[0].model_id
    experiment, base = run.info.experiment_id, "/api/2.0/mlflow"
    files = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}"
    for method, path, body in (
        ("POST", f"{base}/runs/delete", {"run_id": approved}),
        ("POST", f"{base}/runs/update", {"run_id": approved, "status": "RUNNING"}),
        *(
            ("POST", f"{base}/experiments/delete", {"experiment_id": f"{sign}{experiment}"})
            for sign in (
                "",
                *((" ", "+", "0" * 19) if user == "admin" else ()),
            )  # grants of a member are for one spelling
        ),
        ("DELETE", f"{base}/logged-models/{model}", None),
        ("DELETE", f"{files}/{approved}/artifacts/evaluation/predictions.parquet", None),
        ("DELETE", f"{files}/{approved}/artifacts", None),
        ("DELETE", f"{files}/{approved}", None),
        ("DELETE", f"{files}/models/{model}/artifacts", None),
        ("DELETE", f"{files}/models", None),
        ("DELETE", files, None),
        ("POST", f"{base}/artifacts/presigned-upload-url", {"run_id": approved, "path": "a"}),
        (
            "POST",
            f"/api/2.0/mlflow-artifacts/mpu/create/{experiment}/{approved}/artifacts/a",
            {"path": "a", "num_parts": 1},
        ),
    ):
        # The experiment holds runs of other tests as well, which are refused for their own reasons.
        own = any(name in f"{path} {body}" for name in (approved, model))
        refused(server.call(user, method, path, json=body), "is approved" if own else "cannot be deleted")


def test_the_artifacts_of_an_approved_run_stand(server: Team, approved: str) -> None:
    with server.client("ann") as client:
        run = client.get_run(approved)
    experiment, model = run.info.experiment_id, run.outputs.model_outputs[0].model_id
    target = f"{experiment}/{approved}/artifacts/evaluation/predictions.parquet"
    for prefix in PREFIXES:
        root = f"{prefix}/2.0/mlflow-artifacts/artifacts"
        for path in (
            target,
            target.replace("evaluation", "evaluatio%6e"),
            target.replace(approved, f"%2e/{approved}"),
            f"{experiment}/models/{model}/artifacts/MLmodel",
        ):
            answer = server.call("eve", "PUT", f"{root}/{path}", data=b"forged")
            assert answer.status_code in (400, 403), (path, answer.text)
        refused(server.call("eve", "PUT", f"{root}/{target}", data=b"forged"), "is approved: it cannot be changed")
        login = {"run_uuid": approved, "path": "evaluation/predictions.parquet"}
    refused(server.call("eve", "POST", "/ajax-api/2.0/mlflow/upload-artifact", params=login, data=b"forged"))
    assert server.call("eve", "GET", f"/api/2.0/mlflow-artifacts/artifacts/{target}").content[:4] == b"PAR1"
    unknown = requests.put(f"{server.uri}/api/2.0/mlflow-artifacts/artifacts/{target}", data=b"forged", timeout=60)
    assert unknown.status_code == 401
    own = server.log("eve", "of eve")
    path = f"{experiment}/{own}/artifacts/notes.txt"
    assert server.call("eve", "PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", data=b"mine").ok


@pytest.mark.parametrize("elsewhere", [False, True], ids=["its experiment", "another experiment"])
@pytest.mark.parametrize("source", ["another run", "no run"])
def test_a_model_that_an_approved_run_names_stands_whoever_logged_it(
    server: Team, source: str, elsewhere: bool
) -> None:
    from mlflow.entities import LoggedModelOutput

    run_id, other = (server.log("ann", name, experiment="foreign") for name in ("borrower", "lender"))
    server.log("ann", "neighbour", experiment="foreign models")
    approve(server, run_id)
    with server.client("ann") as client:
        home = "foreign models" if elsewhere else "foreign"
        experiment = client.get_experiment_by_name(home).experiment_id
        model = client.create_logged_model(experiment, "model", other if source == "another run" else None).model_id
        files = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/models"
        file = f"{files}/{model}/artifacts/MLmodel"
        assert server.call("ann", "PUT", file, data=b"first").ok
        client.log_outputs(run_id, [LoggedModelOutput(model, 0)])
    for method, path in (("PUT", file), ("DELETE", files), ("DELETE", f"/api/2.0/mlflow/logged-models/{model}")):
        refused(server.call("ann", method, path, data=b"later" if method == "PUT" else None))
    approve(server, run_id)
    body = {"run_id": run_id, "model": "borrowed", "even_though": "a test"}
    answer = server.call("bob", "POST", "/api/3.0/cifar-exp/promote", json=body)
    assert answer.status_code == 409 and f"its model {model} was logged by" in answer.json()["message"]


@pytest.mark.parametrize("user", ["ann", "bob", "admin"])
def test_the_champion_moves_by_promotion_only(server: Team, champion: tuple[str, str], user: str) -> None:
    model, run = champion
    base = "/api/2.0/mlflow"
    version = {"name": model, "version": "1"}
    for method, path, body in (
        ("POST", "registered-models/alias", version | {"alias": "champion"}),
        ("POST", "registered-models/alias", version | {"alias": "other"}),
        ("DELETE", "registered-models/alias", {"name": model, "alias": "champion"}),
        ("DELETE", "registered-models/delete", {"name": model}),
        ("POST", "registered-models/rename", {"name": model, "new_name": "other"}),
        ("POST", "registered-models/set-tag", {"name": model, "key": "promotion.x", "value": "{}"}),
        ("DELETE", "registered-models/delete-tag", {"name": model, "key": "promotion.x"}),
        ("DELETE", "model-versions/delete", version),
        ("POST", "model-versions/set-tag", version | {"key": "promotion.x", "value": "{}"}),
        ("DELETE", "model-versions/delete-tag", version | {"key": "promotion.x"}),
        ("POST", "model-versions/transition-stage", version | {"stage": "Production"}),
        (
            "POST",
            "model-versions/create",
            {"name": model, "source": "x", "tags": [{"key": "promotion.x", "value": "{}"}]},
        ),
        ("POST", "runs/delete", {"run_id": run}),
    ):
        answer = server.call(user, method, f"{base}/{path}", json=body)
        assert answer.status_code == 403, (path, answer.text)
        if user == "admin":  # MLflow itself keeps members from registered models, and approvers from deleting them
            refused(answer)
    with server.client("ann") as client:
        assert str(client.get_model_version_by_alias(model, "champion").version) == "1"


def test_a_route_that_the_table_does_not_have_is_refused() -> None:
    from cifar_exp.server import routes

    assert routes.decision("POST", "/api/2.0/mlflow/runs/set-tag-again") is None
    assert routes.decision("POST", "/ajax-api/2.0/mlflow/runs/set-tag") == "run-set-tag"


def test_mlflow_goes_on_as_before(server: Team) -> None:
    with server.client("ann") as client:
        made = server.log("ann", "plain")
        client.set_tag(made, "mlflow.note.content", "a description")
        client.log_metric(made, "later", 1.0)
        client.delete_run(made)
        client.restore_run(made)
        assert client.get_run(made).data.tags["mlflow.note.content"] == "a description"
    assert server.call("ann", "GET", "/").status_code in (200, 302)
    assert requests.get(f"{server.uri}/", timeout=60).status_code == 401
    query = {"query": "{ mlflowSearchRuns(input: {experimentIds: []}) { runs { info { runId } } } }"}
    assert server.call("ann", "POST", "/graphql", json=query).ok
