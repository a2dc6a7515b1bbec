"""Run what a command line or a notebook asks for: compose all jobs, check them, hand them to Hydra."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

import cifar_exp
from cifar_exp.commands.parser import Parser
from cifar_exp.config import composition, composition_errors
from cifar_exp.config.plan import Plan
from cifar_exp.errors import UserError
from cifar_exp.experiment import experiment, requirements
from cifar_exp.sweep import job
from cifar_exp.sweep.job import Ask
from cifar_exp.tracking import local_run
from cifar_exp.training import runtime, threads


class _Task:
    """What Hydra calls with the config of each job.

    It keeps an exception, about which Hydra would print further lines.
    """

    def __init__(self, ask: Ask | None) -> None:
        self._ask = ask
        self.result: experiment.Result | None = None
        self.error: Exception | None = None

    def __call__(self, composed: DictConfig) -> None:
        try:
            self.result = job.run(composed, ask=self._ask)
        except Exception as error:
            self.error = error


@dataclass(frozen=True)
class Launched:
    """What a command line has run."""

    plan: Plan
    exit_code: int
    """0; 1 if not all jobs of a sweep finished, or a search found nothing."""
    result: experiment.Result | None = None
    """Of a single job."""


def parser() -> Parser:
    """Options of the command line: Hydra's, and one of ours."""
    options = Parser(
        prog="python -m cifar_exp", parents=[get_args_parser()], add_help=False, conflict_handler="resolve"
    )
    options.add_argument("--explain-config", action="store_true")  # described in conf/hydra/help/cifar_exp.yaml
    versions = f"cifar_exp {cifar_exp.__version__}, Hydra {hydra.__version__}"
    options.add_argument("--version", action="version", version=versions)  # in place of Hydra's
    return options


def parse() -> argparse.Namespace:
    """Read options and overrides from `sys.argv`, in any order.

    Hydra reads `sys.argv` again. It does not understand overrides on both sides of an option, so then they are moved to
    the end.

    Raises:
        UserError: for an option that is unknown, cannot be used here, or needs another one.
    """
    arguments, not_understood = parser().parse_known_args()
    if not_understood:
        arguments = parser().parse_intermixed_args()
        options = sys.argv[1:]
        for override in arguments.overrides:
            options.remove(override)
        sys.argv[1:] = [*options, *arguments.overrides]
    _check(arguments)
    return arguments


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options with which Hydra would fail only when all is checked, or do what was not meant."""
    if arguments.config_name or arguments.config_path:
        raise UserError("--config-name and --config-path: there is one config; add files to it with --config-dir")
    if arguments.experimental_rerun:
        raise UserError("--experimental-rerun: a pickle can run any code; repeat a logged run with cifar-exp reproduce")
    if arguments.run and arguments.multirun:
        raise UserError("--run and --multirun: give one of them")
    if arguments.multirun and (arguments.cfg or arguments.info):
        raise UserError(
            "--multirun: leave it out with --cfg and --info, which show one job; --explain-config shows the first of a "
            "sweep"
        )
    if arguments.resolve and not (arguments.cfg or arguments.help):
        raise UserError("--resolve: give it with --cfg")
    if arguments.package and not (arguments.cfg or arguments.explain_config):
        raise UserError("--package: give it with --cfg or --explain-config")


def app(task: Callable[[DictConfig], object]) -> Callable[[], Any]:
    """Hydra's command line; it reads `sys.argv`.

    Args:
        task: called with the config of each job.
    """

    @hydra.main(version_base="1.3", config_path=str(composition.CONF), config_name="config")  # type: ignore[untyped-decorator]
    def hydra_app(composed: DictConfig) -> None:  # Hydra names the jobs after the module of this function
        task(composed)

    named: Callable[[], Any] = hydra_app
    return named


def show(arguments: argparse.Namespace) -> None:
    """Let Hydra print what is asked for: help, a config, or what it has found.

    Args:
        arguments: `sys.argv`, parsed by Hydra.

    Raises:
        UserError: if there is nothing to print; where a run would be refused, for the same reason.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            app(job.run)()
    except SystemExit as ended:
        if arguments.package:
            raise UserError(_nothing_at(arguments)) from ended
        sys.stderr.write(said.getvalue())
        raise
    except Exception as failure:
        if arguments.shell_completion:
            raise UserError(" ".join(str(failure).split())) from failure
        composition.plan(arguments.overrides, arguments.multirun, arguments.config_dir)
        with composition.composing():
            raise UserError(composition_errors.explain(failure)) from failure
    sys.stderr.write(said.getvalue())


def _nothing_at(arguments: argparse.Namespace) -> str:
    """Say why --package shows nothing.

    Raises:
        UserError: if the config has no such part; it names the nearest one.
    """
    if arguments.package.partition(".")[0] == "hydra":
        hint = "; --cfg hydra shows those of Hydra" if arguments.cfg == "job" else ""
        return f"-p {arguments.package}: no such part{hint}"
    from cifar_exp.config import explanation

    explanation.explain_config(arguments.overrides, False, arguments.config_dir, arguments.package)
    return f"-p {arguments.package}: its value is null"


def run(arguments: argparse.Namespace) -> Launched:
    """Run the job or the sweep of a command line.

    Args:
        arguments: `sys.argv`, parsed by Hydra.

    Raises:
        UserError: if a job cannot run; then none has begun.
        Exception: of a single job that failed.
        KeyboardInterrupt: after what has been done is logged.
    """
    runtime.check_backend()
    plan = composition.plan(arguments.overrides, arguments.multirun, arguments.config_dir)
    if arguments.run and plan.folder:
        raise UserError("hydra.mode=MULTIRUN: got a sweep, expected one run: --run and cifar_exp.train train one")
    from cifar_exp.sweep import launcher

    parallel = launcher.chosen(plan.launcher)
    given = sys.argv[1:]
    command = shlex.join(given)
    ask: Ask | None = None
    if plan.space:
        from cifar_exp.search import run as search

        settings = search.check(plan)
        ask = search.ask
    if plan.folder and not plan.is_named:
        from cifar_exp.sweep import parent

        if name := parent.find_earlier(plan, search.identity(given) if plan.space else command):
            again = [*arguments.overrides, f"sweep.name={name}"]
            plan = composition.plan(again, arguments.multirun, arguments.config_dir)
    for setting, folder in (("hydra.run.dir", plan.run_folder), ("hydra.sweep.dir", plan.folder)):
        if folder is not None:
            local_run.check_folder(folder, setting)
    sys.argv += plan.hand_over()
    on_cluster = parallel is not None and parallel.address is not None
    plan.check(partial(requirements.check, elsewhere=on_cluster))
    if launcher.is_basic(plan.launcher) and not threads.threads_are_set():
        threads.share_cores(plan.jobs, runtime.cores())

    task = _Task(ask)
    if plan.folder is None:
        app(task)()
        if task.error:
            raise task.error
        return Launched(plan, 0, task.result)
    if plan.space:
        return Launched(plan, search.run(plan, settings, app(task), given))
    from cifar_exp.sweep import run as sweep

    return Launched(plan, sweep.run(plan, app(task), command))
