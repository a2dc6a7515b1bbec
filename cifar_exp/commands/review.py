"""cifar-exp review: record and show verdicts on runs, or list the runs that wait for a review."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of
from cifar_exp.errors import UserError

_ACTIONS = ("approve", "reject", "request-rerun", "withdraw")


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "approve a run, reject it, request a rerun or withdraw a verdict; without any of these, show its verdicts"
    review = commands.add_parser("review", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    review.add_argument("run", nargs="?", metavar="RUN", help="run id, first characters of the id, or name")
    action = review.add_mutually_exclusive_group()
    for name in _ACTIONS:
        action.add_argument(f"--{name}", action="store_const", const=name, dest="action")
    action.add_argument("--queue", action="store_true", help="list the finished runs that wait for a review")
    review.add_argument("--note", metavar="TEXT", default="", help="comment to record")
    review.add_argument("--even-though", metavar="REASON", default="", help="reason to approve in spite of the rules")
    review.add_argument("--json", action="store_true", help="print JSON")
    review.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings, such as review.allow_own=true"
    )
    review.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Record a verdict and print the verdicts on the run, or print the queue.

    Returns:
        Exit code 0.

    Raises:
        UserError: if the review rules forbid the verdict.
    """
    import json

    from cifar_exp import console
    from cifar_exp.review import query, queue, remote, verdicts
    from cifar_exp.tracking import addresses
    from cifar_exp.tracking.store import Store

    _check(arguments)
    named = [] if arguments.run is None or arguments.queue else [arguments.run]
    overrides = [arguments.run] if arguments.queue and arguments.run else []
    config = config_of(arguments, [*overrides, *arguments.overrides])
    store = Store.of(config.tracking)
    if not named:
        waiting = queue.waiting_runs(store)
        if arguments.json:
            print(json.dumps([waiting_run.as_data() for waiting_run in waiting], indent=2))
            return 0
        count = len(waiting)
        heading = "1 run waits:" if count == 1 else f"{count} runs wait, the oldest first:"
        console.say(heading if waiting else "Nothing waits: every finished run was reviewed.")
        for waiting_run in waiting:
            console.say("\n" + "\n".join(waiting_run.lines))
        return 0
    (name,) = named
    run = query.get(store, name)
    rules = remote.rule_server(store)
    if arguments.action and rules:
        run = rules.give(run, arguments.action, arguments.note, arguments.even_though)
    elif arguments.action:
        run = verdicts.give(
            *(store, run, verdicts.ACTIONS[arguments.action], store.user, arguments.note, arguments.even_though),
            allow_own=config.review.allow_own,
        )
    history = verdicts.history(run)
    if arguments.json:
        print(json.dumps([verdict.as_data() for verdict in history], indent=2))
        return 0
    console.say(f"{run.info.run_name}, run {run.info.run_id}: {verdicts.state(run)}")
    for verdict in history:
        unkept = [f"    {remote.BEFORE}"] if rules and not verdict.digest else []
        console.say("\n".join([*verdict.lines, *unkept]))
    if not history and (objections := verdicts.objections(run)):
        console.say(f"  an approval needs a reason: {'; '.join(objections)}")
    console.say(addresses.run(store, run.info.run_id))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.queue and (arguments.note or arguments.even_though):
        raise UserError("--note and --even-though go with a verdict, such as --approve")
    if arguments.queue:
        if arguments.run and "=" not in arguments.run:
            raise UserError(f"--queue lists all waiting runs and takes no run: got {arguments.run!r}")
        return
    if arguments.run is None:
        raise UserError("no run given: use cifar-exp review RUN --approve or cifar-exp review --queue")
    if arguments.even_though and arguments.action != "approve":
        raise UserError("--even-though goes with --approve only")
    if arguments.note and not arguments.action:
        raise UserError("--note goes with --approve, --reject, --request-rerun or --withdraw")
