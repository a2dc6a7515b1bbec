"""cifar-exp sources: the published experiments."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase

from cifar_exp.commands.parser import Commands, Parser
from cifar_exp.errors import UserError, did_you_mean


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
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
    sources.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """The table, or what is missing, or run that."""
    from dataclasses import replace

    from cifar_exp import console
    from cifar_exp.review import published, published_runner, sources
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
    tracking = [published_runner.override(f"tracking.{key}", value) for key, value in given.items()]
    runner = published_runner.Runner(entries, store, tracking, arguments.overrides, arguments.config_dir)
    matched = published.match(entries, published.finished(store))
    if arguments.run:
        return runner.run(wanted, matched)
    if arguments.missing:
        without = {entry.name: runner.command(entry, matched) for entry in wanted if not matched[entry.name]}
        for name, command in without.items():
            console.say(f"{name:{max(map(len, without))}}  {command}")
        if not without:
            console.say(published_runner.NOTHING)
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
