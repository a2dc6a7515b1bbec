"""The command `cifar-exp` and its list of subcommands."""

from __future__ import annotations

import argparse
import sys
import traceback

from cifar_exp import __version__, exits, streams
from cifar_exp.commands import (
    audit,
    card,
    champion,
    compare,
    data,
    doctor,
    ensemble,
    evaluate,
    explain,
    export,
    learning_curve,
    mislabeled,
    predict,
    preset,
    promote,
    report,
    reproduce,
    review,
    slices,
    sources,
    study,
    sync,
)
from cifar_exp.commands.parser import Parser, store_options
from cifar_exp.errors import Diverged, OutOfMemory, UserError

# In the order of --help.
_COMMANDS = (
    data,
    compare,
    report,
    review,
    promote,
    champion,
    audit,
    ensemble,
    slices,
    learning_curve,
    card,
    predict,
    evaluate,
    explain,
    mislabeled,
    export,
    preset,
    study,
    sources,
    sync,
    reproduce,
    doctor,
)


def main() -> int:
    """Run one command line.

    Returns:
        Exit code: 0, 1 after a failure, 2 after an error that the user can fix, or 128 + signal.
    """
    streams.tolerate_missing_readers()
    try:
        exits.take_signals()
        arguments = _parsed()
        code: int = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _refuse(error, exits.REFUSED)
    except KeyboardInterrupt:
        return _refuse("stopped", exits.stop_code())
    except (OSError, Diverged, OutOfMemory) as error:
        return _refuse(f"failed: {error}", exits.FAILED)
    except Exception as error:
        if exits.received():  # other code replaced the KeyboardInterrupt by this exception
            return _refuse("stopped", exits.stop_code())
        traceback.print_exc()
        return _refuse(f"failed: {type(error).__name__}: {error}", exits.FAILED)


def _parsed() -> argparse.Namespace:
    """Parse the command line; overrides may also follow an option, where argparse does not expect them."""
    parser = _parser()
    arguments, unparsed = parser.parse_known_args()
    if unparsed and "overrides" in arguments and all("=" in text and not text.startswith("-") for text in unparsed):
        arguments.overrides += unparsed
    elif unparsed:
        parser.error(f"unrecognized arguments: {' '.join(unparsed)}")
    return arguments


def _parser() -> Parser:
    parser = Parser(prog="cifar-exp", description="Commands for logged runs. `python -m cifar_exp` creates runs.")
    parser.add_argument("--version", action="version", version=f"cifar_exp {__version__}")
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
