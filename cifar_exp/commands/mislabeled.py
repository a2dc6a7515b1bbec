"""cifar-exp mislabeled: find labels that look wrong to logged runs."""

from __future__ import annotations

import argparse

from cifar_exp.commands import selected
from cifar_exp.commands.parser import Commands, Parser, file_to_write, store_of
from cifar_exp.errors import UserError

_SHOWN = 20


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "find labels that look wrong, from predictions for images that runs did not train on"
    command = commands.add_parser(
        "mislabeled", parents=[store], help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    selected.add_options(command)
    command.add_argument(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="images: those that validate, all of them over the folds of a cross-validation, or the test images",
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder of the images on this machine (data.dir)")
    command.add_argument("--top", type=int, metavar="N", help="list N labels (default: those that look wrong)")
    command.add_argument(
        "--save", type=file_to_write, metavar="FILE", help="write the list as CSV, for data.exclude and data.relabel"
    )
    command.add_argument(
        "-o",
        "--output",
        type=file_to_write,
        metavar="FILE",
        help="write an HTML page with the images, to decide on them",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the list, and write it as a file and as a page.

    Returns:
        Exit code 0.
    """
    import json

    from cifar_exp import console
    from cifar_exp.analysis import mislabeled
    from cifar_exp.config.overrides import write
    from cifar_exp.data import corrections
    from cifar_exp.evaluation import mislabeled_page

    if not (arguments.runs or arguments.sweep or arguments.filter):
        raise UserError("name runs of one data set, or --sweep NAME")
    if arguments.top is not None and arguments.top < 1:
        raise UserError(f"--top: got {arguments.top}, expected at least 1")
    store = store_of(arguments)
    overrides = [write("data.dir", arguments.data_dir)] if arguments.data_dir else []
    suspects = mislabeled.find(store, selected.runs(arguments, store), arguments.split, overrides)
    rows = suspects.rows(suspects.wrong if arguments.top is None else arguments.top)
    if arguments.save and rows:
        corrections.write(arguments.save, rows)
    if arguments.output:
        page = mislabeled_page.render(suspects.splits.source, suspects.words, rows, suspects.pictures(len(rows)))
        arguments.output.write_text(page, encoding="utf-8")
    for remark in suspects.remarks:
        console.refuse(remark)
    if arguments.json:
        summary = {"runs": suspects.runs, "split": suspects.split, "images": len(suspects.images)}
        print(json.dumps({**summary, "wrong": suspects.wrong, "listed": rows}, indent=2))
        return 0
    console.say(suspects.words)
    if rows:
        console.say("\n" + _table(rows[:_SHOWN]))
    if len(rows) > _SHOWN:
        console.say(f"... {len(rows) - _SHOWN:,} more")
    for file in (arguments.save if rows else None, arguments.output):
        if file:
            console.say(f"{file}: {len(rows)} images")
    return 0


def _table(rows: list[dict[str, object]]) -> str:
    """The first rows as text; `score` is the mean probability of the given label."""
    columns = [name for name in rows[0] if name != "decision"]
    shown = [[f"{row[name]:.4f}" if name == "score" else str(row[name]) for name in columns] for row in rows]
    cells = [columns, *shown]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)
