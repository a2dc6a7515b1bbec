"""The pages of the team in a real browser: three people, a phone, a keyboard, and axe-core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import browsing
import pytest
import visitors
from team import PASSWORD, Team

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def jobs(server: Team) -> list[str]:
    tags = {"cifar_exp.sweep": "browsed"}
    shares = {"large-sgd": 0.8, "bn-adam": 0.9, "bn-sgd": 0.3}
    logged = [
        server.log("ann", name, right=share, tags=tags, params={"model.name": name}, experiment="browsed", seed=seed)
        for seed, (name, share) in enumerate(shares.items())
    ]
    server.log_evaluation(logged[0], "cifar10", "browsed")
    return logged


def login(name: str) -> visitors.Login:
    return name, PASSWORD


def test_three_people_make_a_champion_in_their_browsers(server: Team, browser: Browser, jobs: list[str]) -> None:
    visitors.review_and_promote(browser, server.uri, login("ann"), login("eve"), login("bob"), "bn-adam")


# No style depends on both the width and the scheme.
@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_no_page_has_a_serious_fault_of_accessibility_or_is_too_wide(
    server: Team, browser: Browser, jobs: list[str], width: int, scheme: str
) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    pages = {
        "team": "/team",
        "sweep": "/team/sweep?" + "experiment=" + experiment(server) + "&name=browsed",
        "run": f"/team/run?id={jobs[0]}",
        "compare": f"/team/compare?run={jobs[0]}&run={jobs[1]}&run={jobs[2]}",
        "history": f"/team/history?run={jobs[1]}",
    }
    with visitors.visiting(browser, server.uri, login("bob"), width, scheme) as page:
        for name, path in pages.items():
            page.goto(f"{server.uri}{path}")
            browsing.keep(page, f"server_{name}_{width}_{scheme}")
            assert visitors.violations(page) == [], name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_a_run_can_be_rejected_by_the_keyboard_alone(server: Team, browser: Browser) -> None:
    run = server.log("ann", "by keyboard", experiment="browsed")
    with visitors.visiting(browser, server.uri, login("eve")) as page:
        page.goto(f"{server.uri}/team/run?id={run}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Reject":
                break
        page.keyboard.press("Enter")
        page.get_by_text("rejected", exact=True).first.wait_for()


def experiment(server: Team) -> str:
    with server.client("ann") as client:
        return str(client.get_experiment_by_name("browsed").experiment_id)
