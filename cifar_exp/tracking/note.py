"""Description of a run in MLflow's UI: its results, the user's note, and the command that reproduces it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from cifar_exp.config.schema import Config
from cifar_exp.tracking import run_tags

_LONGEST_COMMAND = 4000  # characters; MLflow cuts a description after 8,000


def describe(
    config: Config,
    overrides: Sequence[str],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    chance: float,
    epochs: int,
    seconds: float,
    remarks: Sequence[str],
) -> str:
    """Write the description of a finished run in Markdown.

    Args:
        config: settings of the run.
        overrides: overrides of its job.
        tags: its logged tags.
        metrics: its final metrics.
        chance: accuracy of always answering the most frequent class of the test images.
        epochs: number of trained epochs.
        seconds: duration of the run.
        remarks: on the course of the training, one sentence each, without a full stop.
    """
    accuracy = f"**Test accuracy {metrics['test/accuracy']:.4f}** (chance {chance:.4f})"
    scores = f"{accuracy}, loss {metrics['test/loss']:.4f}, calibration error {metrics['test/ece']:.4f}"
    best = f"best validation accuracy {metrics['val/best_accuracy']:.4f}"
    when = f"at epoch {metrics['val/best_epoch']:.0f} of {epochs}"
    size = f"{metrics['model/parameters']:,.0f} parameters; {seconds:.0f} s on {tags[run_tags.DEVICE]}"
    warning = f"**Warning:** {tags[run_tags.WARNING]}." if run_tags.WARNING in tags else None
    paragraphs = [
        f"{scores}; {best} {when}; {size}.",
        config.note,
        *(f"{remark}." for remark in remarks),
        warning,
        _reproduce(overrides, tags),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def describe_pruned(
    config: Config, overrides: Sequence[str], tags: Mapping[str, str], accuracies: Sequence[float]
) -> str:
    """Write the description of a run that a search has pruned, in Markdown.

    Args:
        config: settings of the run.
        overrides: overrides of its job.
        tags: its logged tags.
        accuracies: validation accuracy after each epoch so far.
    """
    when = f"after epoch {len(accuracies)} of {config.training.epochs}"
    best = f"its best validation accuracy was {max(accuracies):.4f}"
    paragraphs = [
        f"**Pruned {when}** by the search: {best}. It has no model and was not evaluated on the test images.",
        config.note,
        _reproduce(overrides, tags),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _reproduce(overrides: Sequence[str], tags: Mapping[str, str]) -> str:
    command = f"python -m cifar_exp {shlex.join(overrides)}".rstrip()
    if len(command) > _LONGEST_COMMAND:
        command = "cifar-exp reproduce RUN"  # config/overrides.yaml has what was given
    dirty = ", with uncommitted changes" if tags[run_tags.GIT_DIRTY] == "true" else ""
    return f"Reproduce: `{command}` at commit `{tags[run_tags.GIT_COMMIT][:12]}`{dirty}."
