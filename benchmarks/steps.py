"""Compare the speed of training steps with and without one of the optimizations.

    python benchmarks/steps.py --data FOLDER --threads 1 --without loop s0_baseline
    python benchmarks/steps.py --data FOLDER --threads 2 --without normalization speedrun
    KERAS_BACKEND=jax python benchmarks/steps.py --data FOLDER --without program s0_baseline

- adam: a step of Adam as one TensorFlow operation; without it, a dozen operations of Keras.
- loop: a loop over many batches that are fed at once; without it, Keras feeds every batch separately.
- normalization: batch normalization as one TensorFlow operation; without it, a dozen operations of Keras.
- program: on JAX, an epoch as one program, even of a model that a run leaves to Keras; without it, Keras's own `fit`.
- nothing: both are equal; the deviation of the ratio from 1 shows the accuracy of the measurement.

Two models train alternately in one process, some steps at a time. Prints the images per second of each pair, the median
and range of the ratios, and the ratio of the fastest measurements, which other work on the machine affects least.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import contenders
import numpy as np

from cifar_exp.config import composition
from cifar_exp.data import datasets
from cifar_exp.training import runtime


def main() -> None:
    """Time all pairs and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", choices=("adam", "loop", "normalization", "program", "nothing"), default="loop")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=96)
    arguments = parser.parse_args()
    threads = str(arguments.threads)
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": threads, "NPROC": threads}
    overrides = [f"experiment={arguments.experiment}", *arguments.overrides]
    overrides += [f"data.dir={arguments.data.resolve()}", "data.verify=size"]
    config = composition.plan(overrides, multirun=False).jobs[0]
    images = datasets.load(config.data).training
    runtime.prepare(config.training, config.seed)
    from cifar_exp.training import feeding, fit, models, objective, optimizers

    without: dict[str, AbstractContextManager[object]] = {
        "adam": mock.patch.dict(optimizers.FUSED, clear=True),
        "loop": mock.patch.object(fit, "loop_over_batches", lambda model, batch_size: model),
        "normalization": mock.patch.object(fit, "fuse_batch_normalization", lambda model: model),
        "program": mock.patch.object(fit, "_in_one_program", return_value=None),
        "nothing": nullcontext(),
    }
    loss = objective.loss(config, datasets.load(config.data))
    if arguments.without == "program":
        from cifar_exp.training import epoch  # imports JAX

        mock.patch.object(epoch, "_convolves", return_value=False).start()
    subset = images.take(np.arange(arguments.steps * config.training.batch_size) % len(images))

    def build() -> tuple[Any, ...]:
        model, _ = models.build(config.model, config.data.image_shape)
        trained, images_per_call = fit.compile_model(model, config, len(images), loss)
        settings = config.training
        program = fit._in_one_program(trained, subset, settings.batch_size, settings.steps_per_execution)
        return trained, images_per_call, program

    compared = [build()]
    with without[arguments.without]:
        compared.append(build())

    def speed(number: int) -> float:
        trained, images_per_call, program = compared[number]
        began = time.perf_counter()
        if program:
            program.train(np.arange(len(subset)))
        else:
            trained.fit(**feeding.batches(images_per_call, subset.images, subset.labels), shuffle=False, verbose=0)
        return len(subset) / (time.perf_counter() - began)

    for number in (0, 1):
        speed(number)
    pairs = []
    for _ in range(arguments.pairs):
        pairs.append((speed(0), speed(1)))
        line = f"{pairs[-1][0]:,.0f} images/s, without {arguments.without} {pairs[-1][1]:,.0f}"
        print(f"{line}: {pairs[-1][0] / pairs[-1][1]:.3f}", flush=True)
    ours, others = zip(*pairs, strict=True)
    ratios = [one / other for one, other in pairs]
    print(f"{contenders.median_and_range(ratios)}, of the fastest {max(ours) / max(others):.2f}")


if __name__ == "__main__":
    main()
