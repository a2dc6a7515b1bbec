"""Tests of the report page: it shows the logged values, loads nothing, and runs only its own scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browsing
import numpy as np
import program
import pytest
from browsing import opened
from sklearn.metrics import confusion_matrix
from twelve import NAME, Twelve

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.review import charts, paired, query, report, report_pairs, run_predictions, run_record, run_results
from cifar_exp.review.run_record import RunRecord
from cifar_exp.tracking import addresses
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">&amp;%{x}${y}"
CURVE = ".scatterlayer .trace .lines > path"  # a curve drawn by Plotly


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page_file(twelve: Twelve, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report page on the twelve runs, read from their store."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    runs = query.select(twelve.store)
    path.write_text(report.from_store(twelve.store, runs, "Twelve runs"), encoding="utf-8")
    return path


def content(page: str) -> dict[str, Any]:
    """Data embedded in a page."""
    (embedded,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    data: dict[str, Any] = json.loads(embedded)
    return data


def wait_until_drawn(page: Page) -> None:
    page.locator("#curves .chart").nth(3).locator(CURVE).nth(11).wait_for(state="attached")
    page.locator("#matrix-difference .hm image, #matrix-difference .heatmaplayer image").first.wait_for(
        state="attached"
    )


def test_curves_and_matrices_are_what_was_logged(twelve: Twelve, page_file: Path) -> None:
    drawn = content(page_file.read_text())
    runs = query.select(twelve.store)
    for metric in ("val/loss", "val/accuracy", "train/loss", "train/accuracy"):
        for trace, run in zip(drawn["charts"]["curves"][metric]["data"], runs, strict=True):
            points = program.points(twelve.store.client, run.info.run_id, metric)
            assert dict(zip(trace["x"], trace["y"], strict=True)) == points
    for shown, run in zip(drawn["pairs"]["runs"], runs, strict=True):
        path = program.artifact(
            twelve.store.client, run.info.run_id, "evaluation/confusion_matrix.json", twelve.folder / "got"
        )
        assert shown["matrix"] == json.loads(path.read_text())["matrix"]
        assert shown["accuracy"] == pytest.approx(run.data.metrics["test/accuracy"])


def test_pairs_list_the_images_that_only_one_run_classifies_correctly(twelve: Twelve, page_file: Path) -> None:
    drawn = content(page_file.read_text())["pairs"]
    runs = query.select(twelve.store)
    assert len(drawn["pairs"]) == 12 * 11 // 2
    predicted = [run_predictions.read(twelve.store, run) for run in runs]
    labels = predicted[0]["label"].to_numpy()
    names = [run["name"] for run in drawn["runs"]]
    positions = [tuple(map(int, key.split(","))) for key in drawn["pairs"]]
    tests = [
        paired.compare(run_predictions.correct(predicted[a]), run_predictions.correct(predicted[b]), names[a], names[b])
        for a, b in positions
    ]
    words = [test.words for test in paired.corrected(tests)]
    assert words == [pair["words"][0] for pair in drawn["pairs"].values()] and "for 66 pairs (Holm)" in words[0]
    for (a, b), pair in zip(positions, drawn["pairs"].values(), strict=True):
        right = [(predicted[one]["predicted"] == predicted[one]["label"]).to_numpy() for one in (a, b)]
        assert pair["only_a"] == np.sum(right[0] & ~right[1])
        for side, (own, other) in zip("ab", ((0, 1), (1, 0)), strict=True):
            alone = np.flatnonzero(right[own] & ~right[other])
            assert set(pair[side]) <= set(alone) and len(pair[side]) == min(6, len(alone))
    images = datasets.load(DataConfig(name="digits")).test.images
    for index, address in drawn["images"].items():
        import base64
        import io

        from PIL import Image

        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
        assert np.array_equal(decoded, images[int(index)])
        assert drawn["labels"][index] == labels[int(index)]


def test_the_matrix_of_a_run_is_sklearn_s() -> None:
    import pandas as pd

    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=500).astype(np.float32)
    labels, predicted = generator.integers(0, 4, 500), probabilities.argmax(axis=1)
    frame = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in "abcd"])
    frame = frame.assign(index=range(500), label=labels, predicted=predicted)
    data = report_pairs.pairwise(["x", "y"], [run_results.RunResults({}, frame)] * 2, None)
    assert data["classes"] == list("abcd") and data["images"] == {}
    assert data["runs"][0]["matrix"] == confusion_matrix(labels, predicted, labels=range(4)).tolist()
    assert data["pairs"]["0,1"]["words"][0] == "y and x classify the same images correctly (500 images)."


# No style depends on both the width and the scheme.
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_loads_nothing_and_fits_the_window(browser: Browser, page_file: Path, width: int, scheme: str) -> None:
    with opened(browser, width, scheme) as (page, recorded):
        page.goto(page_file.as_uri())
        wait_until_drawn(page)
        assert [url for url in recorded.requests if not url.startswith("data:")] == [page_file.as_uri()]
        assert recorded.errors == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        for chart in page.locator(".chart").all():  # drawn, and no wider than the page or what scrolls it
            box, around = chart.locator("svg").first.bounding_box(), chart.locator("xpath=..").bounding_box()
            assert box and around and around["width"] <= width
            assert box["height"] > 200
        assert page.locator(".pictures img").count() > 0
        assert page.evaluate("[...document.images].every((one) => one.naturalWidth === 32)")
        browsing.keep(page, f"report_{width}_{scheme}")


def test_the_page_reacts_to_selections(browser: Browser, page_file: Path) -> None:
    drawn = content(page_file.read_text())["pairs"]
    with opened(browser, 1280) as (page, recorded):
        page.goto(page_file.as_uri())
        wait_until_drawn(page)
        assert page.locator("#words").inner_text() == drawn["pairs"]["0,1"]["words"][1]
        page.locator("#a").select_option("3")
        page.locator("#b").select_option("11")
        assert page.locator("#words").inner_text() == drawn["pairs"]["3,11"]["words"][0]
        assert page.locator("#only-b img").count() == len(drawn["pairs"]["3,11"]["b"])
        page.locator("#a").select_option("11")
        assert page.locator("#words").inner_text() == "Choose two different runs."
        curves = page.locator("#curves .chart").first.locator(CURVE)
        page.locator("#legend button").first.click()
        page.wait_for_function("document.querySelector('#legend button').getAttribute('aria-pressed') === 'false'")
        assert curves.count() == 11
        names = page.locator("#runs tbody th")
        best = names.first.inner_text()
        heading = page.locator("#runs thead button", has_text="test\naccuracy")
        heading.click()
        heading.click()
        assert names.last.inner_text() == best
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("getComputedStyle(document.body).backgroundColor !== 'rgb(255, 255, 255)'")
        assert recorded.errors == []


def test_in_the_artifact_viewer_of_mlflow_it_is_the_same_page(
    browser: Browser, page_file: Path, mlflow_server: str
) -> None:
    store = Store(mlflow_server, "report")
    client = store.client
    run = client.create_run(store.experiment_id, run_name="sweep")
    client.log_artifact(run.info.run_id, str(page_file), "sweep")
    address = f"{addresses.run(store, run.info.run_id).partition('?')[0]}/artifacts/sweep/report.html"
    with opened(browser, 1500) as (page, recorded):
        page.goto(address)
        frame = page.frame_locator("iframe").first
        frame.locator("#curves .chart").nth(3).locator(CURVE).nth(11).wait_for(state="attached")
        frame.get_by_role("heading", name="Twelve runs").wait_for()
        assert frame.locator("#words").inner_text().startswith("one_conv")
        frame.get_by_role("link", name="Classes").click()
        page.wait_for_timeout(1_000)
        box = frame.get_by_role("heading", name="F1 of each class").bounding_box()
        assert box and 0 <= box["y"] < 900
        assert all(url.startswith((mlflow_server, "blob:", "data:", "about:")) for url in recorded.requests), (
            recorded.requests
        )
        assert not [error for error in recorded.errors if "report" in error or "Content Security Policy" in error]
        browsing.keep(page, "report_in_mlflow")


def hostile(twelve: Twelve) -> tuple[list[RunRecord], list[run_results.RunResults]]:
    """Some runs whose names, settings and tags contain scripts."""
    runs = query.select(twelve.store)[:4]
    records = [
        replace(
            run_record.from_run(run),
            name=f"{HOSTILE}{at}",
            params={**run.data.params, "model.name": f"{HOSTILE}{at % 2}"},
            tags={**run.data.tags, "cifar_exp.overrides": HOSTILE, "cifar_exp.device": HOSTILE + str(at)},
        )
        for at, run in enumerate(runs)
    ]
    return records, [run_results.from_run(twelve.store, run) for run in runs]


def test_scripts_in_logged_text_are_shown_and_not_run(twelve: Twelve, browser: Browser, tmp_path: Path) -> None:
    records, results = hostile(twelve)
    path = tmp_path / "hostile.html"
    path.write_text(report._render(HOSTILE, records, range(4), results, HOSTILE, {}), encoding="utf-8")
    with opened(browser, 1280) as (page, recorded):
        page.goto(path.as_uri())
        page.locator("#curves .chart").nth(3).locator(CURVE).nth(3).wait_for(state="attached")
        page.locator("#costs .chart").first.hover()
        assert page.title() == HOSTILE
        assert page.locator("h1").inner_text() == HOSTILE
        assert page.locator("#legend button").first.inner_text() == f"{HOSTILE}0"
        assert f"{HOSTILE}0" in page.locator("#costs .legendtext").first.text_content()
        assert page.evaluate("document.scripts.length") == 3
        assert recorded.errors == []
        assert len(recorded.requests) == 1 + sum(url.startswith("data:") for url in recorded.requests)


def test_no_script_runs_in_the_page_but_its_own(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "forged.html"
    forged = "<script>document.title = 'ran'</script><img src='x' onerror=\"document.title = 'ran'\">"
    path.write_text(page_file.read_text().replace("<main>", f"<main>{forged}"))
    with opened(browser, 1280) as (page, recorded):
        page.goto(path.as_uri())
        wait_until_drawn(page)
        assert page.title() == "Twelve runs"
        assert any("Content Security Policy" in error for error in recorded.errors)


def test_the_sweep_has_logged_its_own_report(twelve: Twelve, tmp_path: Path) -> None:
    parent = twelve.store.find_sweep(NAME)
    assert parent is not None
    path = program.artifact(twelve.store.client, parent.info.run_id, "sweep/report.html", tmp_path)
    logged = content(path.read_text())
    own = content(report.from_store(twelve.store, query.select(twelve.store), "Twelve runs"))
    by_name = {trace["name"]: trace["y"] for trace in own["charts"]["curves"]["val/accuracy"]["data"]}
    drawn = logged["charts"]["curves"]["val/accuracy"]["data"]
    assert {trace["name"]: trace["y"] for trace in drawn} == by_name and len(drawn) == 12
    assert logged["pairs"]["images"].keys() and f"<h1>Sweep {NAME}</h1>" in path.read_text()
    assert "The report of the sweep could not be drawn" not in twelve.done.stdout


def test_a_page_of_one_run_or_of_empty_runs(twelve: Twelve, own_store: Store) -> None:
    one = report.from_store(twelve.store, query.select(twelve.store)[:1], "One")
    assert content(one)["pairs"] is None and content(one)["charts"]["parallel"] is None
    client = own_store.client
    bare = [client.create_run(own_store.experiment_id, run_name=name) for name in ("a", "b")]
    page = report.from_store(own_store, bare, "Bare")
    assert content(page) == {"charts": {"curves": {}, "parallel": None, "costs": {}, "sections": {}}, "pairs": None}
    assert page.count("has no evaluation/predictions.parquet") == 2


def test_runs_of_other_test_images_stay_apart(twelve: Twelve) -> None:
    runs = query.select(twelve.store)[:3]
    records = [run_record.from_run(run) for run in runs]
    records[2] = replace(records[2], test_digest="f" * 32)
    results = [run_results.from_run(twelve.store, run) for run in runs]
    page = report._render("t", records, range(3), results, "", {})
    assert len(content(page)["pairs"]["runs"]) == 2
    assert "were tested on different images: SHA-256" in page


def test_many_runs_are_drawn_with_the_most_accurate_in_detail(twelve: Twelve) -> None:
    run = run_record.from_run(query.select(twelve.store)[0])
    many = [
        replace(
            run,
            id=f"{at:032x}",
            name=f"run {at}",
            params={**run.params, "optimizer.learning_rate": str(0.001 * 1.1**at), "seed": str(at % 3)},
            metrics={**run.metrics, "test/accuracy": at / 300, "train/seconds": 1.0 + at},
        )
        for at in range(300)
    ]
    chosen = report._most_accurate(many)
    assert [many[at].name for at in chosen] == [f"run {at}" for at in range(288, 300)]
    drawn = charts.parallel(many)
    assert drawn is not None and drawn["axes"] == 3
    assert sum(trace["y"].count(None) for trace in drawn["data"]) == 300
    assert charts.costs(many)["train/seconds"]["layout"]["xaxis"]["type"] == "log"


def test_it_is_written_where_it_is_told(twelve: Twelve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.html"
    out, _ = twelve.answer(capsys, "report", "--sweep", NAME, "-o", str(path))
    assert out == f"{path}: 12 runs\n" and "<h1>Sweep twelve</h1>" in path.read_text()
    _, err = twelve.answer(capsys, "report", "none", "-o", str(path), code=2)
    assert err.startswith("cifar_exp: no run 'none'")
    _, err = twelve.answer(capsys, "report", "-o", str(tmp_path / "none" / "r.html"), code=2)
    assert f"there is no folder {tmp_path / 'none'}" in err and err.count("\n") == 1
    _, err = twelve.answer(capsys, "report", "-o", "/dev/full", code=1)
    assert err == "cifar_exp: failed: [Errno 28] No space left on device\n"
