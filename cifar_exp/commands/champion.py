"""cifar-exp champion: what is used, and what was before it."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of
from cifar_exp.errors import UserError


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
    said = "the line of champions, the present one last"
    champion = commands.add_parser("champion", parents=[store], help=said, description=f"Shows {said}.")
    champion.add_argument("--alias", default="champion", help="of the registered model (default: champion)")
    champion.add_argument("--json", action="store_true", help="print JSON")
    champion.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="review.model=NAME, say")
    champion.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """0 if there is one."""
    import json

    from cifar_exp import console
    from cifar_exp.review import promotion
    from cifar_exp.tracking.store import Store

    config = config_of(arguments, arguments.overrides)
    store = Store.of(config.tracking)
    name = promotion.model_name(store, config.review.model)
    champions = promotion.line(store, name, arguments.alias)
    if not champions:
        raise UserError(f"nothing is {name}@{arguments.alias} in {store.uri}: cifar-exp promote RUN makes it so")
    if arguments.json:
        print(json.dumps([one.as_data() for one in champions], indent=2))
        return 0
    for one in champions:
        console.say("\n".join(one.lines))
    return 0
