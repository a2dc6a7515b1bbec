"""Plant wrong labels in a data set, and count how many of them `cifar-exp mislabeled` finds.

    python benchmarks/mislabeled.py [--share 0.05] [--folds 5] [--folder DIR] [OVERRIDE ...]

For CIFAR-10: python benchmarks/mislabeled.py data.dir=FOLDER

Chooses a share of the images that train or validate, and gives each another class at random (`data.relabel`). A sweep
over the folds of a cross-validation predicts every image with a model that was not trained on it. Prints the precision
among as many images as were planted: the share of wrong labels among the lowest scores. With `--folder`, the runs are
kept, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from cifar_exp.analysis import mislabeled
from cifar_exp.config.composition import plan
from cifar_exp.data import corrections, datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.review import query
from cifar_exp.tracking.store import Store


def plant(config: DataConfig, share: float, file: Path) -> set[int]:
    """Write a list that gives a share of the images another class, and return their numbers."""
    splits = datasets.load(config)
    parts = [part for part in (splits.training, splits.validation) if part.numbers is not None]
    numbers = np.concatenate([part.numbers for part in parts if part.numbers is not None])
    labels = np.concatenate([part.labels for part in parts]).astype(int)
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(numbers), round(share * len(numbers)), replace=False)
    wrong = (labels[chosen] + generator.integers(1, len(splits.classes), len(chosen))) % len(splits.classes)
    key, names = corrections.column(splits), corrections.names(splits, numbers[chosen].tolist())
    corrections.write(
        file,
        [
            {key: name, "suggested": splits.classes[label], "decision": corrections.CONFIRM}
            for name, label in zip(names, wrong, strict=True)
        ],
    )
    return set(numbers[chosen].tolist())


def main() -> None:
    """Plant, sweep, rank and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that become wrong")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="of the runs; a temporary one is used otherwise")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="settings of the runs: data=digits, model=bn")
    arguments = parser.parse_args()
    (config,) = plan(arguments.overrides, multirun=False).jobs
    place = nullcontext(str(arguments.folder.resolve())) if arguments.folder else tempfile.TemporaryDirectory()
    with place as folder:
        file = Path(folder) / "planted.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # of a benchmark that was stopped, with the same content
        planted = plant(replace(config.data, train_images=None), arguments.share, file)
        uri, sweep = f"sqlite:///{folder}/mlflow.db", "planted"
        folds = [f"data.folds={arguments.folds}", f"data.fold={','.join(map(str, range(arguments.folds)))}"]
        settings = [f"data.relabel={file}", f"tracking.uri={uri}", f"sweep.name={sweep}"]
        command = [sys.executable, "-m", "cifar_exp", "-m", *arguments.overrides, *folds, *settings]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        store = Store(uri, config.tracking.experiment)
        of_this_machine = [one for one in arguments.overrides if one.startswith(("data.dir=", "data.verify="))]
        suspects = mislabeled.find(store, query.select(store, sweep=sweep), overrides=of_this_machine)
    images = suspects.images
    lowest = images.nsmallest(len(planted), "score")["number"]
    flagged = images[images["wrong"]]["number"]
    precision = lowest.isin(planted).mean()
    print(f"{config.data.name}, {config.model.name}: {len(planted):,} of {len(images):,} labels made wrong")
    print(f"precision at {len(planted):,}: {precision:.3f}")
    right = int(flagged.isin(planted).sum())
    print(f"flagged by confident learning: {len(flagged):,}, of which {right:,} were made wrong")


if __name__ == "__main__":
    main()
