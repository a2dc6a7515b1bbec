"""Log an ensemble as a run of its own, which is reviewed and promoted like any other."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError
from cifar_exp.review import ensemble_model, query, run_record, run_results
from cifar_exp.review.ensemble_model import Recipe
from cifar_exp.tracking import environment, fetch, run_tags
from cifar_exp.tracking.delivery import MODEL
from cifar_exp.tracking.run import Run as LoggedRun
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow.entities import Run

    from cifar_exp.analysis.ensemble_result import Ensemble
    from cifar_exp.evaluation.scores import Results

_SETTINGS = "data."  # parameters that an ensemble has in common with its members, if they agree


def find(store: Store, made: Ensemble) -> Run | None:
    """Find the finished run of the same ensemble, if it was logged before."""
    condition = f"tags.`{run_tags.FINGERPRINT}` = '{_fingerprint(made)}' AND attributes.status = 'FINISHED'"
    return next(iter(query.search(store, condition)), None)


def members(run: Run) -> dict[str, int]:
    """Run id -> weight of each member of a logged ensemble; empty for any other run."""
    try:
        weights = parse_json(run.data.tags.get(run_tags.MEMBERS) or "{}")
    except ValueError:  # whoever logs can write anything there
        return {}
    return weights if isinstance(weights, dict) else {}


def log(store: Store, made: Ensemble, folder: Path, name: str) -> str | None:
    """Log an ensemble with its metrics, predictions, figures and model.

    Args:
        store: contains the members, and receives the run.
        made: the ensemble.
        folder: for the files of the run.
        name: of the run.

    Returns:
        Id of the run; `None` if the store does not take it now.

    Raises:
        UserError: if a member has no model.
    """
    runs = [member.run for member in made.members]
    for run in runs:
        fetch.model_id(run)  # refuses a run without one, before anything is logged
        if run.data.tags.get(run_tags.KIND) == run_tags.ENSEMBLE_KIND:
            raise UserError(f"run {run.info.run_id} ({run.info.run_name}) is an ensemble itself: name its members")
    weights = tuple(weight for weight in made.weights if weight)
    with LoggedRun.start(store, folder, name, _tags(made), _params(made)) as logged:
        logged.log_same_datasets(_datasets(runs))
        logged.log_metrics(_metrics(made))
        _write(logged, made, name)
        ensemble_model.save(store, runs, Recipe(made.mean, weights, made.test.classes), folder / MODEL)
        logged.log_model({run_tags.FINGERPRINT: _fingerprint(made)}, kind=run_tags.ENSEMBLE_KIND)
        logged.set_tags({run_tags.OUTCOME: _outcome(made), "mlflow.note.content": _note(made)})
    return logged.id


def _fingerprint(made: Ensemble) -> str:
    """A hash of the members, their weights and the mean."""
    weights = {member.run.info.run_id: weight for member, weight in _weighted(made)}
    return hashlib.sha256(json.dumps([weights, made.mean], sort_keys=True).encode()).hexdigest()[:16]


def _weighted(made: Ensemble) -> list[tuple[Any, int]]:
    return [(member, weight) for member, weight in zip(made.candidates, made.weights, strict=True) if weight]


def _tags(made: Ensemble) -> dict[str, str]:
    tags = {
        run_tags.FINGERPRINT: _fingerprint(made),
        run_tags.KIND: run_tags.ENSEMBLE_KIND,
        run_tags.MEMBERS: json.dumps({member.run.info.run_id: weight for member, weight in _weighted(made)}),
        run_tags.COMMAND: _command(made),
        run_tags.OUTCOME: run_tags.RUNNING,
        "review.state": "unreviewed",
        "review.by": "",
        "review.note": "",
        **environment.source_tags(),
        "mlflow.source.name": "cifar-exp ensemble",
    }
    members = [member.run.data.tags for member in made.members]
    if any(of_member.get(run_tags.GIT_DIRTY) == "true" for of_member in members):
        tags[run_tags.GIT_DIRTY] = "true"
    for tag in (run_tags.BACKEND, run_tags.DEVICE):
        if shared := _shared(members, tag):
            tags[tag] = shared
    if warnings := sorted({one[run_tags.WARNING] for one in members if run_tags.WARNING in one}):
        tags[run_tags.WARNING] = f"of members: {'; '.join(warnings)}"
    return tags


def _command(made: Ensemble) -> str:
    """The command that makes this ensemble again, from all that it was chosen from."""
    chosen = "--select" if made.selected else "--no-select"
    return shlex.join(
        ["cifar-exp", "ensemble", *(one.run.info.run_id for one in made.candidates), "--mean", made.mean, chosen]
    )


def _params(made: Ensemble) -> dict[str, Any]:
    members = [member.run.data.params for member in made.members]
    keys = sorted({key for params in members for key in params if key.startswith(_SETTINGS) and key != "data.dir"})
    shared = {key: value for key in keys if (value := _shared(members, key)) is not None}
    return shared | {
        "ensemble.mean": made.mean,
        "ensemble.members": len(members),
        "ensemble.candidates": len(made.candidates),
        "ensemble.selected": made.selected,
    }


def _shared(mappings: list[Mapping[str, str]], key: str) -> str | None:
    """The value that all of them have for a key."""
    values = {mapping.get(key) for mapping in mappings}
    return next(iter(values)) if len(values) == 1 else None


def _datasets(runs: list[Run]) -> dict[str, dict[str, str]]:
    """The data sets that all members have logged, by context."""
    found: dict[str, list[dict[str, str]]] = {}
    for run in runs:
        for entry in run.inputs.dataset_inputs if run.inputs else []:
            one = entry.dataset
            context = one.name.rpartition("-")[2]
            keys = ("name", "digest", "source_type", "source", "profile")
            found.setdefault(context, []).append({key: getattr(one, key) for key in keys})
    return {
        context: each[0]
        for context, each in found.items()
        if len(each) == len(runs) and len({one["digest"] for one in each}) == 1
    }


def _results(made: Ensemble) -> Results | None:
    """Test and validation together; None if the members do not share their validation images."""
    from cifar_exp.evaluation.scores import Results

    return Results(made.test, made.validation) if made.validation else None


def _metrics(made: Ensemble) -> dict[str, float]:
    if results := _results(made):
        metrics = results.metrics() | {
            "val/accuracy": float((results.validation.predicted == results.validation.labels).mean()),
            "val/loss": results.validation.loss,
        }
    else:
        metrics = made.test.metrics() | {f"test/{name}": value for name, value in made.test.calibration.items()}
    parameters = [member.run.data.metrics.get("model/parameters") for member in made.members]
    if all(one is not None for one in parameters):
        metrics["model/parameters"] = float(sum(one for one in parameters if one is not None))
    about: dict[str, float | None] = {
        "ensemble/gain": made.gain.difference if made.gain else None,
        "ensemble/disagreement": made.diversity.mean_disagreement,
        "ensemble/error_correlation": made.diversity.mean_error_correlation,
    }
    return metrics | {name: value for name, value in about.items() if value is not None}


def _write(logged: LoggedRun, made: Ensemble, name: str) -> None:
    from cifar_exp.evaluation import calibration_plot, image_grids, plots, style
    from cifar_exp.review import run_predictions

    result, first, where = made.test, made.candidates[0], f"{name}: test images"
    matrix = {"classes": list(result.classes), "matrix": result.confusion_matrix.tolist()}
    logged.write("evaluation/confusion_matrix.json", json.dumps(matrix))
    logged.write("evaluation/classification_report.json", json.dumps(result.report, indent=2))
    test = result.predictions().assign(index=first.test["index"].to_numpy())
    logged.write(run_predictions.PREDICTIONS, test.to_parquet(index=False))
    logged.write("evaluation/predictions.csv", result.submission().to_csv(index=False))
    if made.validation and first.validation is not None:
        validation = made.validation.predictions().assign(index=first.validation["index"].to_numpy())
        logged.write(run_predictions.VALIDATION_PREDICTIONS, validation.to_parquet(index=False))
    drawings = {"confusion_matrix": plots.confusion_matrix(result.confusion_matrix, result.classes, where)}
    if results := _results(made):
        logged.write("evaluation/calibration.json", json.dumps(results.calibration(), indent=2))
        drawings["calibration"] = calibration_plot.calibration(
            result.labels, result.probabilities, results.scaled, results.temperature, where
        )
    images, _ = run_results.shared_test_images([run_record.from_run(member.run) for member in made.members])
    if images is not None:
        drawings["predictions"] = image_grids.predictions(images, result.labels, result.probabilities, result.classes)
    for figure_name, figure in drawings.items():
        logged.write(f"figures/{figure_name}.png", style.to_png(figure))
    logged.write("ensemble/members.csv", made.table.frame.to_csv(index=False))
    logged.write("ensemble/diversity.json", json.dumps(_diversity(made), indent=2))
    about = environment.describe("none, made from stored predictions", "none")
    logged.write("config/environment.txt", about)
    logged.upload("config", "evaluation", "figures", "ensemble")


def _diversity(made: Ensemble) -> dict[str, Any]:
    """Disagreement and correlation of errors of every two members, for JSON."""
    correlation = made.diversity.error_correlation
    return {
        "members": [member.run.info.run_id for member in made.members],
        "disagreement": made.diversity.disagreement.tolist(),
        "error_correlation": [[one if math.isfinite(one) else None for one in row] for row in correlation.tolist()],
    }


def _outcome(made: Ensemble) -> str:
    """Collapsed if all of its members are, otherwise completed."""
    collapsed = all(member.run.data.tags.get(run_tags.OUTCOME) == run_tags.COLLAPSED for member in made.members)
    return run_tags.COLLAPSED if collapsed else run_tags.COMPLETED


def _note(made: Ensemble) -> str:
    members = "\n".join(f"- {weight} x {member.name} ({member.run.info.run_id})" for member, weight in _weighted(made))
    return "\n\n".join([*made.sentences, f"Members, with their weights:\n\n{members}", f"Made by `{_command(made)}`."])
