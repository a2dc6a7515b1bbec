"""cifar-exp sources: compare the published experiments with our runs, or run them."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase

from cifar_exp.commands.parser import Commands, Parser
from cifar_exp.errors import UserError, did_you_mean


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "compare the results of the published experiments with our runs of them"
    sources = commands.add_parser("sources", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    action = sources.add_mutually_exclusive_group()
    action.add_argument(
        "--missing", action="store_true", help="list the experiments without a run, with the command for each"
    )
    action.add_argument("--run", action="store_true", help="run the experiments without a run, the cheapest first")
    action.add_argument("--markdown", action="store_true", help="print the table as a Markdown page")
    action.add_argument("--csv", action="store_true", help="print the table with all columns as CSV")
    sources.add_argument("--only", metavar="PATTERN", default="*", help="only names such as 's2_*' (default: all)")
    sources.add_argument("--config-dir", metavar="DIR", help="folder with further experiments, in DIR/experiment")
    sources.add_argument("--note", metavar="TEXT", default="", help="sentence to add to the Markdown page")
    sources.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="OVERRIDE",
        help="settings of the runs, such as data.verify=size or seed=1",
    )
    sources.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, list the missing experiments, or run them.

    Returns:
        Exit code: 0, or 1 if an experiment still has no run after --run.
    """
    from dataclasses import replace

    from cifar_exp import console
    from cifar_exp.config.overrides import write
    from cifar_exp.review import published, published_runner, sources
    from cifar_exp.tracking.store import Store

    if arguments.overrides and not (arguments.run or arguments.missing):
        raise UserError(f"{' '.join(arguments.overrides)}: overrides are for --run and --missing")
    entries = published.entries(arguments.config_dir, arguments.only)
    sourced = [entry for entry in entries if entry.reference.source]  # the user's own experiments may have no source
    wanted = [entry for entry in sourced if fnmatchcase(entry.name, arguments.only)]
    if not wanted:
        composed = {file for entry in entries for file in (entry.name, entry.name.partition("=")[0])}
        names = [entry.name for entry in sourced] + sorted({*published.names(arguments.config_dir)} - composed)
        raise UserError(f"--only {arguments.only}: no such experiment{did_you_mean(arguments.only, names)}")
    options = {"uri": arguments.uri, "experiment": arguments.experiment}
    options = {key: value for key, value in options.items() if value}
    store = Store.of(replace(wanted[0].config.tracking, **options))
    tracking = [write(f"tracking.{key}", value) for key, value in options.items()]
    runner = published_runner.Runner(entries, store, tracking, arguments.overrides, arguments.config_dir)
    matched = published.match(entries, published.finished(store))
    if arguments.run:
        return runner.run(wanted, matched)
    if arguments.missing:
        missing = {entry.name: runner.command(entry, matched) for entry in wanted if not matched[entry.name]}
        for name, command in missing.items():
            console.say(f"{name:{max(map(len, missing))}}  {command}")
        if not missing:
            console.say(published_runner.NOTHING_MISSING)
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
