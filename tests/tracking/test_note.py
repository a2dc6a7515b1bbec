"""Tests of the description of a run."""

from __future__ import annotations

from collections.abc import Callable

from cifar_exp.config.schema import Config
from cifar_exp.tracking import note

TAGS = {"cifar_exp.git_commit": "0123456789abcdef", "cifar_exp.git_dirty": "false"}


def test_a_command_that_would_not_fit_is_left_out(compose: Callable[..., Config]) -> None:
    text = "n" * 2000
    config = compose(f"note={text}")
    short = note.describe_pruned(config, ("seed=1", f"note={text}"), TAGS, [0.5])
    assert short.endswith(f"Reproduce: `python -m cifar_exp seed=1 note={text}` at commit `0123456789ab`.")
    long = note.describe_pruned(config, (f"model.layers={'x' * 10_000}", f"note={text}"), TAGS, [0.5])
    assert long.endswith("Reproduce: `cifar-exp reproduce RUN` at commit `0123456789ab`.")
    assert text in long and len(long) < 8000  # where MLflow cuts a tag
