"""Training steps as they are, beside the same without one of the things that make them fast.

    python benchmarks/steps.py --data FOLDER --threads 1 --without loop s0_baseline
    python benchmarks/steps.py --data FOLDER --threads 2 --without normalization speedrun

- adam: TensorFlow's one operation for a step of Adam; without it, Keras's dozen.
- loop: a loop over many batches that are fed at once; without it, Keras's, which is fed each of them.
- normalization: TensorFlow's one operation for batch normalization; without it, Keras's dozen.
- nothing: both are equal; how far their ratio strays from 1 is what other ratios are worth.

Both train in one process in turn, some steps at a time, each a model of its own. Prints the images per second of each
pair, and the median and range of their ratio; and that of the fastest of either, on which other work on the machine had
the least part.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import contenders
import numpy as np

from cifar_exp.config import composition
from cifar_exp.data import datasets
from cifar_exp.training import runtime


def main() -> None:
    """Time pair after pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--data", type=Path, required=True, help="holds cifar-10-batches-bin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", choices=("adam", "loop", "normalization", "nothing"), default="loop")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=96)
    arguments = parser.parse_args()
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": str(arguments.threads)}
    overrides = [f"experiment={arguments.experiment}", *arguments.overrides]
    overrides += [f"data.dir={arguments.data.resolve()}", "data.verify=size"]
    config = composition.plan(overrides, multirun=False).jobs[0]
    images = datasets.load(config.data).training
    runtime.prepare(config.training, config.seed)
    from cifar_exp.training import feeding, fit, models, optimizers

    without: dict[str, AbstractContextManager[object]] = {
        "adam": mock.patch.dict(optimizers.FUSED, clear=True),
        "loop": mock.patch.object(fit, "looped", lambda model, batch_size: model),
        "normalization": mock.patch.object(fit, "fused", lambda model: model),
        "nothing": nullcontext(),
    }
    compared = [fit.compiled(models.build(config.model)[0], config, len(images))]
    with without[arguments.without]:
        compared.append(fit.compiled(models.build(config.model)[0], config, len(images)))

    some = images.take(np.arange(arguments.steps * config.training.batch_size) % len(images))

    def speed(number: int) -> float:
        trained, fed = compared[number]
        began = time.perf_counter()
        trained.fit(**feeding.batches(fed, some.images, some.labels), shuffle=False, verbose=0)
        return len(some) / (time.perf_counter() - began)

    for number in (0, 1):
        speed(number)
    pairs = []
    for _ in range(arguments.pairs):
        pairs.append((speed(0), speed(1)))
        said = f"{pairs[-1][0]:,.0f} images/s, without {arguments.without} {pairs[-1][1]:,.0f}"
        print(f"{said}: {pairs[-1][0] / pairs[-1][1]:.3f}", flush=True)
    ours, others = zip(*pairs, strict=True)
    ratios = [one / other for one, other in pairs]
    print(f"{contenders.median_and_range(ratios)}, the fastest of either {max(ours) / max(others):.2f}")


if __name__ == "__main__":
    main()
