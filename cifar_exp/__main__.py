"""The command `python -m cifar_exp`: compose all jobs, check them, run them."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from functools import partial

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from cifar_exp import console, exits, streams
from cifar_exp.config import composition
from cifar_exp.errors import Diverged, OutOfMemory, UserError
from cifar_exp.experiment import experiment
from cifar_exp.sweep import job
from cifar_exp.sweep.job import Ask
from cifar_exp.training import runtime


def main() -> int:
    """Run one command line.

    Returns:
        Exit code: 0, 1 after a failed run, 2 after an error that the user can fix, or 128 + signal.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise errors, so that they are printed here in one line
    arguments = get_args_parser().parse_args()
    only_asks = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    streams.tolerate_missing_readers(also_full_disks=not only_asks)
    console.set_up()
    raised: list[Exception] = []
    asks: list[Ask] = []

    def task(composed: DictConfig) -> None:
        try:
            job.run(composed, ask=next(iter(asks), None))
        except Exception as error:  # Hydra would print further lines
            raised.append(error)

    app = hydra.main(version_base="1.3", config_path=str(composition.CONF), config_name="config")(task)
    try:
        exits.take_signals()
        if arguments.config_name or arguments.config_path:
            raise UserError("--config-name and --config-path: there is one config; add files to it with --config-dir")
        if only_asks:
            try:
                app()
            except Exception as failure:
                raise UserError(composition.explain(failure)) from failure
            return 0
        runtime.check_backend()
        plan = composition.plan(arguments.overrides, arguments.multirun, arguments.config_dir)
        from cifar_exp.sweep import launcher

        parallel = launcher.chosen(plan.launcher)
        given = sys.argv[1:]
        command = shlex.join(given)
        if plan.space:
            from cifar_exp.search import run as search

            settings = search.check(plan)
            asks.append(search.ask)
        if plan.folder and not plan.is_named:
            from cifar_exp.sweep import parent

            if name := parent.find_earlier(plan, search.identity(given) if plan.space else command):
                again = [*arguments.overrides, f"sweep.name={name}"]
                plan = composition.plan(again, arguments.multirun, arguments.config_dir)
        sys.argv += plan.hand_over()  # Hydra reads sys.argv
        on_cluster = parallel is not None and parallel.address is not None
        plan.check(partial(experiment.check_surroundings, elsewhere=on_cluster))
        if launcher.is_basic(plan.launcher) and not runtime.threads_are_set():
            runtime.share_cores(plan.jobs, runtime.cores())
        if plan.folder is None:
            app()
            for error in raised:
                raise error
            return 0
        if plan.space:
            return search.run(plan, settings, app, given)
        from cifar_exp.sweep import run as sweep

        return sweep.run(plan, app, command)
    except UserError as error:
        console.refuse(error)
        return exits.REFUSED
    except KeyboardInterrupt:
        return _stopped()
    except (Diverged, OutOfMemory) as error:
        console.refuse(f"failed: {error}")
        return exits.FAILED
    except OSError as error:  # for example a full disk or a folder without write permission
        console.refuse(f"failed: {error}")
        return exits.FAILED
    except Exception as error:
        if exits.received():  # other code replaced the KeyboardInterrupt by this exception
            return _stopped()
        traceback.print_exc()
        console.refuse(f"failed: {type(error).__name__}: {error}")
        return exits.FAILED


def _stopped() -> int:
    code = exits.stop_code()
    console.refuse("stopped; a run that had begun is logged as KILLED")
    return code


if __name__ == "__main__":
    sys.exit(main())
