"""Tests of what a search shows on the report page: the values of its trials, and a page that a browser draws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browsing
import made_trials
import pytest

from cifar_exp.review import report
from cifar_exp.review.run_record import RunRecord
from cifar_exp.review.run_results import RunResults
from cifar_exp.search import charts, page, space_charts
from cifar_exp.search.trials import COMPLETE, FAILED, PRUNED, RUNNING, Trial, Trials

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">&amp;%{x}${y}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.chromium() as started:
        yield started


def by_name(trials: Trials) -> dict[str, Any]:
    return {name: chart for section in page.sections(trials) for name, chart in section.charts.items()}


def values(chart: dict[str, Any], name: str) -> dict[float, float]:
    """x -> y of the trace with this name."""
    (trace,) = [trace for trace in chart["data"] if trace.get("name") == name and "markers" in trace["mode"]]
    return dict(zip(trace["x"], trace["y"], strict=True))


def test_history_and_effort_show_every_trial_with_its_value() -> None:
    trials = made_trials.made(40, confirmed=2)
    drawn = by_name(trials)
    for state in (COMPLETE, PRUNED):
        expected = {row.trial: row.value for row in trials.rows if row.state == state and not row.confirmed}
        assert values(drawn["search-history"], state) == expected
    best = max(row.value or 0 for row in trials.rows if not row.confirmed)
    spent = sum(row.epochs for row in trials.rows if not row.confirmed)
    for name in ("search-history", "search-effort"):
        line = drawn[name]["data"][0]
        assert line["name"] == "best so far" and line["y"] == sorted(line["y"]) and line["y"][-1] == best
    assert drawn["search-effort"]["data"][0]["x"][-1] == spent


def test_the_summary_counts_epochs_and_says_how_much_of_the_best_was_luck() -> None:
    trials = made_trials.made(40, confirmed=1)
    running = replace(trials.rows[-1], state=RUNNING, seed=4, values=(0.1,))
    trials = replace(trials, rows=(*trials.rows, running))
    text = "\n".join(page.sections(trials)[0].before)
    rows = [row for row in trials.rows if not row.confirmed]
    best = max((row for row in rows if row.value is not None), key=lambda row: row.value or 0)
    counted = {state: sum(row.state == state for row in rows) for state in (COMPLETE, PRUNED, FAILED)}
    assert f"40 of 50 trials: {counted[COMPLETE]} complete, {counted[PRUNED]} pruned, 1 running, 2 failed" in text
    assert f"took {sum(row.epochs for row in rows):,} epochs" in text and "would have been 1,080" in text
    assert f"{best.value:.4f}, of trial {best.trial}, with optimizer.learning_rate=" in text
    assert (
        f"Trial {best.trial} again with 3 other seeds: mean {(best.value or 0) - 0.02:.4f} ± 0.0058 (standard error), "
        in text
    )
    assert f"0.0200 below its value in the search, {best.value:.4f}" in text


def test_rungs_show_where_trials_were_pruned() -> None:
    trials = made_trials.made(40)
    drawn = by_name(trials)["search-rungs"]
    counts = {bar["name"]: bar["y"] for bar in drawn["data"]}
    rows = [row for row in trials.rows if row.history]
    for at, rung in enumerate(made_trials.RUNGS):
        assert counts[PRUNED][at] == sum(row.state == PRUNED and row.epochs == rung for row in rows)
        assert counts["went on"][at] == sum(
            row.epochs >= [*made_trials.RUNGS, made_trials.EPOCHS][at + 1] for row in rows
        )
    assert counts[COMPLETE] == [0, 0, 0, sum(row.state == COMPLETE for row in rows)]
    plain = replace(trials.search, pruner="none", rungs=())
    assert charts.rungs(Trials(plain, trials.rows)) == {}


def test_the_learning_rate_is_the_most_important_setting_and_momentum_is_of_sgd_alone() -> None:
    trials = made_trials.made(300)
    shares = space_charts.importances(trials)
    assert next(iter(shares)) == "optimizer.learning_rate" and sum(shares.values()) == pytest.approx(1)
    keys = list(shares)
    drawn = space_charts.slices(trials, keys)
    momentum = drawn[f"search-slice-{keys.index('optimizer.momentum')}"]["data"][0]
    expected = [row for row in trials.rows if "optimizer.momentum" in row.params and row.value is not None]
    assert momentum["x"] == [row.params["optimizer.momentum"] for row in expected]
    assert by_name(trials)["search-parallel"]["axes"] == len(made_trials.SPACE) + 1


def test_a_contour_covers_what_lies_between_trials_and_nothing_else() -> None:
    trials = made_trials.made(60)
    drawn = space_charts.contour(trials, "optimizer.learning_rate", "model.filters.0")
    assert drawn is not None
    levels, marks = drawn["data"]
    tried = [value for row in levels["z"] for value in row if value is not None]
    measured = [row.value for row in trials.rows if row.value is not None]
    assert tried and min(measured) <= min(tried) and max(tried) <= max(measured)
    assert len(marks["x"]) == len(measured) and any(value is None for row in levels["z"] for value in row)
    of_categories = space_charts.contour(trials, "optimizer", "optimizer.learning_rate")
    assert of_categories is not None and [trace["type"] for trace in of_categories["data"]] == ["scatter"]


def test_the_pareto_front_holds_the_trials_that_no_other_dominates() -> None:
    trials = made_trials.made(60, ("val/accuracy", "model/parameters"))
    drawn = values(by_name(trials)["search-front"], "Pareto front")
    complete = [row.values for row in trials.rows if row.state == COMPLETE]
    best = [
        one
        for one in complete
        if not any(other[0] >= one[0] and other[1] <= one[1] and other != one for other in complete)  # type: ignore[operator]
    ]
    assert drawn == {parameters: accuracy for accuracy, parameters in best} and 1 < len(best) < len(complete)


def test_pages_of_hardly_any_trials() -> None:
    search = made_trials.search()
    failed = Trial(1, FAILED, {"optimizer": "adam"}, (None,))
    assert page.sections(Trials(search, ())) == [] and page.sections(Trials(search, (failed,))) == []
    one = made_trials.made(1)
    assert [section.id for section in page.sections(one)] == ["search", "search-rungs", "search-slices"]
    three = page.sections(made_trials.made(3))
    assert "With fewer than 20 trials, the shares are mostly chance." in three[2].after


def test_of_a_search_in_which_only_one_setting_was_seen_no_importances_are_drawn() -> None:
    conditional = {key: made_trials.search().distributions[key] for key in ("optimizer", "optimizer.momentum")}
    rows = tuple(Trial(number, COMPLETE, {"optimizer": "adam"}, (number / 10,)) for number in (1, 2, 3))
    found = page.sections(Trials(replace(made_trials.search(), distributions=conditional), rows))
    assert [section.id for section in found] == ["search", "search-slices", "search-parallel"]
    assert "left out" not in " ".join(found[1].after)


def test_of_very_many_trials_the_best_and_the_latest_are_drawn() -> None:
    trials = made_trials.made(700)
    first = page.sections(trials)[0]
    assert "Of 700 trials, the charts show the 250 best and the 250 latest." in first.before
    marks = [trace for trace in first.charts["search-history"]["data"] if "markers" in trace["mode"]]
    assert sum(len(trace["x"]) for trace in marks) == 500
    best = max(row.value or 0 for row in trials.rows)
    assert best in values(first.charts["search-history"], COMPLETE).values()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_draws_all_charts_and_runs_no_script_of_a_setting(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    trials = made_trials.made(60, ("val/accuracy", "model/parameters"))
    text = re.escape(made_trials.LONG)
    hostile = {key: re.sub(text, lambda _: HOSTILE.replace('"', '\\"'), of) for key, of in _json(trials).items()}
    rows = tuple(replace(row, params={k: _hostile(v) for k, v in row.params.items()}) for row in trials.rows)
    sections = page.sections(Trials(replace(trials.search, distributions=hostile), rows))
    run = RunRecord("0" * 32, "cnn", "FINISHED", 0, 1, {}, {"test/accuracy": 0.5}, {}, None)
    path = tmp_path / "search.html"
    path.write_text(report._render("A search", [run], [0], [RunResults({}, None)], "", {}, sections), encoding="utf-8")
    with browsing.opened(browser, width, scheme) as (shown, recorded):
        shown.goto(path.as_uri())
        shown.wait_for_function("[...document.querySelectorAll('.chart')].every((one) => one.querySelector('svg'))")
        assert shown.locator(".chart").count() == sum(len(section.charts) for section in sections)
        assert shown.title() == "A search" and recorded.errors == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        browsing.keep(shown, f"search_{width}_{scheme}")


def _json(trials: Trials) -> dict[str, str]:
    return dict(trials.search.distributions)


def _hostile(value: Any) -> Any:
    return HOSTILE if value == made_trials.LONG else value
