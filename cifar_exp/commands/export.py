"""cifar-exp export: write the model of a run in formats of other runtimes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cifar_exp.commands.parser import Commands, Parser, folder_to_write, store_of
from cifar_exp.errors import UserError

if TYPE_CHECKING:
    from cifar_exp.data.schema import DataConfig
    from cifar_exp.evaluation.export import Exported


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "write the model of a run for other runtimes, and compare each file with Keras"
    command = commands.add_parser("export", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    command.add_argument("run", metavar="RUN", help="run id, first characters of the id, or name")
    command.add_argument(
        "--to",
        metavar="FORMATS",
        default="keras",
        help="keras, saved_model, onnx, tflite, torch_export, separated by commas (default: keras)",
    )
    command.add_argument(
        "--int8", action="store_true", help="also TFLite with 8 bits, with its accuracy on the test images"
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder of the images on this machine (data.dir)")
    command.add_argument(
        "-o",
        "--output",
        type=folder_to_write,
        metavar="DIR",
        default="export",
        help="folder to write (default: export)",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files, and print what they hold and how fast they are.

    Returns:
        Exit code: 0, or 1 if a file does not give the probabilities of Keras.
    """
    import json
    from dataclasses import replace

    from cifar_exp import console
    from cifar_exp.evaluation import export_formats
    from cifar_exp.review import logged_model, query
    from cifar_exp.training import runtime

    runtime.check_backend()
    backend = runtime.backend_name()
    formats = export_formats.chosen(arguments.to.split(","), backend)
    if arguments.int8:
        export_formats.chosen(["tflite"], backend)
    folder = arguments.output
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: the folder is not empty; name another with --output")
    store = store_of(arguments)
    logged = logged_model.from_run(store, query.get(store, arguments.run))
    model = logged_model.rebuild(store, logged, "float32")
    from cifar_exp.evaluation import export

    data = replace(logged.config.data, dir=arguments.data_dir, exclude=None, relabel=None)  # test images keep theirs
    images, shown = _images(data, arguments.int8)
    folder.mkdir(parents=True, exist_ok=True)
    rows = export.export(model, formats, folder, images)
    if arguments.int8:
        from cifar_exp.data import datasets

        splits = datasets.load(data)
        row, accuracy = export.export_int8(model, folder, splits.training, splits.test)
        rows = [replace(rows[0], accuracy=accuracy), *rows[1:], row]
    about = {
        "run_id": logged.run_id,
        "classes": list(logged.classes),
        "input": {"shape": [None, *logged.config.data.image_shape], "dtype": "uint8"},
        "output": {"shape": [None, len(logged.classes)], "dtype": "float32"},
        "files": [_json(one) for one in rows],
    }
    (folder / "export.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(about, indent=2))
    else:
        console.say(f"{logged.name}, checked on {shown}\n")
        console.say(_table(rows))
    wrong = [one for one in rows if not one.agrees]
    for one in wrong:
        console.refuse(
            f"{one.file}: its probabilities differ from those of Keras by up to {one.difference:.2g}, expected at most "
            f"{export.TOLERANCE:g}"
        )
    return 1 if wrong else 0


def _images(data: DataConfig, needed: bool) -> tuple[Any, str]:
    """Test images (N, H, W, C) uint8 of the run, or random ones if they are not on this machine; and what they are."""
    import numpy as np

    from cifar_exp.data import datasets
    from cifar_exp.data.schema import FILES
    from cifar_exp.evaluation.export import CHECKED

    own_files = data.name in FILES and data.dir
    test = datasets.load(data).test if needed or own_files else datasets.test_images(data)
    if test is not None:
        return np.asarray(test.images[:CHECKED]), f"{min(CHECKED, len(test))} test images"
    images = np.random.default_rng(0).integers(0, 256, (CHECKED, *data.image_shape)).astype(np.uint8)
    return images, f"{CHECKED} random images: the test images are not on this machine"


def _json(one: Exported) -> dict[str, Any]:
    return {
        "format": one.format,
        "file": one.file and one.file.name,
        "bytes": one.size,
        "max_difference": one.difference,
        "milliseconds": {str(size): value for size, value in one.milliseconds.items()},
        "test_accuracy": one.accuracy,
    }


def _table(rows: list[Exported]) -> str:
    """The files as text."""
    sizes = list(rows[0].milliseconds)
    measured = any(one.accuracy is not None for one in rows)
    lines = [["format", "file", "bytes", "max difference", *(f"ms, batch {size}" for size in sizes)]]
    lines[0] += ["test accuracy"] if measured else []
    for one in rows:
        line = [one.format, str(one.file or ""), "" if one.size is None else f"{one.size:,}", f"{one.difference:.1e}"]
        line += [f"{one.milliseconds[size]:.2f}" for size in sizes]
        lines.append(line + ([f"{one.accuracy:.4f}" if one.accuracy is not None else ""] if measured else []))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = [str.ljust, str.ljust, *[str.rjust] * (len(widths) - 2)]
    shown = (zip(align, line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(pad(cell, width) for pad, cell, width in line).rstrip() for line in shown)
