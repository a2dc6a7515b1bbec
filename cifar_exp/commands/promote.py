"""cifar-exp promote: make a run's model the champion."""

from __future__ import annotations

import argparse
import shlex

from cifar_exp.commands.parser import Commands, Parser, config_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "make the model of an approved run the champion if it is better than the current one"
    promote = commands.add_parser("promote", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    promote.add_argument("run", metavar="RUN", help="run id, first characters of the id, or name")
    promote.add_argument("--alias", default="champion", help="alias to set (default: champion)")
    promote.add_argument("--note", metavar="TEXT", default="", help="comment to record")
    promote.add_argument("--even-though", metavar="REASON", default="", help="reason to promote in spite of the rules")
    promote.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings, such as review.model=NAME"
    )
    promote.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Promote the run and print how to serve its model.

    Returns:
        Exit code 0.

    Raises:
        UserError: if the promotion rules forbid it.
    """
    from cifar_exp import console
    from cifar_exp.review import promotion, query, remote
    from cifar_exp.tracking.store import Store

    config = config_of(arguments, arguments.overrides)
    store = Store.of(config.tracking)
    name = promotion.model_name(store, config.review.model)
    run = query.get(store, arguments.run)
    reasons = (arguments.note, arguments.even_though)
    if rules := remote.rule_server(store):
        promoted = rules.promote(run, name, arguments.alias, *reasons)
    else:
        promoted = promotion.promote(store, run, name, arguments.alias, store.user, *reasons)
    console.say("\n".join(promoted.lines))
    model = shlex.quote(f"models:/{name}@{arguments.alias}")
    serve = f"mlflow models serve --env-manager local --port 5001 -m {model}"
    console.say(f"Serve it:  MLFLOW_TRACKING_URI={shlex.quote(store.uri)} {serve}")
    return 0
