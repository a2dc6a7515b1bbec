"""cifar-exp learning-curve: what more data would bring, from one sweep over shares of the training images and seeds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cifar_exp.commands.parser import Commands, Parser, config_of, folder_to_write
from cifar_exp.errors import UserError
from cifar_exp.tracking import run_tags

if TYPE_CHECKING:
    from cifar_exp.config.schema import Config


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "what more training images would bring: a sweep over shares of them and seeds, and its power law"
    curve = commands.add_parser("learning-curve", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    curve.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the runs, such as experiment=s3_bn"
    )
    curve.add_argument("--shares", default="0.05,0.1,0.2,0.5,1", help="of the training images (default: %(default)s)")
    curve.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each share (default: %(default)s)")
    curve.add_argument("--sweep", metavar="NAME", help="name of the sweep; one that exists is continued")
    curve.add_argument(
        "-o",
        "--output",
        type=folder_to_write,
        default=".",
        metavar="FOLDER",
        help="for learning_curve.png and .json (default: .)",
    )
    curve.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing of the sweep, fit the curve, and write it.

    Returns:
        Exit code: 0, or that of the sweep if a run failed.
    """
    import numpy as np

    from cifar_exp import console, program
    from cifar_exp.analysis import learning_curve
    from cifar_exp.config.composition import plan
    from cifar_exp.config.overrides import write
    from cifar_exp.evaluation import learning_curve_plot, style
    from cifar_exp.experiment import resume
    from cifar_exp.review import query
    from cifar_exp.tracking.store import Store

    config = config_of(arguments, arguments.overrides)
    sizes = _sizes(config, _shares(arguments.shares))
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: expected at least 1")
    name = arguments.sweep or f"learning-curve-{config.name or config.model.name}"
    tracking = {"tracking.uri": arguments.uri, "tracking.experiment": arguments.experiment}
    sweep = [
        *(*arguments.overrides, f"sweep.name={name}"),
        *(write(key, value) for key, value in tracking.items() if value),
        f"data.train_images={','.join(map(str, sizes))}",
        f"seed={','.join(map(str, range(arguments.seeds)))}",
    ]
    jobs = plan(sweep, multirun=True).jobs
    if code := program.run(["-m", *sweep]):
        return code
    wanted = {resume.fingerprint_of(job) for job in jobs}  # the sweep may also have runs of other settings
    found = query.select(Store.of(config.tracking), sweep=name)
    runs = [run for run in found if run.data.tags.get(run_tags.FINGERPRINT) in wanted]
    curve = learning_curve.fit(learning_curve.points_of(runs))
    numbers = np.geomspace(curve.sizes[0], 2 * curve.sizes[-1], 100)
    line = (numbers, curve.predict(numbers), *curve.interval(numbers))
    points = [(point.images, point.error) for point in curve.points]
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    figure = learning_curve_plot.learning_curve(points, line, name)
    (folder / "learning_curve.png").write_bytes(style.to_png(figure))
    (folder / "learning_curve.json").write_text(learning_curve.to_json(curve), encoding="utf-8")
    for size in curve.sizes:
        errors = [point.error for point in curve.points if point.images == size]
        console.say(f"{size:>9,} training images: mean accuracy {1 - np.mean(errors):.4f} of {len(errors)} runs")
    for sentence in curve.words:
        console.say(sentence)
    console.say(f"Written: {folder / 'learning_curve.png'}, {folder / 'learning_curve.json'}")
    return 0


def _shares(text: str) -> list[float]:
    try:
        shares = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--shares {text}: expected numbers, such as 0.1,0.5,1") from None
    if not all(0 < share <= 1 for share in shares):
        raise UserError(f"--shares {text}: expected shares above 0, up to 1")
    if len(shares) < 3:
        raise UserError(f"--shares {text}: a curve needs at least 3 shares")
    return shares


def _sizes(config: Config, shares: list[float]) -> list[str]:
    """Values of `data.train_images`: multiples of the number of classes; null for all images."""
    import numpy as np

    from cifar_exp.data import datasets

    splits = datasets.load(config.data)
    classes, images = len(splits.classes), len(splits.training)
    fewest = int(np.bincount(splits.training.labels, minlength=classes).min())
    sizes: list[str] = []
    for share in shares:
        of_each = max(1, round(share * images / classes))
        if share < 1 and of_each > fewest:
            raise UserError(f"--shares: {share:g} are {of_each:,} images of each class, and one has only {fewest:,}")
        size = "null" if share == 1 else str(of_each * classes)
        if size in sizes:
            raise UserError(f"--shares: two of them are {size} images of {images:,}, one or more of each class")
        sizes.append(size)
    return sizes
