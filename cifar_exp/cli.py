"""cifar-exp: what is done beside running, a subcommand each."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from fnmatch import fnmatchcase
from typing import NoReturn

from cifar_exp import exits
from cifar_exp.errors import UserError, did_you_mean


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """In one line, like any refusal."""
        raise UserError(f"{message} ({self.prog} --help says what there is)")


def main() -> int:
    """Answer one command line; the exit code is 0, 1 for a failure, 2 for a refusal, or 128 + signal."""
    exits.take_signals()
    try:
        arguments = _parser().parse_args()
        code: int = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _refuse(error, exits.REFUSED)
    except KeyboardInterrupt as stop:
        return _refuse("stopped", exits.of_stop(stop))
    except BrokenPipeError:  # who read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refuse(f"failed: {error}", exits.FAILED)
    except Exception as error:
        traceback.print_exc()
        return _refuse(f"failed: {type(error).__name__}: {error}", exits.FAILED)


def _parser() -> _Parser:
    parser = _Parser(prog="cifar-exp", description="What is done with logged runs. python -m cifar_exp makes them.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    store = _Parser(add_help=False)
    store.add_argument("--uri", help="tracking store (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)")
    store.add_argument("--experiment", help="the MLflow experiment in it (default: as in conf/tracking)")

    said = "train a logged run again from its logged config, and say whether it comes to the same"
    again = commands.add_parser("reproduce", parents=[store], help=said, description=f"{said.capitalize()}.")
    again.add_argument("run", metavar="RUN", help="its id")
    again.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what differs here: data.dir=..., say")
    again.set_defaults(command=_reproduce)

    said = "send what runs could not while the tracking server was away"
    sync = commands.add_parser("sync", parents=[store], help=said, description=f"{said.capitalize()}.")
    sync.add_argument("--status", action="store_true", help="only list what waits")
    sync.add_argument("folders", nargs="*", metavar="DIR", help="with runs in it (default: outputs)")
    sync.set_defaults(command=_sync)

    said = "what the published experiments report, beside our runs of them"
    sources = commands.add_parser("sources", parents=[store], help=said, description=f"Shows {said}.")
    how = sources.add_mutually_exclusive_group()
    how.add_argument("--missing", action="store_true", help="list those without a run, and the command for each")
    how.add_argument("--run", action="store_true", help="run those without a run, the cheapest first")
    how.add_argument("--markdown", action="store_true", help="the table as a page")
    how.add_argument("--csv", action="store_true", help="the table with all its columns")
    sources.add_argument("--only", metavar="PATTERN", default="*", help="names such as 's2_*' (default: all)")
    sources.add_argument("--config-dir", metavar="DIR", help="of further experiments, in DIR/experiment")
    sources.add_argument("--note", metavar="TEXT", default="", help="a sentence for the page")
    sources.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="for the runs: data.verify=size, seed=1")
    sources.set_defaults(command=_sources)
    return parser


def _sources(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from cifar_exp import console
    from cifar_exp.review import missing, published, sources
    from cifar_exp.tracking.store import Store

    if arguments.overrides and not (arguments.run or arguments.missing):
        raise UserError(f"{' '.join(arguments.overrides)}: overrides are for --run and --missing")
    entries = published.entries(arguments.config_dir)
    sourced = [entry for entry in entries if entry.reference.source]  # a preset of one's own need not have one
    wanted = [entry for entry in sourced if fnmatchcase(entry.name, arguments.only)]
    if not wanted:
        names = [entry.name for entry in sourced]
        raise UserError(f"--only {arguments.only}: no such experiment{did_you_mean(arguments.only, names)}")
    given = {"uri": arguments.uri, "experiment": arguments.experiment}
    given = {key: value for key, value in given.items() if value}
    store = Store.of(replace(entries[0].config.tracking, **given))
    tracking = [missing.override(f"tracking.{key}", value) for key, value in given.items()]
    runner = missing.Runner(entries, store, tracking, arguments.overrides, arguments.config_dir)
    matched = published.match(entries, published.finished(store))
    if arguments.run:
        return runner.run(wanted, matched)
    if arguments.missing:
        without = {entry.name: runner.command(entry, matched) for entry in wanted if not matched[entry.name]}
        for name, command in without.items():
            console.say(f"{name:{max(map(len, without))}}  {command}")
        if not without:
            console.say(missing.NOTHING)
        return 0
    frame = sources.table(wanted, matched, store)
    if arguments.csv:
        sys.stdout.write(sources.csv(frame))
    elif arguments.markdown:
        sys.stdout.write(sources.markdown(frame, store, arguments.note))
    else:
        from rich.console import Console

        terminal = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        terminal.print(sources.terminal(frame))
        for line in [*sources.notes(frame, store), *sources.remarks(frame)]:
            terminal.print(line, markup=False)
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from datetime import datetime
    from pathlib import Path

    from cifar_exp import console, reproduce
    from cifar_exp.composition import plan
    from cifar_exp.config import TrackingConfig
    from cifar_exp.tracking.store import Store

    experiment = arguments.experiment or plan([], multirun=False).jobs[0].tracking.experiment
    store = Store.of(TrackingConfig(uri=arguments.uri, experiment=experiment))
    console.set_up()
    logged = reproduce.read(store, arguments.run, arguments.overrides)
    console.say(f"Again: {logged.name}, run {logged.id}")
    folder = Path("outputs") / "reproduced" / f"{logged.id[:8]}-{datetime.now():%Y-%m-%d_%H-%M-%S}"
    verdict = reproduce.again(logged, store, folder)
    console.say("\n" + "\n".join(verdict.lines))
    return 0 if verdict.matches else 1


def _sync(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.tracking import sync

    found = sync.find(Path(folder) for folder in arguments.folders or ["outputs"])
    states = []
    for folder in found:
        state = sync.look(folder) if arguments.status else sync.send(folder, arguments.uri, arguments.experiment)
        states.append(state)
        said = "is being written, and sent by its own process" if state.live else f"{state.waiting} events wait"
        if state.sent:
            said = f"{state.sent} events sent to run {state.run_id}" + (f", {said}" if state.waiting else "")
        if state.live or state.waiting or state.sent or state.problems:
            console.say(f"{folder}  {state.name}  {said}" + (f": {state.away}" if state.away else ""))
        for problem in state.problems:
            console.refuse(f"{folder}: {problem}")
    if not any(state.live or state.waiting or state.sent or state.problems for state in states):
        console.say(f"Nothing waits: {len(states)} runs, all sent.")
    return 0 if all(state.is_whole for state in states) else 1


def _refuse(reason: object, code: int) -> int:
    from cifar_exp import console

    console.refuse(reason)
    return code


if __name__ == "__main__":
    sys.exit(main())
