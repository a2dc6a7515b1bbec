"""The best trials with other seeds: which runs are missing, which trial wins, and how much of the best was luck."""

from __future__ import annotations

from dataclasses import replace

from test_settings import of as settings_of

from cifar_exp.config import composition
from cifar_exp.search import confirming
from cifar_exp.search.driver import Driver
from cifar_exp.search.progress import Progress
from cifar_exp.search.settings import Confirm
from cifar_exp.search.trials import Search, Trial, Trials, undominated

SEARCH = Search(("val/accuracy",), ("maximize",), "tpe", "none", 0, 3, 9, (), {})


def trial(number: int, value: float | None, state: str = "complete") -> Trial:
    return Trial(number, state, {}, (value,))


def run_of(number: int, seed: int, value: float) -> Trial:
    return Trial(number, "complete", {}, (value,), confirmed=True, seed=seed)


ROWS = (
    trial(-1, 0.99),
    trial(1, 0.8),
    trial(2, 0.9),
    trial(3, 0.7),
    trial(4, 0.95, "pruned"),
    trial(5, None, "failed"),
)


def test_the_best_complete_trials_are_confirmed_with_seeds_that_are_missing() -> None:
    found = confirming.missing(Trials(SEARCH, (*ROWS, run_of(2, 1, 0.8))), Confirm(best=2, seeds=2), seed=0)
    assert [(row.trial, seed) for row, seed in found] == [(2, 2), (1, 1), (1, 2)]


def test_the_winner_has_the_best_mean_and_the_luck_of_the_first_choice_is_told() -> None:
    runs = [run_of(2, 1, 0.7), run_of(2, 2, 0.72), run_of(1, 1, 0.78), run_of(1, 2, 0.8)]
    trials = Trials(SEARCH, (*ROWS, *runs))
    assert [found.trial.trial for found in confirming.confirmed(trials)] == [1, 2]
    said = confirming.luck(trials)
    assert said == (
        "Trial 2 had the best val/accuracy of the search, 0.9000; with 2 other seeds its mean is 0.7100 ± 0.0100 "
        "(standard error): 0.1900 of it was luck",
        "Of the 2 that were confirmed, trial 1 is the best: 0.7900 ± 0.0100 (standard error)",
    )
    assert confirming.luck(Trials(SEARCH, ROWS)) == ()


def test_a_first_choice_may_have_had_no_luck() -> None:
    minimized = replace(SEARCH, metrics=("val/loss",), directions=("minimize",))
    said = confirming.luck(Trials(minimized, (trial(1, 0.5), trial(2, 0.6), run_of(1, 1, 0.4))))
    assert said == (
        "Trial 1 had the best val/loss of the search, 0.5000; with 1 other seed its mean is 0.4000: no luck",
        "It remains the best of the 1 that were confirmed",
    )


def test_a_better_trial_after_a_confirmation_is_the_best_until_it_is_confirmed_as_well() -> None:
    rows = (*ROWS, run_of(2, 1, 0.7), *(trial(number, value) for number, value in ((6, 0.91), (7, 0.85), (8, 0.5))))
    trials = Trials(SEARCH, rows)
    plan = composition.plan(["hydra/sweeper=search", "model=baseline,bn"], multirun=True)
    assert plan.space is not None
    settings = settings_of(patience=3, n_trials=20, pruner="none")
    progress = Progress(settings, 9, 0.0)
    best = progress.best(trials)
    assert best is not None and best.trial == 6
    assert confirming.luck(trials) == ()
    (said,) = progress.conclusion(trials, plan.space, ())
    assert said.startswith("The best is trial 6, val/accuracy 0.9100")
    driver = Driver(plan, settings)
    driver.rebuild([replace(row, job=job) for job, row in enumerate(rows, 1) if row.trial > 0])
    assert not driver.is_finished()  # two trials since the sixth
    again = progress.best(Trials(SEARCH, (*rows, run_of(6, 1, 0.6))))
    assert again is not None and again.trial == 2


def test_the_front_is_what_no_other_trial_beats_in_everything() -> None:
    search = replace(SEARCH, metrics=("val/accuracy", "model/parameters"), directions=("maximize", "minimize"))
    values = [(0.9, 100.0), (0.8, 50.0), (0.8, 60.0), (0.7, 10.0), (0.6, 10.0)]
    rows = tuple(Trial(number, "complete", {}, pair) for number, pair in enumerate(values, 1))
    assert [row.trial for row in undominated(search, rows)] == [1, 2, 4]


def test_failed_trials_save_no_epochs() -> None:
    plan = composition.plan(["hydra/sweeper=search", "model=baseline,bn"], multirun=True)
    assert plan.space is not None
    progress = Progress(settings_of(n_trials=3, timeout=60), 9, 0.0)
    failed = tuple(trial(number, None, "failed") for number in (1, 2))
    line = progress.line(Trials(SEARCH, failed), plan.space)
    assert line.startswith("Search: no trial has finished yet; 2 of 3 trials done, 2 failed; ") and "saved" not in line
    row = replace(trial(3, 0.8, "pruned"), epochs=3)
    assert "; 3 epochs, 67% saved; " in progress.line(Trials(SEARCH, (*failed, row)), plan.space)
