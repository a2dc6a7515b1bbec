"""cifar-exp sync: send what waits."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, store_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
    said = "send what runs could not while the tracking server was away, and tell of runs whose process is gone"
    sync = commands.add_parser("sync", parents=[store], help=said, description=f"{said.capitalize()}.")
    sync.add_argument("--status", action="store_true", help="only list what waits")
    sync.add_argument("folders", nargs="*", metavar="DIR", help="with runs in it (default: outputs)")
    sync.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """0 if nothing waits any more."""
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.tracking import heartbeat, sync

    found = sync.find(Path(folder) for folder in arguments.folders or ["outputs"])
    states = []
    for folder in found:
        state = sync.state_of(folder) if arguments.status else sync.send(folder, arguments.uri, arguments.experiment)
        states.append(state)
        said = "is being written, and sent by its own process" if state.live else f"{state.waiting} events wait"
        if state.sent:
            said = f"{state.sent} events sent to run {state.run_id}" + (f", {said}" if state.waiting else "")
        if state.live or state.waiting or state.sent or state.problems:
            console.say(f"{folder}  {state.name}  {said}" + (f": {state.away}" if state.away else ""))
        for problem in state.problems:
            console.refuse(f"{folder}: {problem}")
    store = store_of(arguments)
    if not arguments.status and store.exists() and not store.away():
        with store.translate_errors():
            for told in heartbeat.end_dead_runs(store):
                console.say(told)
    if not any(state.live or state.waiting or state.sent or state.problems for state in states):
        console.say(f"Nothing waits: {len(states)} runs, all sent.")
    return 0 if all(state.is_whole for state in states) else 1
