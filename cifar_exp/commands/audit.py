"""cifar-exp audit: verify the audit trail of a server that keeps the rules of review."""

from __future__ import annotations

import argparse
import os

from cifar_exp import exits
from cifar_exp.commands.parser import Commands, Parser
from cifar_exp.errors import UserError


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "verify that no row of a server's audit trail was changed or deleted"
    audit = commands.add_parser("audit", help=summary, description=f"{summary.capitalize()}.")
    source = audit.add_mutually_exclusive_group()
    source.add_argument("--server", metavar="URL", help="of the server (default: MLFLOW_TRACKING_URI); for approvers")
    source.add_argument("--database", metavar="URI", help="of its database, such as sqlite:///mlflow.db")
    audit.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify the trail and print what is wrong with it.

    Returns:
        Exit code 0, or 1 if a row was changed or is missing.

    Raises:
        UserError: if there is no trail to read.
    """
    from cifar_exp import console
    from cifar_exp.server import audit

    if arguments.database:
        rows, head = audit.read_database(arguments.database)
    else:
        uri = arguments.server or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri.startswith(("http://", "https://")):
            raise UserError("no server given: use cifar-exp audit --server URL or --database URI")
        rows, head = audit.read_server(uri)
    problems = list(audit.problems(rows, head))
    for problem in problems:
        console.say(problem)
    if problems:
        console.say("The audit trail was changed.")
        return exits.FAILED
    since = f", from {rows[0].at} to {rows[-1].at}" if rows else ""
    console.say(f"The audit trail is whole: {len(rows):,} rows{since}; the last hash is {head[1]}")
    return 0
