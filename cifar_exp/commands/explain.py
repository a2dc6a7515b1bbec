"""cifar-exp explain: show what the model of a logged run looks at."""

from __future__ import annotations

import argparse

from cifar_exp.commands.evaluate import add_images
from cifar_exp.commands.parser import Commands, Parser, store_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "show what the model of a run looks at in images, and what it confuses; log the pictures beside the run"
    explain = commands.add_parser("explain", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    add_images(explain)
    explain.add_argument(
        "--images",
        metavar="LIST",
        default="wrong",
        help="numbers of images from 0, and wrong, the most confident mistakes: 3,17,wrong (default: wrong)",
    )
    explain.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain the images, log the pictures and say which they are.

    Returns:
        Exit code 0.
    """
    from cifar_exp import console
    from cifar_exp.analysis import explain
    from cifar_exp.review import query
    from cifar_exp.tracking import addresses
    from cifar_exp.training import runtime

    runtime.check_backend()
    store = store_of(arguments)
    console.set_up()
    wanted = arguments.images.replace(" ", "").split(",")
    found = query.get(store, arguments.run)
    explained = explain.explain(store, found, wanted, arguments.data, arguments.overrides, arguments.part)
    console.say("\n".join(explained.lines))
    if explained.address:
        console.say(f"\n{addresses.how_to_open(store, explained.address)}")
    return 0
