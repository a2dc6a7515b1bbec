"""Tests of the server in a browser: the runs of a sweep, their curves and pictures, and their comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import browsing
import checks
import pytest
from checks import Sweep
from stack import Stack, User

from cifar_exp.tracking import addresses
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CURVE = ".scatterlayer .trace .lines > path"  # a curve in a Plotly chart
WIDTH = 1700  # pixels


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: Stack, ann: User) -> Iterator[Page]:
    """Page of a browser in which ann has logged in; at the end, all requests must have gone to the server."""
    login = {"username": ann.name, "password": ann.password}
    context = browser.new_context(viewport={"width": WIDTH, "height": 1000}, http_credentials=login)
    context.set_default_timeout(browsing.TIMEOUT)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert all(url.startswith((server.url, "blob:", "data:")) for url in asked), asked


@pytest.fixture
def store(server: Stack, sweep: Sweep) -> Store:
    """Store of the program, for the web addresses that it prints."""
    return Store(server.url, "cifar10")


def show(page: Page, address: str) -> None:
    """Open a page and close the assistant that MLflow opens beside it."""
    page.goto(address)
    page.get_by_text("MLflow Assistant").first.wait_for()
    box = page.get_by_text("Beta", exact=True).first.bounding_box()
    assert box is not None
    page.mouse.click(WIDTH - 40, box["y"] + box["height"] / 2)  # its close button has no name


def in_table(page: Page, name: str) -> Locator:
    """The link to a run in the table of runs; the description of the experiment may have another."""
    return page.locator("[id^='cell-']").get_by_role("link", name=name, exact=True)


def keep(page: Page, name: str) -> None:
    """Save a screenshot for review by eye."""
    browsing.SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1_000)  # animations
    page.screenshot(path=browsing.SCREENSHOTS / f"{name}.png")


def test_nothing_is_shown_without_a_login(browser: Browser, server: Stack) -> None:
    page = browser.new_page()
    with pytest.raises(Exception, match="ERR_INVALID_AUTH_CREDENTIALS"):
        page.goto(server.url)
    page.close()


def test_the_runs_are_listed_with_the_chosen_columns(page: Page, store: Store, sweep: Sweep) -> None:
    order = "orderByKey=metrics.%60test%2Faccuracy%60&orderByAsc=false"  # which lists the jobs beside their sweep
    show(page, f"{store.uri}/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning&{order}")
    page.get_by_text("5 matching runs").wait_for()
    columns = ("test/accuracy", "val/best_accuracy", "model.name", "optimizer.name")
    page.get_by_role("button", name="Columns", exact=True).click()
    for column in columns:
        page.get_by_placeholder("Search columns").fill(column)
        page.get_by_test_id("column-selector-tree").locator("[class$='tree-checkbox']").first.click()
    page.keyboard.press("Escape")
    for column in columns:
        page.get_by_role("columnheader", name=column).first.wait_for()
    for name, run in sweep.children.items():
        in_table(page, name).wait_for()
        page.get_by_role("gridcell", name=f"{run.data.metrics['test/accuracy']:.3f}"[:4]).first.wait_for()
    keep(page, "runs")


def test_the_address_of_a_sweep_shows_its_runs_and_their_curves(page: Page, store: Store, sweep: Sweep) -> None:
    show(page, addresses.sweep(store, sweep.parent.info.run_id))
    for name in checks.NAMES:
        in_table(page, name).wait_for()
    page.get_by_text("4 matching runs").wait_for()
    page.get_by_placeholder("Search metric charts").fill("^(train|val)/(loss|accuracy)$")
    page.locator(CURVE).nth(15).wait_for()  # four charts of four runs
    keep(page, "sweep")


def test_a_run_shows_its_result_and_draws_its_curves(page: Page, store: Store, sweep: Sweep) -> None:
    run = sweep.children["bn-sgd"]
    show(page, addresses.run(store, run.info.run_id))
    page.get_by_text(f"{run.data.metrics['test/accuracy']:.4f}").first.wait_for()
    page.get_by_text(run.data.tags["cifar_exp.fingerprint"]).first.wait_for()
    keep(page, "run")
    page.get_by_role("tab", name="Model metrics").click()
    page.get_by_placeholder("Search metric charts").fill("^(train|val)/(loss|accuracy)$")
    page.locator(CURVE).nth(3).wait_for()
    keep(page, "charts")


@pytest.mark.parametrize("picture", ["confusion_matrix", "curves"])
def test_a_run_shows_its_pictures(page: Page, store: Store, sweep: Sweep, picture: str) -> None:
    run = sweep.children["bn-sgd"]
    show(page, f"{addresses.run(store, run.info.run_id).partition('?')[0]}/artifacts/figures/{picture}.png")
    shown = page.locator("img[src^='blob:']").first
    shown.wait_for()
    page.wait_for_function("document.querySelector(\"img[src^='blob:']\").naturalWidth > 500")
    keep(page, picture)


def test_the_sweep_shows_its_report(page: Page, store: Store, sweep: Sweep) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    address = addresses.run(store, sweep.parent.info.run_id).partition("?")[0]
    show(page, f"{address}/artifacts/sweep/report.html")
    report = page.frame_locator("iframe").first
    report.locator("#curves .chart").nth(3).locator(CURVE).nth(3).wait_for(state="attached")
    for name in checks.NAMES:
        report.locator("#runs").get_by_text(name, exact=True).wait_for()
    best = max(sweep.children.values(), key=lambda run: run.data.metrics["test/accuracy"])
    report.locator("#runs").get_by_text(f"{best.data.metrics['test/accuracy']:.4f}").first.wait_for()
    report.get_by_role("link", name="Compare two runs").click()
    report.locator("#words").get_by_text("than chance would make it").wait_for()
    report.locator(".pictures img").first.wait_for()
    assert not [line for line in complaints if "Content Security Policy" in line or "report" in line], complaints
    keep(page, "report")


def test_compare_shows_parameters_and_curves_side_by_side(
    page: Page, server: Stack, store: Store, sweep: Sweep
) -> None:
    show(page, addresses.compare(store, [run.info.run_id for run in sweep.children.values()]))
    page.get_by_text("Comparing 4 Runs from 1 Experiment").wait_for()
    for column, parameter in enumerate(("model.name", "optimizer.name")):
        row = page.get_by_role("row").filter(has=page.get_by_text(parameter, exact=True)).first
        row.wait_for()
        assert row.locator("td").all_inner_texts()[-4:] == [name.split("-")[column] for name in sweep.children]
    keep(page, "compare")
    link = page.get_by_role("link", name="test/accuracy", exact=True).get_attribute("href")
    assert link is not None
    show(page, f"{server.url}/{link}".replace("test%2Faccuracy", "val%2Faccuracy"))  # which is further down the list
    page.locator(CURVE).nth(3).wait_for()
    for name in checks.NAMES:
        page.get_by_text(name, exact=True).first.wait_for()
    keep(page, "compare_curves")
