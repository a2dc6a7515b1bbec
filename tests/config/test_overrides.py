"""Overrides that Hydra's grammar refuses are told how to be written; ranges are told where they belong."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from cifar_exp.config.composition import plan
from cifar_exp.errors import UserError


def refusal(*overrides: str, multirun: bool = False) -> str:
    with pytest.raises(UserError) as refused:
        plan(overrides, multirun)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("multirun", [False, True])
@pytest.mark.parametrize(
    "text", ["#1", "你好", "a=b", "(x)", "[1", "{a", 'say "x"', "it's", "f(1)", "a&b", "<x>", "#1,2"]
)
def test_text_that_needs_quotes_is_told_with_quotes_that_a_shell_takes(text: str, multirun: bool) -> None:
    said = refusal(f"note={text}", multirun=multirun)
    assert said.startswith(
        f"{f'note={text}'!r}: Hydra cannot read the value {text!r}; text with such characters needs "
    )
    (quoted,) = shlex.split(said.partition("which a shell takes as ")[2])
    assert plan([quoted], multirun).jobs[0].note == text


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.learning_rate=interval(1e-4,1e-1)",
        "optimizer.learning_rate=tag(rate,interval(1e-4,1e-1))",
        "++optimizer.learning_rate=interval(1e-4,1e-1)",
    ],
)
@pytest.mark.parametrize("multirun", [False, True])
def test_an_interval_is_for_a_search_alone(override: str, multirun: bool) -> None:
    said = refusal(override, multirun=multirun)
    assert said.startswith(f"{override}: an interval has no single values; only a search can draw from it.")
    key = override.partition("=")[0]
    values = said.partition("A sweep takes values: ")[2].partition(" or ")[0]
    assert [job.optimizer.learning_rate for job in plan([values], multirun=True).jobs] == [1e-4, 1e-1]
    assert f"{key}=choice(" in said and f"{key}=range(" in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=range(3,1)", "seed=range(3,1): holds no value, expected at least one"),
        ("model=glob(zz*)", "model=glob(zz*): holds no value, expected at least one"),
        ("seed=range(1,3,0)", "seed=range(1,3,0): range() arg 3 must not be zero"),
        ("seed=range(a)", "'seed=range(a)': TypeError while evaluating 'range(a)': mismatch type argument start"),
        ("sweep.retries=1,2", "sweep.retries=1,2: got several values, expected one"),
        ("hydra.job.name=a,b", "hydra.job.name=a,b: got several values, expected one"),
    ],
)
def test_values_that_make_no_jobs_are_refused(override: str, said: str) -> None:
    assert refusal(override, multirun=True).startswith(said)


def test_functions_and_mappings_are_read_where_python_leaves_asserts_out() -> None:
    program = """
from cifar_exp.config.composition import plan
jobs = plan(["seed=range(1,3)", "model.layers=[Flatten,{Dense:{units:10}}]", "training.epochs=int('3')"], True).jobs
print([(job.seed, job.model.layers[1].arguments, job.training.epochs) for job in jobs])
"""
    environment = os.environ | {"PYTHONOPTIMIZE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(1, {'units': 10}, 3), (2, {'units': 10}, 3)]\n", "")
