"""cifar-exp sync: send logged events that are not in the tracking store yet."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, store_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "send what runs logged while the server was away, and mark runs whose process is gone as killed"
    sync = commands.add_parser("sync", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    sync.add_argument("--status", action="store_true", help="only list what waits to be sent")
    sync.add_argument("folders", nargs="*", metavar="DIR", help="folder with runs (default: outputs)")
    sync.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Send the events of all runs in the folders, or list what waits to be sent.

    Returns:
        Exit code: 0 if nothing waits any longer, otherwise 1.
    """
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.tracking import heartbeat, sync

    states = []
    for folder in sync.find(Path(folder) for folder in arguments.folders or ["outputs"]):
        state = sync.state_of(folder) if arguments.status else sync.send(folder, arguments.uri, arguments.experiment)
        states.append(state)
        status = "is being written, and sent by its own process" if state.live else f"{state.waiting} events wait"
        if state.sent:
            status = f"{state.sent} events sent to run {state.run_id}" + (f", {status}" if state.waiting else "")
        if state.live or state.waiting or state.sent or state.problems:
            console.say(f"{folder}  {state.name}  {status}" + (f": {state.away}" if state.away else ""))
        for problem in state.problems:
            console.refuse(f"{folder}: {problem}")
    store = store_of(arguments)
    if not arguments.status and store.exists() and not store.away():
        with store.translate_errors():
            for message in heartbeat.end_dead_runs(store):
                console.say(message)
    if not any(state.live or state.waiting or state.sent or state.problems for state in states):
        console.say(f"Nothing waits: {len(states)} runs, all sent.")
    return 0 if all(state.is_whole for state in states) else 1
