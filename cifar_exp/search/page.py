"""What a search adds to the report page: sections of charts, with what they show and what they cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cifar_exp.review.section import THREE, WIDE, Section
from cifar_exp.search import charts, confirming, space_charts
from cifar_exp.search.charts import format_value, measured
from cifar_exp.search.trials import COMPLETE, FAILED, INTERRUPTED, PRUNED, RUNNING, Trials

_MAX_SLICES = 12  # the most important settings
_FEW = 20  # trials, below which importances are mostly chance
_MAX_DRAWN = 500  # trials, so that a page opens in seconds


def sections(trials: Trials) -> list[Section]:
    """Sections of the report page on a search; empty if no trial has a value yet."""
    if not measured(trials):
        return []
    drawn, limited = _limit(trials)
    return list(_sections(trials, drawn, limited))


def _sections(trials: Trials, drawn: Trials, limited: tuple[str, ...]) -> Iterator[Section]:
    search = trials.search
    overview = {"search-history": charts.history(drawn), "search-effort": charts.effort(trials, drawn)}
    yield Section(
        "search",
        "Search",
        {name: chart for name, chart in overview.items() if chart},
        before=(*_summary(trials), *_confirmations(trials), *limited),
    )
    if (front := charts.front(drawn)) is not None:
        yield Section("search-front", "Pareto front", {"search-front": front}, after=(_FRONT,))
    if rungs := charts.rungs(drawn):
        yield Section("search-rungs", "Rungs", rungs, after=(_RUNGS.format(metric=search.metrics[0]),))
    shares = space_charts.importances(trials)
    keys = list(shares) or list(search.distributions)
    if shares:
        important = {"search-importances": space_charts.bars(shares)}
        if (contour := space_charts.contour(drawn, *keys[:2])) is not None:
            important["search-contour"] = contour
        few = len(measured(trials)) < _FEW
        notes = (_IMPORTANCES.format(metric=search.metrics[0]), *((_FEW_TRIALS,) if few else ()))
        yield Section("search-importances", "Importances", important, after=notes)
    slices = space_charts.slices(drawn, keys[:_MAX_SLICES])
    rest = len(keys[_MAX_SLICES:])
    left_out = (f"Settings of less importance are left out: {rest}.",) if rest else ()
    yield Section("search-slices", "Slices", slices, THREE, after=(_SLICES, *left_out))
    if (parallel := space_charts.parallel(drawn)) is not None:
        note = "One line per trial, pale for the worst to orange for the best. - stands for a setting that it lacks."
        yield Section("search-parallel", "Trials across settings", {"search-parallel": parallel}, WIDE, before=(note,))


_RUNGS = (
    "At a rung a trial pauses unless its best {metric} so far is among the best there. It continues from its "
    "checkpoint once it is. Open circles: where pruned trials stopped."
)
_FRONT = "On the Pareto front are the trials that no other trial beats in one objective without losing in another."
_IMPORTANCES = (
    "PED-ANOVA: how far the values of a setting among the best tenth of trials, by {metric}, differ from its values "
    "among all. It sees each setting by itself, not that two settings only work together. It knows only what was "
    "tried: a setting whose range was too narrow looks unimportant. Pruned trials count with the value at which they "
    "were pruned. The contour is drawn between trials only."
)
_FEW_TRIALS = f"With fewer than {_FEW} trials, the shares are mostly chance."
_SLICES = (
    "Each mark is a trial that has the setting, from pale for the first to orange for the last. A pruned trial has the "
    "value at which it was pruned, so it may stand lower than its setting deserves."
)


def _limit(trials: Trials) -> tuple[Trials, tuple[str, ...]]:
    """The trials to draw, the best and the latest of very many, and what to say of it."""
    rows = [row for row in trials.rows if not row.confirmed]
    if len(rows) <= _MAX_DRAWN:
        return trials, ()
    best = sorted(measured(trials), key=lambda row: -trials.search.score(row.value or 0.0))[: _MAX_DRAWN // 2]
    latest = [row for row in reversed(rows) if row not in best][: _MAX_DRAWN - len(best)]
    chosen = {row.trial for row in (*best, *latest)}
    shown = tuple(row for row in trials.rows if row.trial in chosen)
    note = f"Of {len(rows):,} trials, the charts show the {len(best):,} best and the {len(latest):,} latest."
    return Trials(trials.search, shown), (note,)


def _summary(trials: Trials) -> Iterator[str]:
    search = trials.search
    rows = [row for row in trials.rows if not row.confirmed]
    states = Counter(row.state for row in rows)
    counted = [
        f"{states[state]:,} {state}" for state in (COMPLETE, PRUNED, RUNNING, INTERRUPTED, FAILED) if states[state]
    ]
    used, whole = sum(row.epochs for row in rows), search.epochs * len(rows)
    yield (
        f"{len(rows):,} of {search.n_trials:,} trials: {', '.join(counted)}. They took {used:,} epochs of training; "
        f"without pruning it would have been {whole:,}. Sampler {search.sampler}, pruner {search.pruner}, seed "
        f"{search.seed}."
    )
    finite = measured(trials)
    best = max(finite, key=lambda row: (search.score(row.value or 0.0), -row.trial))
    settings = ", ".join(f"{key}={format_value(value)}" for key, value in best.params.items())
    yield f"Best {search.metrics[0]}: {best.value:.4f}, of trial {best.trial}, with {settings}."


def _confirmations(trials: Trials) -> Iterator[str]:
    """What the confirming runs say, the best mean first."""
    for one in confirming.confirmed(trials):
        value = one.trial.value or 0.0
        gap = f"{abs(value - one.mean):.4f} {'below' if one.mean < value else 'above'}"
        yield (
            f"Trial {one.trial.trial} again with {one.seeds}: mean {one}, {gap} its value in the search, "
            f"{value:.4f}, which was chosen among many."
        )
