"""cifar-exp champion: show the current champion and its predecessors, or take the alias away."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of
from cifar_exp.errors import UserError


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "show all champions, the current one last, or remove the alias"
    champion = commands.add_parser("champion", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    champion.add_argument("--alias", default="champion", help="alias to look up (default: champion)")
    champion.add_argument("--remove", metavar="REASON", help="remove the alias, so that no version has it")
    champion.add_argument("--json", action="store_true", help="print JSON")
    champion.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings, such as review.model=NAME"
    )
    champion.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the champions, after removing the alias if that is asked for.

    Returns:
        Exit code 0.

    Raises:
        UserError: if no version has or had the alias, or the server forbids its removal.
    """
    import json

    from cifar_exp import console
    from cifar_exp.review import promotion, promotion_records, remote, removal
    from cifar_exp.tracking.store import Store

    config = config_of(arguments, arguments.overrides)
    store = Store.of(config.tracking)
    name = promotion.model_name(store, config.review.model)
    if arguments.remove is not None:
        if rules := remote.rule_server(store):
            rules.remove_alias(name, arguments.alias, arguments.remove)
        else:
            removal.remove(store, name, arguments.alias, store.user, arguments.remove)
    champions = promotion_records.history(store, name, arguments.alias)
    if not champions:
        raise UserError(promotion_records.no_version_message(store, name, arguments.alias))
    if arguments.json:
        print(json.dumps([champion.as_data() for champion in champions], indent=2))
        return 0
    for champion in champions:
        console.say("\n".join(champion.lines))
    if not champions[-1].now and (removed := removal.latest(store, name, arguments.alias)):
        console.say(removed.line)
    return 0
