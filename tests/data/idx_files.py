"""Small data sets in the layouts of the official releases."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


def write_idx(folder: Path, training: int = 60, test: int = 20, gzipped: bool = True, seed: int = 0) -> Path:
    """The four files of MNIST with random pixels and labels 0..9 in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for part, count in (("train", training), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, values in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
            content = head + values.tobytes()
            if gzipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / name).write_bytes(content)
    return folder


def write_cifar100(folder: Path, training: int = 200, test: int = 100, seed: int = 0) -> Path:
    """train.bin and test.bin with random pixels, every fine label in turn, and its coarse label as fine // 5."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for name, count in (("train.bin", training), ("test.bin", test)):
        records = generator.integers(0, 256, (count, 2 + 3072), np.uint8)
        records[:, 1] = np.arange(count) % 100
        records[:, 0] = records[:, 1] // 5
        records.tofile(folder / name)
    return folder
