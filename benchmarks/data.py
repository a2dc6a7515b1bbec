"""Measure images that do not fit in memory, and the cache of decoded images.

    python benchmarks/data.py [memory fill epochs start once kill disk] [--gigabytes 8] [--images 10000] [--rounds 3]
        [--folder FOLDER]

The images are made on the spot, in a temporary folder that is removed at the end: crops of two photos. Rows:

- memory: one epoch of so many gigabytes of decoded images, with `python -m cifar_exp`; memory of the process.
- fill: filling the cache from so many JPEG files, beside Pillow alone in as many processes as there are cores.
- epochs: an epoch of images that stay in the cache, beside the same images in memory, in turn in one process.
- start: from the command to the first step with 100,000 files in the cache, beside the same images as arrays.
- once: a sweep of two jobs at once, and two more runs beside it, all on an empty cache.
- kill: SIGKILL while the cache is filled, then the same command again.
- disk: a cache on a disk that is too small (only for root), then the same command with another cache.

Prints a Markdown table. Ratios are taken in every round; their median and range are shown.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import contenders
import made_images
import programs
from programs import Program

from cifar_exp.data.schema import DataConfig

LINEAR = "model.layers=[{AveragePooling2D:{pool_size:8}},Flatten,{Dense:{units:10}}]"
CHEAP = ("model=dense", LINEAR, "training.epochs=1", "training.device=cpu", "tracking.system_metrics=false")
FILL_SIDE, FILL_IMAGES = 256, 10_000
FILES, FILE_SIDE = 100_000, 32
EPOCH_IMAGES, EPOCH_SIDE = 24_000, 64  # 295 MB: what has more than 256 MB stays in its file

Cells = list[tuple[str, str]]  # what was measured, and the result
Row = Callable[[Path, argparse.Namespace], Cells]


def memory(folder: Path, arguments: argparse.Namespace) -> Cells:
    """Peak memory of a run of one epoch, its images in the cache."""
    images = int(arguments.gigabytes * 1e9 / (FILL_SIDE**2 * 3)) + 1
    made_images.write(folder / "photos", images, FILL_SIDE)
    program = Program(folder)
    filled = program.fill("photos")
    ran = program.run("data=folder", "data.dir=photos", *CHEAP)
    what = f"{images:,} images of {FILL_SIDE} x {FILL_SIDE}, {arguments.gigabytes:g} GB decoded"
    return [
        (f"{what}: filling the cache", f"{images / filled.seconds:,.0f} images/s"),
        ("one epoch, validation and test of it: peak of memory of its own", f"{ran.anonymous / 1e9:.2f} GB"),
        ("peak of the mapped part of files: libraries and images", f"{ran.mapped / 1e9:.2f} GB"),
        ("peak of all resident memory", f"{ran.resident / 1e9:.2f} GB"),
        ("training", f"{ran.images_per_second:,.0f} images/s"),
    ]


def fill(folder: Path, arguments: argparse.Namespace) -> Cells:
    """Throughput of filling the cache, beside that of Pillow alone."""
    made_images.write(folder / "photos", arguments.images, FILL_SIDE)
    program = Program(folder)
    alone, ours = [], []
    for number in range(arguments.rounds):
        alone.append(programs.pillow(folder / "photos"))
        ours.append(program.fill("photos", f"cache{number}"))
        shutil.rmtree(folder / f"cache{number}")
    pairs = list(zip(alone, ours, strict=True))
    speeds = [
        contenders.median_and_range([arguments.images / took.seconds for took in each], ",.0f")
        for each in (alone, ours)
    ]
    what = f"{arguments.images:,} JPEG files of {FILL_SIDE} x {FILL_SIDE}"
    return [
        (f"{what}: Pillow alone in {os.cpu_count()} processes", f"{speeds[0]} images/s"),
        ("filling the cache", f"{speeds[1]} images/s"),
        ("filling / Pillow", contenders.median_and_range([one.seconds / other.seconds for one, other in pairs])),
        (
            "the same by time of the processor",
            contenders.median_and_range([one.processor / other.processor for one, other in pairs]),
        ),
    ]


def epochs(folder: Path, arguments: argparse.Namespace) -> Cells:
    """Speed of epochs from the cache, beside the same in memory."""
    made_images.write(folder / "photos", EPOCH_IMAGES, EPOCH_SIDE)
    cells = [(f"{EPOCH_IMAGES * EPOCH_SIDE**2 * 3 / 1e6:,.0f} MB, {EPOCH_SIDE} x {EPOCH_SIDE}", "cache / memory")]
    for name, layers in {"one dense layer": ("model=dense", LINEAR), "model=baseline": ("model=baseline",)}.items():
        ratios = Program(folder).epoch_ratios("photos", arguments.rounds, *layers)
        cells.append((f"epoch of {name}", contenders.median_and_range(ratios, ".3f")))
    return cells


def start(folder: Path, arguments: argparse.Namespace) -> Cells:
    """Seconds to the first step with many files, beside arrays."""
    made_images.write(folder / "photos", FILES, FILE_SIDE, "png")
    program = Program(folder)
    program.fill("photos")
    os.environ["CIFAR_EXP_CACHE"] = str(folder / "cache")
    made_images.installed_arrays(DataConfig("folder", dir=str(folder / "photos")), folder / "arrays")
    seconds, busy = [], []
    for _ in range(arguments.rounds):
        few = ("data.train_images=1000", *CHEAP)
        arrays = program.run("data=arrays", "data.dir=arrays", *few, until="training images")
        files = program.run("data=folder", "data.dir=photos", *few, until="training images")
        seconds.append(files.seconds - arrays.seconds)
        busy.append(files.processor - arrays.processor)
    return [
        (f"{FILES:,} files: start beyond that on arrays", f"{contenders.median_and_range(seconds, '.1f')} s"),
        ("of the processor", f"{contenders.median_and_range(busy, '.1f')} s"),
    ]


def once(folder: Path, arguments: argparse.Namespace) -> Cells:
    """How many processes decode if several start at once."""
    made_images.write(folder / "photos", FILL_IMAGES, FILL_SIDE)
    program = Program(folder)
    data = ("data=folder", "data.dir=photos", *CHEAP)
    sweep = ("-m", "seed=0,1", "hydra/launcher=parallel", "sweep.name=at_once")
    started = [program.start(*sweep, *data), program.start(*data, "name=beside"), program.start(*data, "name=too")]
    said = [process.communicate() for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"not all runs ended well: {said}")
    output = "".join(stdout for stdout, _ in said)
    decoded = sum(int(count.replace(",", "")) for count in re.findall(r"decoding ([\d,]+) images", output))
    finished = len(re.findall(r"test accuracy \d", output))
    return [(f"{finished} jobs at once on an empty cache: decoded", f"{decoded / FILL_IMAGES:g} times")]


def kill(folder: Path, arguments: argparse.Namespace) -> Cells:
    """What the next command does after SIGKILL."""
    made_images.write(folder / "photos", FILL_IMAGES, FILL_SIDE)
    program = Program(folder)
    program.fill("photos", "whole")
    killed = program.killed_while_filling("data=folder", "data.dir=photos", *CHEAP)
    again = program.run("data=folder", "data.dir=photos", *CHEAP)
    (missing,) = re.findall(r"decoding ([\d,]+) images", again.stdout)
    whole, completed = (next((folder / name).glob("*/pixels")) for name in ("whole", "cache"))
    equal = "equal" if whole.read_bytes() == completed.read_bytes() else "NOT equal"
    return [
        (f"SIGKILL after {killed:,} of {FILL_IMAGES:,} images: the next run decodes", missing),
        ("its cache, beside one that was filled at once", equal),
    ]


def disk(folder: Path, arguments: argparse.Namespace) -> Cells:
    """What is said on a full disk, and what the next command does."""
    made_images.write(folder / "photos", FILL_IMAGES, FILL_SIDE)
    program = Program(folder)
    small = folder / "small"
    small.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(small)]).returncode:
        return [("a full disk", "left out: only root may mount a small one")]
    try:
        refused = program.start("data=folder", "data.dir=photos", *CHEAP, cache="small")
        _, said = refused.communicate()
        left = sum(path.stat().st_size for path in small.rglob("pixels"))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    again = program.run("data=folder", "data.dir=photos", *CHEAP)
    return [
        (f"{FILL_IMAGES * FILL_SIDE**2 * 3 / 1e9:.1f} GB on a disk of 0.1 GB: exit code", str(refused.returncode)),
        ("lines on standard error, bytes left", f"{said.count(chr(10))}, {left}"),
        ("the next run, with another cache", "completes" if "test accuracy" in again.stdout else "does NOT complete"),
    ]


ROWS: dict[str, Row] = {row.__name__: row for row in (memory, fill, epochs, start, once, kill, disk)}


def main() -> None:
    """Measure the rows that are asked for, and print each when it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all if none is given")
    parser.add_argument("--gigabytes", type=float, default=8, help="decoded images of the row memory")
    parser.add_argument("--images", type=int, default=10_000, help="of the row fill")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the images, which take twice the gigabytes")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n\n| measured | result |\n| --- | --- |"
    )
    for name in arguments.rows or ROWS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            for what, result in ROWS[name](Path(folder), arguments):
                print("|", what, "|", result, "|", flush=True)


if __name__ == "__main__":
    main()
