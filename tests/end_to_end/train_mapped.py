"""Runs of the program in one process, each with so many bytes of images at most in memory.

`python -m train_mapped RUNS`, where RUNS is JSON: [[bytes, arguments], ...]. Prints for each set of images how it is
stored.
"""

from __future__ import annotations

import json
import sys

from cifar_exp import __main__
from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Splits

_read = datasets._image_files


def _read_and_tell(config: DataConfig) -> Splits:
    splits = _read(config)
    print("stored as", *{type(part.images).__name__ for part in (splits.training, splits.validation, splits.test)})
    return splits


if __name__ == "__main__":
    datasets._image_files = _read_and_tell
    for datasets._IN_MEMORY, arguments in json.loads(sys.argv[1]):
        datasets.load.cache_clear()
        sys.argv = ["cifar_exp", *arguments]
        if code := __main__.main():
            sys.exit(code)
