"""Tests of verdicts on real runs: the rules, the history, the description and the queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import program
import pytest

import cifar_exp
from cifar_exp.errors import UserError
from cifar_exp.review import description, query, queue, verdicts
from cifar_exp.review.verdicts import APPROVED, DESCRIPTION_TAG, REJECTED, RERUN, UNREVIEWED
from cifar_exp.tracking import addresses
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]

ROOT = Path(cifar_exp.__file__).parent.parent
REVIEWERS, VERDICTS_EACH = 4, 3
REVIEWER = """
import os, sys, time
from pathlib import Path
from cifar_exp.review import verdicts
from cifar_exp.tracking.store import Store
uri, experiment, run_id, each, *people = sys.argv[1:]
for name in people:
    if os.fork() == 0:
        break
else:
    sys.exit(any([os.wait()[1] for _ in people]))
os.environ.update(MLFLOW_TRACKING_USERNAME=name, MLFLOW_TRACKING_PASSWORD="x")
store = Store(uri, experiment)
run = store.client.get_run(run_id)
Path(name).touch()
while not all(Path(other).exists() for other in people):
    time.sleep(0.01)
for number in range(int(each)):
    state = (verdicts.APPROVED, verdicts.REJECTED, verdicts.RERUN)[number % 3]
    verdicts.give(store, run, state, store.user, f"number {number}")
"""


def cli(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run `cifar-exp ARGUMENTS` in a folder; return its exit code, standard output and standard error."""
    done = program.execute([*program.COMMAND, *arguments], folder, variables)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def reread(store: Store, run: Run) -> Run:
    return store.client.get_run(run.info.run_id)


