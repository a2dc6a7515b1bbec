"""Tests of review and promotion by several people on the team's server, with cifar-exp and with MLflow's client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import program
import pytest
from checks import Sweep
from mlflow.exceptions import MlflowException
from stack import Stack, User

from cifar_exp.review import verdicts

MODEL = "cifar10"
PEOPLE, EACH = 4, 2


@pytest.fixture(scope="module")
def bob(server: Stack) -> User:
    """A member who approves."""
    user = server.add("bob_approves")
    assert server.make("user", f"NAME={user.name}", "DO=approver").stdout.strip() == f"{user.name} may promote models"
    return user


@pytest.fixture(scope="module")
def eve(server: Stack) -> User:
    """A member who is not an approver."""
    return server.add("eve_member")


def cli(server: Stack, user: User, folder: Path, *arguments: str) -> program.Done:
    return program.execute([sys.executable, "-m", "cifar_exp.cli", *arguments], folder, server.environment(user))


def test_two_people_review_and_promote_a_run(
    server: Stack, sweep: Sweep, ann: User, bob: User, eve: User, tmp_path: Path
) -> None:
    run_id = sweep.children["bn-adam"].info.run_id
    queue = cli(server, bob, tmp_path, "review", "--queue")
    assert queue.returncode == 0 and run_id[:8] in queue.stdout and f"by {ann.name}" in queue.stdout
    own = cli(server, ann, tmp_path, "review", run_id, "--approve", "--even-though", "mine")
    assert own.returncode == 2 and f"is your own run, {ann.name}" in own.stderr and own.stderr.count("\n") == 1
    early = cli(server, bob, tmp_path, "promote", run_id)
    assert early.returncode == 2 and "it is unreviewed, not approved" in early.stderr
    approved = cli(server, bob, tmp_path, "review", run_id, "--approve", "--note", "ok", "--even-though", "a test")
    assert (approved.returncode, approved.stderr) == (0, "")
    with server.client(bob) as client:
        tags = client.get_run(run_id).data.tags
    assert (tags["review.state"], tags["review.by"]) == ("approved", bob.name)
    assert f"- **approved** by {bob.name}, " in tags["mlflow.note.content"]
    done = cli(server, bob, tmp_path, "promote", run_id)
    assert (done.returncode, done.stderr) == (0, "")
    shown = cli(server, eve, tmp_path, "champion")
    assert shown.returncode == 0 and "bn-adam" in shown.stdout and "champion now, " in shown.stdout

    other = sweep.children["large-sgd"].info.run_id
    refused = cli(server, eve, tmp_path, "promote", other, "--even-though", "mine is nicer")
    assert refused.returncode == 2 and f"user '{eve.name}' may not promote models" in refused.stderr
    second = cli(server, bob, tmp_path, "promote", run_id, "--alias", "second")
    assert (second.returncode, second.stderr) == (0, "")
    trail = cli(server, bob, tmp_path, "audit")
    assert trail.returncode == 0 and trail.stdout.startswith("The audit trail is whole: ")


def test_nobody_moves_an_alias_with_mlflows_client(server: Stack, bob: User, eve: User) -> None:
    for user in (bob, eve):
        with server.client(user) as client:
            for forbidden in (
                lambda client=client: client.set_registered_model_alias(MODEL, "champion", "1"),
                lambda client=client: client.delete_registered_model_alias(MODEL, "champion"),
                lambda client=client: client.set_model_version_tag(MODEL, "1", "promotion.x", "{}"),
                lambda client=client: client.delete_registered_model(MODEL),
            ):
                with pytest.raises(MlflowException) as refused:
                    forbidden()
                assert refused.value.get_http_status_code() == 403
            assert str(client.get_model_version_by_alias(MODEL, "champion").version) == "1"


def test_verdicts_at_the_same_moment_are_all_kept(server: Stack, sweep: Sweep, bob: User, tmp_path: Path) -> None:
    run_id = sweep.children["bn-sgd"].info.run_id
    people = [bob, *(server.add(f"reviewer{number}") for number in range(1, PEOPLE))]
    command = [sys.executable, "-m", "cifar_exp.cli", "review", run_id, "--reject", "--note"]
    for round_ in range(EACH):
        processes = [
            subprocess.Popen(
                [*command, f"{user.name}: {round_}"],
                cwd=tmp_path,
                env=program.environment(**server.environment(user)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for user in people
        ]
        for process in processes:
            _, errors = process.communicate(timeout=program.TIMEOUT)
            assert (process.returncode, errors) == (0, "")
    with server.client(bob) as client:
        run = client.get_run(run_id)
    history = verdicts.history(run)
    expected = {(user.name, f"{user.name}: {round_}") for user in people for round_ in range(EACH)}
    assert len(history) == len(expected) and {(one.by, one.note) for one in history} == expected
    tags = run.data.tags
    assert (tags["review.by"], tags["review.note"]) == (history[-1].by, history[-1].note)
    assert all(one.note in tags["mlflow.note.content"] for one in history)
