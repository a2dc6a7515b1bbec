"""Reviewing logged runs. In notebooks, the functions of this package return logged runs as pandas tables.

    from cifar_exp import review

    table = review.runs(sweep="2026-11-21_19-58-30-2402")
    curves = review.histories(sweep="2026-11-21_19-58-30-2402")
    images = review.predictions("one_conv-adam-seed=1")
    print(review.paired_test("one_conv-adam-seed=0", "one_conv-adam-seed=1").words)

A run is given by its id, the first characters of its id, or its name. Every function accepts `uri` (default:
$MLFLOW_TRACKING_URI, otherwise mlflow.db in the current folder) and `experiment` (default: $MLFLOW_EXPERIMENT_NAME,
otherwise cifar10).
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
    "train/objective",
    "train/accuracy",
    "val/loss",
    "val/objective",
    "val/accuracy",
    "train/learning_rate",
    "train/epoch_seconds",
    "train/images_per_second",
)


def runs(
    *names: str,
    sweep: str | None = None,
    filter: str | None = None,
    uri: str | None = None,
    experiment: str | None = None,
) -> pd.DataFrame:
    """Table of runs with their parameters, metrics and tags.

    Without `names`, `sweep` and `filter`, all runs are returned.

    Args:
        names: runs, in this order.
        sweep: name of a sweep, to select its jobs.
        filter: condition in MLflow's syntax, such as `metrics."test/accuracy" > 0.7`.
        uri: tracking store.
        experiment: name of the MLflow experiment.

    Returns:
        One row per run: run_id, name, status, outcome, review, started (UTC), seconds, params.*, metrics.*, tags.*.
        The most accurate run comes first unless `names` are given.

    Raises:
        UserError: if no run matches.
    """
    from cifar_exp.review import query, run_record

    matching_runs = query.select(store(uri, experiment), names, sweep, filter)
    return run_record.to_frame([run_record.from_run(run) for run in matching_runs])


def histories(
    *names: str,
    sweep: str | None = None,
    filter: str | None = None,
    metrics: Sequence[str] = EVERY_EPOCH,
    uri: str | None = None,
    experiment: str | None = None,
) -> pd.DataFrame:
    """Table of metrics by epoch.

    Args:
        names: runs, in this order.
        sweep: name of a sweep, to select its jobs.
        filter: condition in MLflow's syntax.
        metrics: names of the metrics, one column each.
        uri: tracking store.
        experiment: name of the MLflow experiment.

    Returns:
        One row per run and epoch: run_id, name, epoch (from 1), and the metrics.

    Raises:
        UserError: if no run matches.
    """
    import pandas as pd

    from cifar_exp.review import query, run_results

    where = store(uri, experiment)
    rows = []
    for run in query.select(where, names, sweep, filter):
        history = run_results.metric_histories(where, run, metrics)
        for epoch in sorted({step for values in history.values() for step in values}):
            values = {name: history.get(name, {}).get(epoch) for name in metrics}
            rows.append({"run_id": run.info.run_id, "name": run.info.run_name, "epoch": epoch, **values})
    return pd.DataFrame(rows, columns=["run_id", "name", "epoch", *metrics])


def predictions(run: str, uri: str | None = None, experiment: str | None = None) -> pd.DataFrame:
    """Predictions of a run for its test images.

    Args:
        run: id, first characters of the id, or name.
        uri: tracking store.
        experiment: name of the MLflow experiment.

    Returns:
        One row per test image: index, label, predicted, p_<class>.

    Raises:
        UserError: if there is no such run, or if it has no predictions.
    """
    from cifar_exp.review import query, run_predictions

    where = store(uri, experiment)
    return run_predictions.read(where, query.get(where, run))


def paired_test(a: str, b: str, uri: str | None = None, experiment: str | None = None) -> Paired:
    """Test whether two runs differ in accuracy on the same test images (McNemar's test).

    Args:
        a: first run: id, first characters of the id, or name.
        b: second run.
        uri: tracking store.
        experiment: name of the MLflow experiment.

    Returns:
        Difference of the accuracies (B minus A), its 95 % confidence interval, the p-value, and a sentence (`words`).

    Raises:
        UserError: if a run does not exist or has no predictions, or if the test images differ.
    """
    from cifar_exp.review import paired, query

    where = store(uri, experiment)
    return paired.compare_runs(where, *(query.get(where, name).info.run_id for name in (a, b)))


def store(uri: str | None = None, experiment: str | None = None) -> Store:
    """The store that the functions of this package read.

    Args:
        uri: tracking store.
        experiment: name of the MLflow experiment.
    """
    from dataclasses import replace

    from cifar_exp.config.composition import plan
    from cifar_exp.tracking.store import Store

    tracking = plan([], multirun=False).jobs[0].tracking
    return Store.of(replace(tracking, uri=uri or tracking.uri, experiment=experiment or tracking.experiment))