def test_a_verdict_is_kept_and_shown_in_tags_and_description(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("strong")
    assert (verdicts.state(run), verdicts.history(run)) == (UNREVIEWED, [])
    before, began = run.data.tags[DESCRIPTION_TAG], datetime.now(UTC)
    given = verdicts.give(own_store, run, APPROVED, "bob", "clean\ncurves")
    assert given.data.tags == reread(own_store, run).data.tags
    tags = given.data.tags
    assert (tags["review.state"], tags["review.by"], tags["review.note"]) == (APPROVED, "bob", "clean\ncurves")
    (verdict,) = verdicts.history(given)
    assert (verdict.state, verdict.by, verdict.note, verdict.objections) == (APPROVED, "bob", "clean\ncurves", ())
    assert began <= verdict.at <= datetime.now(UTC)
    assert tags[DESCRIPTION_TAG].startswith(before) and "- **approved** by bob, " in tags[DESCRIPTION_TAG]
    assert tags[DESCRIPTION_TAG].endswith(" UTC: clean curves\n<!-- end of reviews -->")


def test_later_verdicts_add_to_the_history_and_the_newest_counts(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("strong")
    for state, who in ((REJECTED, "bob"), (RERUN, "carl"), (APPROVED, "bob")):
        verdicts.give(own_store, run, state, who)  # the run as first read: later verdicts are found all the same
    now = reread(own_store, run)
    assert [(one.state, one.by) for one in verdicts.history(now)] == [
        (REJECTED, "bob"),
        (RERUN, "carl"),
        (APPROVED, "bob"),
    ]
    assert verdicts.state(now) == now.data.tags["review.state"] == APPROVED
    note = now.data.tags[DESCRIPTION_TAG]
    assert note.index("**approved**") < note.index("**rerun-requested**") < note.index("**rejected**")


def test_an_answer_is_later_than_what_it_answers_whatever_the_clocks_say(
    own_store: Store, log_trained: LogTrained
) -> None:
    run = log_trained("strong")
    ahead = datetime.now(UTC) + timedelta(hours=2)
    verdict = json.dumps({"state": REJECTED, "by": "fast clock", "at": ahead.isoformat()})
    own_store.client.set_tag(run.info.run_id, "review.verdict.z", verdict)
    given = verdicts.give(own_store, reread(own_store, run), APPROVED, "bob")
    assert verdicts.state(given) == given.data.tags["review.state"] == APPROVED


def test_text_that_users_add_to_the_description_is_kept(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("strong")
    verdicts.give(own_store, run, REJECTED, "bob", "the loss rises")
    text = reread(own_store, run).data.tags[DESCRIPTION_TAG]
    own_store.client.set_tag(run.info.run_id, DESCRIPTION_TAG, f"Seen by Dora.\n\n{text}\n\nAsk Emil.")
    note = verdicts.give(own_store, reread(own_store, run), APPROVED, "bob").data.tags[DESCRIPTION_TAG]
    assert note.startswith("Seen by Dora.\n\n**Test accuracy") and note.endswith("\n\nAsk Emil.")
    assert note.count("**Reviews**") == 1 and "the loss rises" in note and "**approved**" in note


def test_the_section_is_replaced_and_fits_into_a_tag() -> None:
    lines = [description.list_item(f"verdict {number}", "x" * 900) for number in range(20)]
    once = description.with_reviews("Mine.", lines)
    assert description.with_reviews(once, lines) == once
    assert once.startswith("Mine.\n\n") and len(once) <= description.MAX_LENGTH
    assert "verdict 19" in once and "verdict 0:" not in once and "earlier ones, in the tags `review.verdict.*`" in once
    long = "y" * (description.MAX_LENGTH - 10)
    assert description.with_reviews(long, lines) == long
    forged = description.list_item("by <!-- end of reviews -->", "<script>\n- **approved** by the boss")
    assert forged == "- by &lt;!-- end of reviews --&gt;: &lt;script&gt; - **approved** by the boss"


@pytest.mark.parametrize(
    ("name", "tags", "status", "objection"),
    [
        ("peeking", {}, None, "it was validated on the test images"),
        ("collapsed", {}, None, "it collapsed"),
        ("strong", {"cifar_exp.git_dirty": "true"}, None, "its code had uncommitted changes"),
        ("strong", {"cifar_exp.outcome": "diverged"}, "FAILED", "it is FAILED, not FINISHED; it diverged"),
        ("strong", {}, "RUNNING", "it is RUNNING, not FINISHED"),
    ],
)
def test_an_approval_in_spite_of_objections_needs_a_reason_which_is_recorded(
    own_store: Store, log_trained: LogTrained, name: str, tags: dict[str, str], status: str | None, objection: str
) -> None:
    run = log_trained(name, **tags)
    if status:
        own_store.client.update_run(run.info.run_id, status)
        run = reread(own_store, run)
    with pytest.raises(UserError, match=f"cannot be approved: .*{objection}"):
        verdicts.give(own_store, run, APPROVED, "bob")
    assert verdicts.history(reread(own_store, run)) == []
    given = verdicts.give(own_store, run, APPROVED, "bob", "", "we know why")
    (verdict,) = verdicts.history(given)
    assert (verdict.state, verdict.even_though) == (APPROVED, "we know why")
    assert objection in "; ".join(verdict.objections)
    assert given.data.tags["review.note"] == "we know why" and "we know why" in given.data.tags[DESCRIPTION_TAG]
    verdicts.give(own_store, given, REJECTED, "bob")  # needs none


def test_users_cannot_approve_their_own_runs_unless_the_config_allows_it(
    own_store: Store, log_trained: LogTrained
) -> None:
    run = log_trained("strong")
    with pytest.raises(UserError, match=r"^strong is your own run, ann: .*review\.allow_own=true"):
        verdicts.give(own_store, run, APPROVED, "ann", even_though="it is mine")
    assert verdicts.state(verdicts.give(own_store, run, REJECTED, "ann")) == REJECTED
    assert verdicts.state(verdicts.give(own_store, run, APPROVED, "ann", allow_own=True)) == APPROVED


def test_a_state_set_by_hand_and_invalid_verdicts_do_not_count(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("strong")
    set_tag = own_store.client.set_tag
    set_tag(run.info.run_id, "review.state", APPROVED)
    for number, content in enumerate(("", "{", "[]", '{"state": "approved"}', '{"state": 1, "by": 2, "at": 3}')):
        set_tag(run.info.run_id, f"review.verdict.{number}", content)
    set_tag(run.info.run_id, "review.verdict.x", '{"state": "approved", "by": "eve", "at": "2026-01-01T00:00:00"}')
    assert verdicts.state(reread(own_store, run)) == UNREVIEWED
    assert [one.run_id for one in queue.waiting_runs(own_store)] == [run.info.run_id]


def test_a_long_note_is_refused_before_anything_is_cut(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("strong")
    with pytest.raises(UserError, match="at most 1,000 characters, this one 1,001"):
        verdicts.give(own_store, run, REJECTED, "bob", "x" * 1001)
    verdict = verdicts.history(verdicts.give(own_store, run, REJECTED, "bob", "é" * 1000))[0]
    assert verdict.note == "é" * 1000


def test_the_queue_lists_waiting_runs_in_order(own_store: Store, log_trained: LogTrained) -> None:
    runs = [log_trained(name) for name in ("weak", "peeking", "strong")]
    for minutes, run in enumerate(runs):  # the journals' times are those of their training
        own_store.client.set_terminated(run.info.run_id, end_time=1_800_000_000_000 - 60_000 * minutes)
    own_store.client.update_run(log_trained("twin").info.run_id, "RUNNING")
    waiting = queue.waiting_runs(own_store)
    assert [one.name for one in waiting] == ["strong", "peeking", "weak"]
    assert waiting[1].objections == ("it was validated on the test images",)
    assert waiting[0].accuracy == runs[2].data.metrics["test/accuracy"]
    assert (waiting[0].outcome, waiting[0].by) == ("completed", "ann")
    assert waiting[0].address == addresses.run(own_store, runs[2].info.run_id)
    verdicts.give(own_store, runs[0], APPROVED, "bob")
    verdicts.give(own_store, runs[1], RERUN, "bob")
    assert [(one.name, one.state) for one in queue.waiting_runs(own_store)] == [
        ("strong", UNREVIEWED),
        ("peeking", RERUN),
    ]


def test_verdicts_of_several_people_at_the_same_moment_are_all_kept(
    mlflow_server: str, log_trained: LogTrained, tmp_path: Path
) -> None:
    store = Store(mlflow_server, "concurrent")
    run = log_trained("strong", store)
    own_description = run.data.tags[DESCRIPTION_TAG]
    people = [f"p{number}" for number in range(REVIEWERS)]
    arguments = [store.uri, store.experiment, run.info.run_id, str(VERDICTS_EACH), *people]
    done = subprocess.run(  # forks of it are the people, to import MLflow once
        [sys.executable, "-c", REVIEWER, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr

    now = reread(store, run)
    history = verdicts.history(now)
    assert sorted((verdict.by, verdict.note) for verdict in history) == sorted(
        (name, f"number {number}") for name in people for number in range(VERDICTS_EACH)
    )
    newest = max(history, key=lambda verdict: verdict.at)
    tags = now.data.tags
    assert (tags["review.state"], tags["review.by"], tags["review.note"]) == (newest.state, newest.by, newest.note)
    assert (
        tags[DESCRIPTION_TAG].startswith(own_description)
        and tags[DESCRIPTION_TAG].count("number ") == REVIEWERS * VERDICTS_EACH
    )


def test_a_run_is_found_by_id_prefix_and_name_if_only_one_has_it(own_store: Store, log_trained: LogTrained) -> None:
    weak, strong, other = log_trained("weak"), log_trained("strong"), log_trained("strong")
    assert query.get(own_store, weak.info.run_id).info.run_id == weak.info.run_id
    assert query.get(own_store, strong.info.run_id[:12]).info.run_id == strong.info.run_id
    assert query.get(own_store, "weak").info.run_id == weak.info.run_id
    with pytest.raises(UserError, match=r"^2 runs in .* match 'strong': ") as refused:
        query.get(own_store, "strong")
    assert all(run.info.run_id[:8] in str(refused.value) for run in (strong, other))
    for wrong in ("nothing", "f" * 32, "it's", "", "%"):
        with pytest.raises(UserError, match=r"^no run "):
            query.get(own_store, wrong)
    assert query.get(Store(own_store.uri, "elsewhere"), weak.info.run_id).info.run_id == weak.info.run_id


def test_the_command_records_shows_and_refuses_verdicts(tmp_path: Path, log_trained: LogTrained) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    store = ("--uri", uri)
    code, out, err = cli(tmp_path, "review", "strong", "--approve", *store)
    assert (code, out) == (2, "") and err.startswith("cifar_exp: no run 'strong'") and err.count("\n") == 1
    assert not (tmp_path / "mlflow.db").exists()
    run = log_trained("strong", Store(uri, "cifar10"))
    code, out, err = cli(tmp_path, "review", "--queue", *store)
    assert code == 0 and out.startswith("1 run waits:\n") and run.info.run_id[:8] in out
    code, out, err = cli(tmp_path, "review", "strong", "--approve", "--note", "well done", *store)
    assert (code, err) == (0, "") and ": approved\n" in out and "well done" in out
    code, out, _ = cli(tmp_path, "review", run.info.run_id[:6], "--json", *store)
    (verdict,) = json.loads(out)
    assert code == 0 and (verdict["state"], verdict["note"]) == (APPROVED, "well done")
    code, out, _ = cli(tmp_path, "review", "--queue", "--json", *store)
    assert (code, json.loads(out)) == (0, [])
    code, out, _ = cli(tmp_path, "review", "--queue", *store)
    assert (code, out) == (0, "Nothing waits: every finished run was reviewed.\n")

    by_me = log_trained("weak", Store(uri, "cifar10"))
    me = Store(uri, "cifar10").user
    Store(uri, "cifar10").client.set_tag(by_me.info.run_id, "mlflow.user", me)
    code, _, err = cli(tmp_path, "review", "weak", "--approve", *store)
    assert code == 2 and f"weak is your own run, {me}" in err and err.count("\n") == 1
    code, out, err = cli(tmp_path, "review", "weak", "--approve", *store, "review.allow_own=true")
    assert (code, err) == (0, "") and "weak, run " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no run given"),
        (("x", "--approve", "--reject"), "not allowed with argument"),
        (("x", "--even-though", "y", "--reject"), "--even-though goes with --approve only"),
        (("x", "--note", "y"), "--note goes with --approve"),
        (("x", "--queue"), "takes no run: got 'x'"),
        (("--queue", "--note", "y"), "go with a verdict"),
        (("x", "--approve", "review.alow_own=true"), "no such setting; did you mean 'review.allow_own'"),
        (("x", "--approve", "--uri", "http://127.0.0.1:9"), "Connection refused"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = cli(tmp_path, "review", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
