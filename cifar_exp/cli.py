"""The command `cifar-exp` and its list of subcommands."""

from __future__ import annotations

import argparse
import sys

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
    except (Exception, KeyboardInterrupt) as error:
        code, reason = exits.explain(error)
        from cifar_exp import console  # not before: --help is to be quick

        console.refuse(reason)
        return code


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


if __name__ == "__main__":
    sys.exit(main())
