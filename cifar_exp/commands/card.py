"""cifar-exp card: one page on a run and its model."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of, folder_to_write


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "write the card of a run as Markdown and HTML, and log it to the run"
    card = commands.add_parser("card", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    card.add_argument("run", metavar="RUN", help="run id, first characters of the id, or name")
    card.add_argument(
        "-o",
        "--output",
        type=folder_to_write,
        metavar="FOLDER",
        help="write card.md and card.html there and log nothing",
    )
    card.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the card.

    Returns:
        Exit code 0.
    """
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.analysis import artifacts, card, card_pages
    from cifar_exp.config.schema import flatten
    from cifar_exp.review import query
    from cifar_exp.tracking.store import Store

    config = config_of(arguments)
    store = Store.of(config.tracking)
    found = query.get(store, arguments.run)
    read = card.read(store, found, flatten(config))
    pages = {
        card_pages.MARKDOWN: card_pages.to_markdown(read),
        card_pages.HTML: card_pages.to_html(read, card_pages.picture(store, found)),
    }
    if not arguments.output:
        artifacts.log(store, found, pages)
        console.say(f"Logged: {', '.join(pages)} of {found.info.run_name}")
        return 0
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pages.items():
        path = folder / Path(name).name
        path.write_text(content, encoding="utf-8")
        console.say(str(path))
    return 0
