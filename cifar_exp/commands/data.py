"""cifar-exp data: show what a data set is, and the cache of decoded images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cifar_exp.commands.parser import Commands, Parser, aside, file_to_write
from cifar_exp.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cifar_exp.data.splits import Split


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "show what a data set is: classes, sizes, formats, duplicates, unreadable images, samples"
    data = commands.add_parser("data", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    data.add_argument(
        "overrides", nargs="*", default=[], metavar="OVERRIDE", help="selects the data set: data=folder data.dir=photos"
    )
    data.add_argument("--config-dir", metavar="DIR", help="folder with further choices, such as DIR/data/my_set.yaml")
    data.add_argument("-o", "--output", type=file_to_write, metavar="FILE", help="write an HTML page with pictures")
    data.add_argument("--json", action="store_true", help="print JSON")
    data.add_argument("--cache", action="store_true", help="list the cache of decoded images instead")
    data.add_argument("--clear", metavar="KEY", help="with --cache: remove the entry of this key, or all")
    data.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the numbers of a data set, or the entries of the cache.

    Returns:
        Exit code 0, also if images cannot be read: they are listed.
    """
    if arguments.clear and not arguments.cache:
        raise UserError(f"--clear {arguments.clear}: only the cache has entries: add --cache")
    if arguments.cache:
        if arguments.overrides or arguments.output:
            raise UserError("--cache lists the images of all data sets: leave OVERRIDE and --output out")
        return _cache(arguments)
    import json

    from cifar_exp import console
    from cifar_exp.data import analysis, summary

    with aside(arguments):
        name, parts, found, files, refusals = _analysed(arguments.overrides, arguments.config_dir)
    if arguments.output:
        from cifar_exp.evaluation import data_page

        arguments.output.write_text(data_page.render(found, parts, files, refusals), encoding="utf-8")
    if arguments.json:
        print(json.dumps(analysis.report(found, files, refusals), indent=2))
        return 0
    console.say(summary.text(found, files, refusals))
    if arguments.output:
        console.say(f"\n{arguments.output}: the page of {name}")
    return 0


_Analysed = tuple[str, "Mapping[str, Split]", dict[str, Any], dict[str, Any] | None, list[str]]


def _analysed(overrides: Sequence[str], config_dir: str | None) -> _Analysed:
    """Name, images, analysis and files of the data set, and why a run would be refused."""
    from cifar_exp import console
    from cifar_exp.config.composition import plan
    from cifar_exp.data import analysis, datasets
    from cifar_exp.data.schema import FILES

    console.set_up()
    anything = "model=dense"  # a model that takes images of any shape
    (config,) = plan([anything, *overrides], multirun=False, config_dir=config_dir).jobs
    if config.data.name in FILES:
        parts, classes, source, listing, refusals = datasets.inspect(config.data)
    else:
        splits = datasets.load(config.data)
        parts, classes, source, listing, refusals = analysis.parts_of(splits), splits.classes, splits.source, None, []
    found = analysis.analyse(config.data.name, parts, classes, source, listing)
    return config.data.name, parts, found, analysis.of_files(config.data, listing), refusals


def _cache(arguments: argparse.Namespace) -> int:
    """List the entries of the cache, or remove some."""
    import json
    from datetime import datetime

    from cifar_exp import console
    from cifar_exp.data import cache, contents, kept

    entries = cache.entries()
    if arguments.clear:
        chosen = [entry for entry in entries if arguments.clear in ("all", entry.key)]
        if arguments.clear == "all":
            kept.clear()
            contents.forget(cache.folder())
        elif not chosen:
            raise UserError(f"--clear {arguments.clear}: no such entry in {cache.folder()}; --cache lists them")
        removed = [entry for entry in chosen if cache.remove(entry)]
        freed = sum(entry.size for entry in removed)
        console.say(f"{cache.folder()}: removed {len(removed)} of {len(entries)} entries, {freed / 1e6:,.1f} MB")
        for entry in chosen:
            if entry not in removed:
                console.say(f"{entry.key} is being filled by another process")
        return 0
    if arguments.json:
        rows = [
            {"key": one.key, "source": one.source, "images": one.images, "bytes": one.size, "used": one.used}
            for one in entries
        ]
        print(json.dumps({"folder": str(cache.folder()), "entries": rows}, indent=2))
        return 0
    total = sum(entry.size for entry in entries) / 1e9
    console.say(f"{cache.folder()}: {len(entries)} entries, {total:,.2f} of {cache.limit() / 1e9:g} GB")
    if entries:
        console.say(f"\n{'key':<34}{'images':>10}{'MB':>12}  {'last used':<18}from")
    for entry in reversed(entries):
        used = f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}"
        source = entry.source if entry.whole else "(not complete)"
        console.say(f"{entry.key:<34}{entry.images:>10,}{entry.size / 1e6:>12,.1f}  {used:<18}{source}")
    return 0
