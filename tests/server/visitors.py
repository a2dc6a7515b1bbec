"""Members of a team in their browsers: from a finished run to a champion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import browsing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Login = tuple[str, str]  # name and password


@contextmanager
def visiting(browser: Browser, uri: str, login: Login, width: int = 1280, scheme: Any = "light") -> Iterator[Page]:
    """Open /team as a user; at the end, the page must have reported no error and asked no other host."""
    credentials = {"username": login[0], "password": login[1]}
    with browsing.opened(browser, width, scheme, http_credentials=credentials) as (page, recorded):
        page.goto(f"{uri}/team")
        yield page
        assert recorded.errors == [], recorded.errors
        assert [address for address in recorded.requests if not address.startswith(uri)] == []


def violations(page: Page) -> list[str]:
    """Serious findings of axe-core about a page's accessibility."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


def review_and_promote(browser: Browser, uri: str, member: Login, reviewer: Login, approver: Login, run: str) -> None:
    """A member asks for a review of their run, the reviewer approves it, and the approver promotes it."""
    with visiting(browser, uri, member) as page:
        page.get_by_role("link", name=run, exact=True).first.click()
        assert page.get_by_role("button", name="Approve").count() == 0  # it is their own
        page.get_by_label("Reviewer").fill(reviewer[0])
        page.get_by_role("button", name="Ask for a review").click()
        page.get_by_text(f"Asked for a review: {reviewer[0]}").wait_for()

    with visiting(browser, uri, reviewer) as page:
        asked = page.get_by_role("listitem").filter(has_text="you were asked")
        asked.get_by_role("link", name=run, exact=True).click()
        page.get_by_label("Note", exact=True).first.fill("Looks **right**")
        reason = page.get_by_label(re.compile("^Reason to approve"))
        if reason.count():  # such as uncommitted changes
            reason.fill("the changes are known")
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("approved", exact=True).first.wait_for()
        page.go_back()
        page.goto(f"{uri}/team")
        assert page.get_by_role("listitem").filter(has_text="you were asked").count() == 0

    with visiting(browser, uri, approver) as page:
        page.get_by_role("link", name=run, exact=True).first.click()
        page.get_by_label("Model").fill("winner")
        page.get_by_role("button", name="Promote").click()
        page.goto(f"{uri}/team")
        champions = page.get_by_role("region", name="Champions")
        champions.get_by_role("link", name="winner@champion").click()
        page.get_by_role("cell", name="promoted").first.wait_for()
