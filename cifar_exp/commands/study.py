"""cifar-exp study: export a search as a study of Optuna."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, store_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "export a search as an Optuna study, for optuna-dashboard and Optuna's own functions"
    study = commands.add_parser("study", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    study.add_argument("name", metavar="NAME", help="name of the search")
    study.add_argument(
        "--storage", metavar="URL", required=True, help="where Optuna keeps studies, such as sqlite:///study.db"
    )
    study.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the study, or find that it is there.

    Returns:
        Exit code 0.

    Raises:
        UserError: if there is no such search, or the storage cannot be used.
    """
    from cifar_exp import console
    from cifar_exp.errors import UserError
    from cifar_exp.importing import is_installed
    from cifar_exp.search import export, finding

    if not is_installed("optuna"):
        raise UserError("cifar-exp study needs optuna: pip install 'cifar-exp[search]'")
    trials = finding.by_name(store_of(arguments), arguments.name)
    written = export.export(trials, arguments.name, arguments.storage)
    count = sum(not row.confirmed for row in trials.rows)
    done = "" if written else " already"
    console.say(f"{arguments.storage}{done} has the study {arguments.name} of {count} trials")
    console.say(f"Open it: optuna-dashboard {arguments.storage}")
    return 0
