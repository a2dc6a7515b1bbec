"""cifar-exp predict: classify image files."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, config_of
from cifar_exp.errors import UserError
from cifar_exp.exits import REFUSED

_ANY_SHAPE = (1, 1, 3)  # before the model is known, only whether a file can be read matters


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "classify image files with the champion or another model"
    predict = commands.add_parser("predict", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    predict.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image file: PNG, JPEG, WebP, BMP, TIFF or GIF, of any size"
    )
    model = predict.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="URI", help="models:/NAME@ALIAS, models:/NAME/VERSION or models:/m-...")
    model.add_argument("--run", metavar="RUN", dest="by_run", help="use the model of this run")
    predict.add_argument(
        "--calibrated", action="store_true", help="scale the probabilities by the temperature that the run has fitted"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the class probabilities of each image.

    Returns:
        Exit code: 0, or 2 if a file could not be read. The other files are classified all the same.
    """
    import json
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.evaluation import pictures
    from cifar_exp.tracking.store import Store
    from cifar_exp.training import runtime

    runtime.check_backend()
    readable = []
    for name in dict.fromkeys(arguments.images):
        try:
            pictures.read(Path(name), _ANY_SHAPE)
            readable.append(name)
        except UserError as error:
            console.refuse(error)
    code = 0 if len(readable) == len(set(arguments.images)) else REFUSED
    if not readable:
        return code

    import numpy as np

    from cifar_exp.review import logged_model, promotion, promotion_records, query

    config = config_of(arguments)
    store = Store.of(config.tracking)
    if arguments.by_run:
        classifier = logged_model.from_run(store, query.get(store, arguments.by_run))
    else:
        name = promotion.model_name(store, config.review.model) if not arguments.model else ""
        classifier = logged_model.from_uri(store, arguments.model or f"models:/{name}@{promotion_records.CHAMPION}")
    data = classifier.config.data
    images = {name: pictures.read(Path(name), data.image_shape, data.resize) for name in readable}
    temperature = logged_model.temperature(store, classifier) if arguments.calibrated else 1.0
    probabilities = logged_model.probabilities(store, classifier, np.stack(list(images.values())), temperature)
    answers = []
    for name, row in zip(images, probabilities.tolist(), strict=True):
        by_class = dict(sorted(zip(classifier.classes, row, strict=True), key=lambda item: -item[1]))
        answers.append({"image": name, "class": next(iter(by_class)), "probabilities": by_class})
    if arguments.json:
        model = {"name": classifier.name, "run_id": classifier.run_id, "model_id": classifier.model_id}
        print(json.dumps({"model": model, "images": answers}, indent=2))
        return code
    console.say(classifier.name)
    for name, row in zip(images, answers, strict=True):
        console.say(f"\n{name}: {row['class']}")
        console.say("  " + "  ".join(f"{label} {value:.3f}" for label, value in row["probabilities"].items()))
    return code
