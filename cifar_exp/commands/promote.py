"""cifar-exp promote: let a run's model be the one that is used."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
    said = "give an alias to the model of an approved run that beats the one which has it"
    promote = commands.add_parser("promote", parents=[store], help=said, description=f"{said.capitalize()}.")
    promote.add_argument("run", metavar="RUN", help="its id, the first characters of that, or its name")
    promote.add_argument("--alias", default="champion", help="of the registered model (default: champion)")
    promote.add_argument("--note", metavar="TEXT", default="", help="what else there is to say")
    promote.add_argument("--even-though", metavar="REASON", default="", help="why, in spite of what the rules say")
    promote.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="review.model=NAME, say")
    promote.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Always 0: a rule that does not let it be is a refusal."""
    from cifar_exp import console
    from cifar_exp.review import promotion, query
    from cifar_exp.tracking.store import Store

    config = config_of(arguments, arguments.overrides)
    store = Store.of(config.tracking)
    name = promotion.model_name(store, config.review.model)
    wanted = query.get(store, arguments.run)
    done = promotion.promote(store, wanted, name, arguments.alias, store.user, arguments.note, arguments.even_though)
    console.say("\n".join(done.lines))
    serve = f"mlflow models serve --env-manager local --port 5001 -m models:/{name}@{arguments.alias}"
    console.say(f"Serve it:  MLFLOW_TRACKING_URI={store.uri} {serve}")
    return 0
