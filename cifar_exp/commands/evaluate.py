"""cifar-exp evaluate: evaluate the model of a logged run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cifar_exp.commands.parser import Commands, Parser, aside, store_of
from cifar_exp.errors import UserError

if TYPE_CHECKING:
    from cifar_exp.analysis.evaluate import Evaluated

_EPSILONS = "1,2,4,8"
_PARTS = ("test", "validation", "training", "all")


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "evaluate the model of a run on its test images or on another data set, and log the results beside it"
    evaluate = commands.add_parser("evaluate", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    add_images(evaluate)
    evaluate.add_argument("--limit", metavar="N", type=int, help="take N of the images, the same ones each time")
    evaluate.add_argument("--tta", action="store_true", help="average over each image and its mirror image")
    evaluate.add_argument("--corrupt", action="store_true", help="also under fifteen corruptions at five severities")
    evaluate.add_argument("--attack", action="store_true", help="also under white-box attacks: FGSM and PGD")
    evaluate.add_argument("--epsilons", metavar="LIST", help=f"of the attacks, of 255 (default: {_EPSILONS})")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(command=run)


def add_images(command: Parser) -> None:
    """Add the arguments that select a run and the images to look at."""
    command.add_argument("run", metavar="RUN", help="run id, first characters of the id, or name")
    command.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the images: data.dir=photos"
    )
    command.add_argument("--data", metavar="NAME", help="another data set with the same classes, such as folder")
    command.add_argument("--part", choices=_PARTS, default="test", help="of the data set (default: test)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the model, log the results and print them.

    Returns:
        Exit code 0.
    """
    import json

    from cifar_exp import console
    from cifar_exp.analysis import evaluate
    from cifar_exp.review import query
    from cifar_exp.tracking import addresses
    from cifar_exp.training import runtime

    attacked = arguments.attack or arguments.epsilons is not None
    attacks = epsilons(_EPSILONS if arguments.epsilons is None else arguments.epsilons) if attacked else ()
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit: got {arguments.limit}, expected a number of images, at least 1")
    runtime.check_backend()
    store = store_of(arguments)
    console.set_up()
    asked = evaluate.Request(
        arguments.data,
        tuple(arguments.overrides),
        arguments.part,
        arguments.limit,
        tta=arguments.tta,
        corrupt=arguments.corrupt,
        epsilons=attacks,
    )
    with aside(arguments):
        evaluated = evaluate.evaluate(store, query.get(store, arguments.run), asked)
    if arguments.json:
        print(json.dumps(_data(evaluated), indent=2))
        return 0
    console.say("\n".join(evaluate.lines(evaluated)))
    if evaluated.address:
        console.say(f"\n{addresses.how_to_open(store, evaluated.address)}")
    return 0


def epsilons(words: str) -> tuple[int, ...]:
    """Read a list of epsilons, in ascending order.

    Raises:
        UserError: if one is not a whole number from 1 to 255.
    """
    for word in (wanted := words.split(",")):
        if not (word.isdecimal() and 1 <= int(word) <= 255):
            raise UserError(f"--epsilons: got {word!r}, expected whole numbers from 1 to 255, such as {_EPSILONS}")
    return tuple(sorted({int(word) for word in wanted}))


def _data(evaluated: Evaluated) -> dict[str, Any]:
    images = evaluated.images
    return {
        "run_id": evaluated.run_id,
        "model": evaluated.name,
        "images": {
            "data": images.data,
            "part": images.part,
            "count": len(images.split),
            "source": images.source,
            "own": images.own,
        },
        "metrics": evaluated.metrics,
    }
