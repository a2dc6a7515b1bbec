"""cifar-exp: what is done beside running, a subcommand each."""

from __future__ import annotations

import argparse
import sys
import traceback

from cifar_exp import exits, streams
from cifar_exp.commands import (
    champion,
    compare,
    doctor,
    predict,
    promote,
    report,
    reproduce,
    review,
    sources,
    sync,
)
from cifar_exp.commands.parser import Parser, store_options
from cifar_exp.errors import Diverged, OutOfMemory, UserError

# In the order of --help.
_COMMANDS = (compare, report, review, promote, champion, predict, sources, sync, reproduce, doctor)


def main() -> int:
    """Answer one command line; the exit code is 0, 1 for a failure, 2 for a refusal, or 128 + signal."""
    streams.outlast()
    try:
        exits.take_signals()
        arguments = _parsed()
        code: int = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _refuse(error, exits.REFUSED)
    except KeyboardInterrupt:
        return _refuse("stopped", exits.of_stop())
    except (OSError, Diverged, OutOfMemory) as error:
        return _refuse(f"failed: {error}", exits.FAILED)
    except Exception as error:
        if exits.received():  # what was interrupted has made this of it
            return _refuse("stopped", exits.of_stop())
        traceback.print_exc()
        return _refuse(f"failed: {type(error).__name__}: {error}", exits.FAILED)


def _parsed() -> argparse.Namespace:
    """With overrides wherever they stand: argparse leaves those over that come after an option."""
    parser = _parser()
    arguments, left = parser.parse_known_args()
    if left and "overrides" in arguments and all("=" in one and not one.startswith("-") for one in left):
        arguments.overrides += left
    elif left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return arguments


def _parser() -> Parser:
    parser = Parser(prog="cifar-exp", description="What is done with logged runs. python -m cifar_exp makes them.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    store = store_options()
    for command in _COMMANDS:
        command.add(commands, store)
    return parser


def _refuse(reason: object, code: int) -> int:
    from cifar_exp import console

    console.refuse(reason)
    return code


if __name__ == "__main__":
    sys.exit(main())
