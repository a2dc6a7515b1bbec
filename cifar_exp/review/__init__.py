"""What a team does with logged runs; and for notebooks, logged runs as pandas tables.

    from cifar_exp import review

    table = review.runs(sweep="2026-11-21_19-58-30-2402")
    curves = review.histories(sweep="2026-11-21_19-58-30-2402")
    images = review.predictions("one_conv-adam-seed=1")
    print(review.paired_test("one_conv-adam-seed=0", "one_conv-adam-seed=1").words)

Each takes `uri=` and `experiment=`, of a store that is neither $MLFLOW_TRACKING_URI nor mlflow.db in this folder, or of
another experiment in it. A run is named by its id, the first characters of that, or its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from cifar_exp.review.paired import Paired
    from cifar_exp.tracking.store import Store

__all__ = ["histories", "paired_test", "predictions", "runs"]

EVERY_EPOCH = (
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "train/learning_rate",
    "train/epoch_seconds",
    "train/images_per_second",
)


def runs(
    *wanted: str,
    sweep: str | None = None,
    filter: str | None = None,
    uri: str | None = None,
    experiment: str | None = None,
) -> pd.DataFrame:
    """One row per run: run_id, name, status, outcome, review, started, seconds; params.*, metrics.*, tags.*.

    Args:
        wanted: these runs, in this order; else
        sweep: the jobs of this sweep;
        filter: those that meet it, in MLflow's own form. Of none of these: all runs, the most accurate first.
        uri: of the store.
        experiment: in it.

    Raises:
        UserError: if there are none.
    """
    from cifar_exp.review import query, run_record

    found = query.select(_store(uri, experiment), wanted, sweep, filter)
    return run_record.frame([run_record.of_run(run) for run in found])


def histories(
    *wanted: str,
    sweep: str | None = None,
    filter: str | None = None,
    metrics: Sequence[str] = EVERY_EPOCH,
    uri: str | None = None,
    experiment: str | None = None,
) -> pd.DataFrame:
    """One row per run and epoch: run_id, name, epoch, and these metrics; the runs as in `runs`."""
    import pandas as pd

    from cifar_exp.review import query, run_results

    store = _store(uri, experiment)
    rows = []
    for run in query.select(store, wanted, sweep, filter):
        history = run_results.histories(store, run, metrics)
        for epoch in sorted({step for steps in history.values() for step in steps}):
            measured = {name: history.get(name, {}).get(epoch) for name in metrics}
            rows.append({"run_id": run.info.run_id, "name": run.info.run_name, "epoch": epoch, **measured})
    return pd.DataFrame(rows, columns=["run_id", "name", "epoch", *metrics])


def predictions(run: str, uri: str | None = None, experiment: str | None = None) -> pd.DataFrame:
    """One row per test image: index, label, predicted, p_<class>.

    Raises:
        UserError: if there is no such run, or it has none.
    """
    from cifar_exp.review import paired, query

    store = _store(uri, experiment)
    return paired.of_run(store, query.get(store, run))


def paired_test(a: str, b: str, uri: str | None = None, experiment: str | None = None) -> Paired:
    """Two runs on the same test images: difference of their accuracies, interval, McNemar's p-value, words.

    Raises:
        UserError: if there is no such run, if one has no predictions, or they are of different images.
    """
    from cifar_exp.review import paired, query

    store = _store(uri, experiment)
    return paired.paired(store, *(query.get(store, one).info.run_id for one in (a, b)))


def _store(uri: str | None, experiment: str | None) -> Store:
    from dataclasses import replace

    from cifar_exp.config.composition import plan
    from cifar_exp.tracking.store import Store

    tracking = plan([], multirun=False).jobs[0].tracking
    return Store.of(replace(tracking, uri=uri or tracking.uri, experiment=experiment or tracking.experiment))
