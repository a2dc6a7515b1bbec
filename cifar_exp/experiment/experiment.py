"""Carry out one run: config -> data -> model -> fit -> evaluate -> log."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp import console, plugins
from cifar_exp.config import memory
from cifar_exp.config.architecture import sizes
from cifar_exp.config.layers import kinds
from cifar_exp.config.schema import Config, flatten, reported
from cifar_exp.data import datasets
from cifar_exp.data.splits import Splits
from cifar_exp.errors import Pruned
from cifar_exp.experiment import artifacts, resume
from cifar_exp.tracking import environment, fingerprint, initial_weights, package, run_tags
from cifar_exp.tracking.delivery import ARTIFACTS, MODEL
from cifar_exp.tracking.initial_weights import InitialWeights
from cifar_exp.tracking.note import describe, describe_pruned
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store
from cifar_exp.training import out_of_memory, outcome, runtime
from cifar_exp.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    import keras

    from cifar_exp.training.fit import History

log = logging.getLogger(__name__)

_REFERENCE_TAGS = ("accuracy", "loss", "parameters", "seconds", "source")


@dataclass(frozen=True)
class Job:
    """How a run was started, and its place in a sweep, if any."""

    overrides: tuple[str, ...] = ()
    number: int | None = None
    """Number in the sweep, from 1."""
    varying: Mapping[str, str] = field(default_factory=dict)
    """Key that the sweep varies -> value in this job."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Additional tags of the run."""
    pauses: Callable[[int, History], bool] | None = None
    """Of a trial: epoch and history so far -> whether a search pauses the run there; see `fit`."""


@dataclass(frozen=True)
class Result:
    """Results of a finished run."""

    run_id: str | None
    """None if the run is not in the store yet."""
    name: str
    metrics: dict[str, float]
    """Final metrics."""
    history: dict[str, list[float]]
    """Metric name -> one value per epoch."""
    seconds: float
    fingerprint: str
    collapsed: bool
    folder: Path
    """Of its journal and files."""


def run(config: Config, job: Job, folder: Path) -> Result:
    """Train, evaluate and log one model.

    Args:
        config: settings of the run.
        job: how it was started.
        folder: for its journal and files, unless an interrupted run in another folder is resumed. Artifacts are in the
            subfolder `artifacts`, under the names that they have in MLflow.

    Raises:
        UserError: if memory, data, a device or initial weights are missing, or Keras refuses a layer.
        Diverged: if the training loss is NaN or infinite.
        OutOfMemory: if an allocation fails on the machine or its GPU.
    """
    began = time.monotonic()
    name = config.run_name(job.varying)
    title = f"[{job.number}/{config.sweep.jobs}] {name}" if job.number else name
    memory.check(config, runtime.may_use_gpu(config.training.device), runtime.backend_name())
    splits = datasets.load(config.data)
    runtime.prepare(config.training, config.seed)
    from cifar_exp.evaluation import evaluation
    from cifar_exp.training import models, objective, whitening  # these import Keras, after `runtime.prepare`
    from cifar_exp.training.fit import best_epoch

    store = Store.of(config.tracking)
    start = initial_weights.find(store, config.training.start_from) if config.training.start_from else None
    tags = _tags(config, job, splits, start)
    interrupted = resume.find_interrupted(config, tags[run_tags.FINGERPRINT], folder)
    folder = interrupted or folder
    logging_options: dict[str, Any] = {
        "system_metrics": config.tracking.system_metrics,
        "drain_seconds": config.tracking.drain_seconds,
        "checkpoint_seconds": config.training.checkpoint.log_seconds if store.is_server else None,
    }
    with (
        Run.resume(store, folder, {key: tags[key] for key in tags if not key.startswith("review.")}, **logging_options)
        if interrupted
        else Run.start(store, folder, name, tags, flatten(config), config.sweep.name, **logging_options) as logged,
        console.log_file(folder / ARTIFACTS / "logs" / "run.log"),
        out_of_memory.translate_errors(),
    ):
        image_shape = config.data.image_shape
        _, sizes_are_whole = sizes(config.model.layers, "model", image_shape)
        if not sizes_are_whole:  # Keras knows the missing sizes
            sizes_of_keras = models.sizes(config.model, image_shape)
            memory.check(config, runtime.may_use_gpu(config.training.device), runtime.backend_name(), sizes_of_keras)
            runtime.prepare(config.training, config.seed)
        model, rows = models.build(config.model, image_shape)
        if start:
            log.info("%s  goes on from %s", title, start.name)
            models.load_weights(model, start.weights(folder / "start_from"), f"training.start_from: {start.name}")
        elif config.training.whiten:
            whitening.whiten(model, splits.training.images)
        if unused := runtime.unused_gpu(config.training.device):
            log.warning("%s  %s", title, unused)
        size = f"{model.count_params():,} parameters, {len(splits.training):,} training images"
        log.info("%s  %s, %s", title, size, tags[run_tags.DEVICE])
        artifacts.log_inputs(logged, config, job.overrides, splits, models.summary(model))

        checkpoints = Checkpoints(folder / "checkpoints", tags[run_tags.FINGERPRINT])
        # Figures are drawn in a thread while the device computes. The thread must not touch a model's variables: on JAX
        # they have no value during a Keras call.
        with ThreadPoolExecutor(1) as thread:
            drawing = thread.submit(artifacts.draw_inputs, logged, config, splits, rows)
            try:
                history = _train(model, splits, config, logged, checkpoints, title, job.pauses)
            except Pruned as pruned:
                drawing.result()
                _end_pruned(logged, config, job, tags, checkpoints)
                log.info("%s  %s of %d", title, pruned, config.training.epochs)
                raise
            classifier = models.classifier(model, config.prediction)
            curves = thread.submit(artifacts.draw_curves, logged, name, history)
            results = evaluation.evaluate(model, classifier, splits)
        best = best_epoch(history)
        loss = objective.loss(config, splits)
        metrics = results.metrics() | {
            "test/objective": objective.value(model, loss, results.test.labels, results.test.log_probabilities),
            "val/best_accuracy": history["val/accuracy"][best - 1],
            "val/best_epoch": best,
            "train/seconds": sum(history["train/epoch_seconds"]),
            "model/parameters": model.count_params(),
        }
        logged.log_metrics(metrics)
        artifacts.log_results(logged, name, splits, results)
        for future in (drawing, curves):  # an error in the thread fails the run, but only after the metrics are logged
            future.result()
        package.save(classifier, runtime.backend_package(), splits.classes, results.temperature, folder / MODEL)
        logged.log_model({run_tags.FINGERPRINT: tags[run_tags.FINGERPRINT]})
        chance = outcome.chance(splits.test.labels, len(splits.classes))
        collapsed = outcome.collapsed(history, splits, metrics["test/accuracy"], metrics["test/balanced_accuracy"])
        remarks = outcome.remarks(history, collapsed, chance)
        origins = [f"It went on from {start.link}"] if start else []
        seconds = time.monotonic() - began
        epochs = len(history["val/accuracy"])
        note = describe(config, job.overrides, tags, metrics, chance, epochs, seconds, [*origins, *remarks])
        run_outcome = run_tags.COLLAPSED if collapsed else run_tags.COMPLETED
        logged.set_tags({run_tags.OUTCOME: run_outcome, "mlflow.note.content": note})
        accuracy = f"test accuracy {metrics['test/accuracy']:.4f} (chance {chance:.4f})"
        scores = f"{accuracy}, loss {metrics['test/loss']:.4f}"
        log.info("%s  %s, %.0f s", title, scores, seconds)
        if collapsed:
            log.warning("%s  %s", title, remarks[0])
    checkpoints.remove()  # the run has finished and its model is logged
    return Result(logged.id, name, metrics, history, seconds, tags[run_tags.FINGERPRINT], collapsed, folder)


