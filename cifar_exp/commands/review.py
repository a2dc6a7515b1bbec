"""cifar-exp review: say what is to become of a run, or see what waits for that."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of
from cifar_exp.errors import UserError

_STATES = {"approve": "approved", "reject": "rejected", "request_rerun": "rerun-requested"}


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
    said = "approve a run, reject it or ask for it again; without any of these, what was said of it"
    review = commands.add_parser("review", parents=[store], help=said, description=f"{said.capitalize()}.")
    review.add_argument("run", nargs="?", metavar="RUN", help="its id, the first characters of that, or its name")
    what = review.add_mutually_exclusive_group()
    for name in _STATES:
        what.add_argument(f"--{name.replace('_', '-')}", action="store_const", const=_STATES[name], dest="state")
    what.add_argument("--queue", action="store_true", help="list the finished runs that wait for it, oldest first")
    review.add_argument("--note", metavar="TEXT", default="", help="what else there is to say")
    review.add_argument(
        "--even-though", metavar="REASON", default="", help="why to approve what the rules speak against"
    )
    review.add_argument("--json", action="store_true", help="print JSON")
    review.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="review.allow_own=true, say")
    review.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Always 0: a rule that does not let it be said is a refusal."""
    import json

    from cifar_exp import console
    from cifar_exp.review import query, queue, verdicts
    from cifar_exp.tracking.store import Store

    _check(arguments)
    named = [] if arguments.run is None or arguments.queue else [arguments.run]
    overrides = [arguments.run] if arguments.queue and arguments.run else []
    config = config_of(arguments, [*overrides, *arguments.overrides])
    store = Store.of(config.tracking)
    if not named:
        waiting = queue.waiting(store)
        if arguments.json:
            print(json.dumps([one.as_data() for one in waiting], indent=2))
            return 0
        count = len(waiting)
        wait = "1 run waits:" if count == 1 else f"{count} runs wait, the oldest first:"
        console.say(wait if waiting else "Nothing waits: every finished run was reviewed.")
        for one in waiting:
            console.say("\n" + "\n".join(one.lines))
        return 0
    (wanted,) = named
    found = query.get(store, wanted)
    if arguments.state:
        found = verdicts.give(
            *(store, found, arguments.state, store.user, arguments.note, arguments.even_though),
            allow_own=config.review.allow_own,
        )
    said = verdicts.history(found)
    if arguments.json:
        print(json.dumps([verdict.as_data() for verdict in said], indent=2))
        return 0
    console.say(f"{found.info.run_name}, run {found.info.run_id}: {verdicts.state(found)}")
    for verdict in said:
        console.say("\n".join(verdict.lines))
    if not said and (against := verdicts.objections(found)):
        console.say(f"  an approval needs a reason: {'; '.join(against)}")
    console.say(store.run_address(found.info.run_id))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.queue and (arguments.note or arguments.even_though):
        raise UserError("--note and --even-though are for a verdict: --approve, --reject or --request-rerun")
    if arguments.queue:
        if arguments.run and "=" not in arguments.run:
            raise UserError(f"--queue lists all that wait; {arguments.run!r} is too much")
        return
    if arguments.run is None:
        raise UserError("which run? cifar-exp review RUN --approve, or cifar-exp review --queue")
    if arguments.even_though and arguments.state != _STATES["approve"]:
        raise UserError("--even-though is a reason to approve: it goes with --approve")
    if arguments.note and not arguments.state:
        raise UserError("--note goes with --approve, --reject or --request-rerun")
