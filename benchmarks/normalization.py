"""Training steps with batch normalization as one operation of TensorFlow, beside the same with Keras's dozen.

    python benchmarks/normalization.py --data FOLDER --threads 2 speedrun
    python benchmarks/normalization.py --data FOLDER --threads 1 s1_bn

Both train in one process in turn, 100 steps at a time, each a model of its own. Prints the images per second of each
pair, and the median and range of their ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np

from cifar_exp import composition, data, runtime

STEPS, WARM_UP = 100, 33


def main() -> None:
    """Time pair after pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=6)
    arguments = parser.parse_args()
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": str(arguments.threads)}
    overrides = [f"experiment={arguments.experiment}", f"data.dir={arguments.data.resolve()}", "data.verify=size"]
    config = composition.plan(overrides, multirun=False).jobs[0]
    images = data.load(config.data).training
    runtime.prepare(config.training, config.seed)
    from cifar_exp import feeding, models, training

    size = config.training.batch_size
    trained = [training._compiled(models.build(config.model)[0], config, len(images))]
    with mock.patch.object(training, "fused", lambda model: model):
        trained.append(training._compiled(models.build(config.model)[0], config, len(images)))

    def speed(number: int, steps: int) -> float:
        some = images.take(np.arange(steps * size) % len(images))
        began = time.perf_counter()
        trained[number].fit(**feeding.batches(size, some.images, some.labels), shuffle=False, verbose=0)
        return steps * size / (time.perf_counter() - began)

    for number in (0, 1):
        speed(number, WARM_UP)
    ratios = []
    for _ in range(arguments.pairs):
        one, many = speed(0, STEPS), speed(1, STEPS)
        ratios.append(one / many)
        print(f"one operation {one:,.0f}, Keras's {many:,.0f} images/s: {ratios[-1]:.3f}", flush=True)
    print(f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