def _train(
    model: keras.Model,
    splits: Splits,
    config: Config,
    logged: Run,
    checkpoints: Checkpoints,
    title: str,
    pauses: Callable[[int, History], bool] | None,
) -> History:
    """Train the model, from the newest checkpoint if there is one; log and show each epoch when it ends."""
    from cifar_exp.training.fit import fit

    with console.EpochProgress(title, config.training.epochs) as progress:

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            logged.log_metrics(metrics, step=epoch)  # before it is shown: a shown epoch is always logged
            progress.epoch(epoch, metrics)
            if saved := checkpoints.latest():
                logged.offer_checkpoint(saved)

        if newest := checkpoints.newest():
            log.info("%s  goes on after epoch %d of %d", title, newest.epoch, config.training.epochs)
            for epoch in range(1, newest.epoch + 1):  # the last epoch may have been saved but not logged
                logged.log_metrics({name: values[epoch - 1] for name, values in newest.history.items()}, epoch)
            progress.skip(newest.epoch)
            if newest.file:
                logged.offer_checkpoint(newest.file)
        return fit(model, splits, config, on_epoch, checkpoints, pauses)


def _end_pruned(logged: Run, config: Config, job: Job, tags: Mapping[str, str], checkpoints: Checkpoints) -> None:
    """Log the results of a pruned run so far. It keeps its checkpoint and is not evaluated, since it may continue."""
    checkpoints.keep_newest()
    newest = checkpoints.newest()
    assert newest is not None
    artifacts.draw_curves(logged, config.run_name(job.varying), newest.history)
    logged.upload("figures")
    note = describe_pruned(config, job.overrides, tags, newest.history["val/accuracy"])
    logged.set_tags({"mlflow.note.content": note})


def run_id(folder: Path) -> str | None:
    """Id of the run in this folder; None if the run is not in the store yet."""
    return Progress.read(folder).run_id


def _tags(config: Config, job: Job, splits: Splits, start: InitialWeights | None = None) -> dict[str, str]:
    tags = {
        run_tags.FINGERPRINT: fingerprint.fingerprint(config, splits, start),
        run_tags.OVERRIDES: shlex.join(job.overrides),
        run_tags.BACKEND: runtime.backend(),
        run_tags.DEVICE: runtime.device(),
        run_tags.OUTCOME: run_tags.RUNNING,
        "review.state": "unreviewed",
        "review.by": "",
        "review.note": "",
        **job.tags,
        **environment.source_tags(),
    }
    if config.sweep.name:
        tags |= {run_tags.SWEEP: config.sweep.name, run_tags.JOB: str(job.number)}
        of_search = {run_tags.TRIAL: config.sweep.trial.number, run_tags.CONFIRMS: config.sweep.trial.confirms}
        tags |= {tag: str(number) for tag, number in of_search.items() if number is not None}
    published = {name: getattr(reported(config), name) for name in _REFERENCE_TAGS}
    tags |= {f"reference.{name}": str(value) for name, value in published.items() if value is not None}
    if used := plugins.used(config.data.name, kinds(config.model.layers)):
        tags[run_tags.PACKAGES] = json.dumps(used)
    if start:
        tags |= start.tags()
    if config.data.validation == "test":
        tags[run_tags.WARNING] = "validation on the test images: the best epoch was chosen on them"
    return tags
