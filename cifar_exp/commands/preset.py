"""cifar-exp preset: keep the settings of a run as an experiment."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, folder_to_write, store_of
from cifar_exp.tracking import run_tags

_SHOWN = ("val/best_accuracy", "test/accuracy", "model/parameters")


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "write the settings of a run, such as the best trial of a search, as an experiment"
    preset = commands.add_parser("preset", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    preset.add_argument("run", metavar="RUN", help="run id, first characters of the id, or name")
    preset.add_argument("name", metavar="NAME", help="name of the experiment")
    preset.add_argument(
        "--config-dir",
        type=folder_to_write,
        metavar="DIR",
        default="my_conf",
        help="your folder of configs (default: my_conf)",
    )
    preset.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file and print the command that runs it.

    Returns:
        Exit code 0.

    Raises:
        UserError: if there is no such run, or its settings cannot be written.
    """
    import shlex

    from cifar_exp import console
    from cifar_exp.config import preset
    from cifar_exp.config.composition import CONF
    from cifar_exp.errors import UserError
    from cifar_exp.review import query

    found = query.get(store_of(arguments), arguments.run)
    tags, metrics = found.data.tags, found.data.metrics
    if run_tags.OVERRIDES not in tags or tags.get(run_tags.KIND) == run_tags.SWEEP_KIND:
        raise UserError(
            f"run {found.info.run_id[:8]} ({found.info.run_name}) has no settings to keep: name one of its jobs"
        )
    shown = ", ".join(f"{name} {metrics[name]:.10g}" for name in _SHOWN if name in metrics)
    about = f"The settings of run {found.info.run_name} ({found.info.run_id[:8]}): {shown}." if shown else "From a run."
    folder = arguments.config_dir
    try:
        given = shlex.split(tags[run_tags.OVERRIDES])
    except ValueError as error:
        raise UserError(
            f"run {found.info.run_id[:8]} ({found.info.run_name}): its overrides cannot be read: {error}"
        ) from error
    path = preset.write(given, arguments.name, folder, about)
    option = [] if folder.resolve() == CONF.resolve() else ["--config-dir", str(folder)]
    images = preset.own_images(given)
    command = shlex.join(["python", "-m", "cifar_exp", *option, f"experiment={arguments.name}", *images])
    console.say(f"{path}: {command}")
    return 0
