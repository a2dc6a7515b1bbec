"""cifar-exp champion: show the current champion and its predecessors."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of
from cifar_exp.errors import UserError


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "show all champions, the current one last"
    champion = commands.add_parser("champion", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    champion.add_argument("--alias", default="champion", help="alias to look up (default: champion)")
    champion.add_argument("--json", action="store_true", help="print JSON")
    champion.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, such as review.model=NAME")
    champion.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the champions.

    Returns:
        Exit code 0.

    Raises:
        UserError: if no version has the alias.
    """
    import json

    from cifar_exp import console
    from cifar_exp.review import promotion, promotion_records
    from cifar_exp.tracking.store import Store

    config = config_of(arguments, arguments.overrides)
    store = Store.of(config.tracking)
    name = promotion.model_name(store, config.review.model)
    champions = promotion_records.history(store, name, arguments.alias)
    if not champions:
        raise UserError(promotion_records.no_version_message(store, name, arguments.alias))
    if arguments.json:
        print(json.dumps([champion.as_data() for champion in champions], indent=2))
        return 0
    for champion in champions:
        console.say("\n".join(champion.lines))
    return 0
