"""The team's page of the real server: a sweep becomes a champion in three people's browsers, without a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import browsing
import pytest
import visitors
from checks import Sweep
from stack import Stack, User

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.chromium() as started:
        yield started


def test_the_address_that_a_sweep_prints_opens_its_page(
    server: Stack, ann: User, sweep: Sweep, browser: Browser
) -> None:
    address = re.findall(r"^Open:  (\S+)$", sweep.done.stdout, re.M)[-1]
    assert address.startswith(f"{server.url}/team/sweep?")
    with visitors.visiting(browser, server.url, ann.login) as page:
        page.goto(address)
        for name in sweep.children:
            page.get_by_role("rowheader", name=name).wait_for()
        browsing.keep(page, "stack_team_sweep")


def test_three_people_make_a_champion_in_their_browsers(
    server: Stack, ann: User, sweep: Sweep, browser: Browser
) -> None:
    reviewer, approver = server.add("rita_reviews"), server.add("paul_approves")
    server.make("user", f"NAME={approver.name}", "DO=approver")
    visitors.review_and_promote(browser, server.url, ann.login, reviewer.login, approver.login, "large-adam")
    with server.client(ann) as client:
        champion = client.get_model_version_by_alias("winner", "champion")
    assert champion.run_id == sweep.children["large-adam"].info.run_id


def test_the_page_of_a_trained_run_has_its_mistakes_as_images(
    server: Stack, ann: User, sweep: Sweep, browser: Browser
) -> None:
    run_id = sweep.children["bn-adam"].info.run_id
    with visitors.visiting(browser, server.url, ann.login) as page:
        page.goto(f"{server.url}/team/run?id={run_id}")
        page.get_by_role("img", name="Test images that the model is most sure of").wait_for()
        for picture in page.locator("img").all():
            picture.scroll_into_view_if_needed()  # it is loaded once it is in view
            page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
        browsing.keep(page, "stack_team_run")
        assert visitors.violations(page) == []
    experiment = sweep.children["bn-adam"].info.experiment_id
    with server.client(ann) as client:
        note = client.get_experiment(experiment).tags["mlflow.note.content"]
    assert "**Best run by its validation images: [" in note
