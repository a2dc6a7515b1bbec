"""The command `python -m cifar_exp`: its exit codes, and its errors in one line."""

from __future__ import annotations

import os
import sys

from cifar_exp import console, exits, launch, streams
from cifar_exp.errors import UserError


def main() -> int:
    """Run one command line.

    Returns:
        Exit code: 0, 1 after a failed run, 2 after an error that the user can fix, or 128 + signal.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise errors, so that they are printed here in one line
    try:
        arguments = launch.parse()
    except UserError as error:
        console.refuse(error)
        return exits.REFUSED
    only_asks = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    streams.tolerate_missing_readers(also_full_disks=not (only_asks or arguments.explain_config))
    console.set_up()
    try:
        exits.take_signals()
        if arguments.explain_config:
            if only_asks:
                raise UserError("--explain-config: give it without --cfg, --info and --help")
            from cifar_exp.config import explanation

            asked = arguments.overrides, arguments.multirun, arguments.config_dir, arguments.package
            sys.stdout.write(explanation.explain_config(*asked))
            return 0
        if only_asks:
            launch.show(arguments)
            return 0
        return launch.run(arguments).exit_code
    except (Exception, KeyboardInterrupt) as error:
        code, reason = exits.explain(error, "stopped; a run that had begun is logged as KILLED")
        console.refuse(reason)
        return code


if __name__ == "__main__":
    sys.exit(main())
