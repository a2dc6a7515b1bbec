"""Measure on a GPU, or rehearse on a CPU, what an epoch, a step and a whole run take on JAX.

    python benchmarks/gpu.py --data FOLDER [--results gpu.json] [--minutes 8] [--rehearse] [--part seeds]

It needs JAX; PyTorch for one row. A machine without a package index gets the rest from `make bundle`. Each part runs in
a process of its own. Its figures are added to the JSON file as soon as it ends, and the command, given again, measures
what is missing. A part that cannot start before the time is over, or that fails, is named with its reason.

- step: images per second of the baseline at batch 32: as runs train, Keras's own `fit` on JAX, and a loop in PyTorch
  whose step is a CUDA graph, with the images on the device. JAX's two take turns in one process.
- seeds: eight trainings of the baseline at batch 32 that differ in their seed, as one program mapped over their states
  (`jax.vmap`), beside the same eight one after another. On a CPU, where XLA is slow at convolutions in a loop, of a
  model of one dense layer.
- busy: share of the time in which the GPU computes, sampled by its driver, for ResNet-9 in bfloat16 at batch 512.
- best-SEED and speedrun-SEED: `python -m cifar_exp experiment=best` and `speedrun` with several seeds: test accuracy,
  seconds of training, and the share of the time from the first epoch to the end of the run that is not training.

`--rehearse` takes a few handwritten digits, one epoch and one seed: it shows that everything runs, and its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Figures = dict[str, Any]
SEEDS = {"best": range(5), "speedrun": range(5)}
PARTS = ("step", "torch", "seeds", "busy", *(f"{name}-{seed}" for name, seeds in SEEDS.items() for seed in seeds))


def images_of(data: Path, rehearse: bool) -> list[str]:
    """Overrides that choose the images."""
    return ["data=digits", "data.train_images=300"] if rehearse else [f"data.dir={data}", "data.verify=size"]


def compose(data: Path, rehearse: bool, *overrides: str) -> Any:
    """Compose a config and load its images."""
    from cifar_exp.config import composition
    from cifar_exp.data import datasets
    from cifar_exp.training import runtime

    config = composition.plan([*overrides, *images_of(data, rehearse)], multirun=False).jobs[0]
    runtime.prepare(config.training, config.seed)
    return config, datasets.load(config.data)


def epochs_of(config: Any, splits: Any, count: int) -> Callable[[], list[float]]:
    """A function that trains as a run does, and returns the images per second of each epoch."""
    from cifar_exp.training import fit, models

    def train() -> list[float]:
        model, _ = models.build(config.model, config.data.image_shape)
        history = fit.fit(model, splits, config, lambda epoch, metrics: None)
        return history["train/images_per_second"][-count:]

    return train


def step(data: Path, rehearse: bool) -> Figures:
    """The baseline on JAX at batch 32: as runs train, and with Keras's own `fit`."""
    import keras

    from cifar_exp.training import models

    epochs = 2 if rehearse else 6
    overrides = ("model=baseline", "optimizer=adam", "training.batch_size=32", f"training.epochs={epochs}")
    config, splits = compose(data, rehearse, *overrides)
    ours = epochs_of(config, splits, epochs - 1)()
    model, _ = models.build(config.model, config.data.image_shape)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    images, labels = splits.training.images[:], splits.training.labels.astype(np.int32)
    rates = []
    for _ in range(2 if rehearse else 3):
        began = time.perf_counter()
        model.fit(images, labels, batch_size=32, verbose=0)
        rates.append(len(labels) / (time.perf_counter() - began))
    of_keras = float(np.median(rates[1:]))
    return {"ours": float(np.median(ours)), "keras_fit": of_keras, "ratio": float(np.median(ours)) / of_keras}


def torch_loop(data: Path, rehearse: bool) -> Figures:
    """The baseline in PyTorch at batch 32, images on the device; on a GPU its step is a CUDA graph."""
    import torch
    from torch import nn

    _, splits = compose(data, rehearse)
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    images = torch.as_tensor(np.asarray(splits.training.images)).to(device).permute(0, 3, 1, 2)
    labels = torch.as_tensor(splits.training.labels.astype(np.int64)).to(device)
    sizes, layers = (3, 32, 64, 64), []
    for position, (before, after) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Conv2d(before, after, 3), nn.ReLU(), *([nn.MaxPool2d(2)] if position < 2 else [])]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, capturable=on_gpu, fused=on_gpu)
    chosen = torch.zeros(32, dtype=torch.long, device=device)

    def train_on_chosen() -> None:
        optimizer.zero_grad(set_to_none=False)
        batch = images[chosen].float().div(255).contiguous(memory_format=torch.channels_last)
        nn.functional.cross_entropy(model(batch), labels[chosen]).backward()
        optimizer.step()

    run: Callable[[], None] = train_on_chosen
    if on_gpu:  # as in PyTorch's documentation: warm up on another stream, then record
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                train_on_chosen()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            train_on_chosen()
        run = graph.replay
    rates = []
    for _ in range(2 if rehearse else 4):
        order = torch.randperm(len(labels), device=device)
        began = time.perf_counter()
        for start in range(0, len(labels) - 31, 32):
            chosen.copy_(order[start : start + 32])
            run()
        if on_gpu:
            torch.cuda.synchronize()
        rates.append(len(labels) / (time.perf_counter() - began))
    return {"pytorch": float(np.median(rates[1:])), "cuda_graph": on_gpu}


def seeds(data: Path, rehearse: bool) -> Figures:
    """An epoch of eight trainings at once and one after another, in turn."""
    import jax
    from jax import numpy as jnp

    from cifar_exp.training import epoch, fit, models, objective, runtime

    on_cpu = () if runtime.gpus() else ("model=dense", "model.layers=[Flatten,{Dense:{units:10}}]")
    config, splits = compose(data, rehearse, "model=baseline", "optimizer=adam", "training.batch_size=32", *on_cpu)
    count, states, batches = len(splits.training), [], []
    for seed in range(8):
        keras_model, _ = models.build(config.model, config.data.image_shape)
        model, _ = fit.compile_model(keras_model, config, count, objective.loss(config, splits))
        program = epoch.Epoch(model, splits.training, 32, count)
        groups = (
            *(model.trainable_variables, model.non_trainable_variables),
            *(model.optimizer.variables, model.metrics_variables),
        )
        states.append(tuple([variable.value for variable in group] for group in groups))
        order = np.random.default_rng(seed).permutation(count)[: count // 32 * 32]
        batches.append((order.reshape(-1, 32).astype(np.int32),))
    at_once = jax.jit(jax.vmap(program._train_epoch, in_axes=(0, None, 0)), donate_argnums=0)
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *states)
    stacked_batches = (np.stack([each for (each,) in batches]),)
    seconds, differences = [], []
    for _ in range(2 if rehearse else 6):
        began = time.perf_counter()
        for number, own in enumerate(batches):
            _, states[number] = program._train_epoch(states[number], program._data, own)
        jax.block_until_ready(states)
        between = time.perf_counter()
        _, stacked = jax.block_until_ready(at_once(stacked, program._data, stacked_batches))
        seconds.append((between - began, time.perf_counter() - between))
        differences.append(float(jnp.abs(states[0][0][0] - stacked[0][0][0]).max()))
    ratios = [apart / together for apart, together in seconds[1:]]  # the first compiles
    return {
        "one_after_another / at_once": float(np.median(ratios)),
        "range": [round(min(ratios), 2), round(max(ratios), 2)],
        "images_per_second": 8 * count / float(np.median([together for _, together in seconds[1:]])),
        "largest_difference_of_weights_after_an_epoch": differences[0],
        "model": config.model.name,
    }


def busy(data: Path, rehearse: bool) -> Figures:
    """Share of the time in which the GPU computes, for ResNet-9 in bfloat16 at batch 512."""
    epochs = 2 if rehearse else 12
    overrides = ("experiment=best", "training.batch_size=512", f"training.epochs={epochs}")
    config, splits = compose(data, rehearse, *overrides)
    samples: list[tuple[float, int]] = []
    stop = threading.Event()

    def sample() -> None:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not stop.wait(0.1):
            samples.append((time.perf_counter(), pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))

    from cifar_exp.training import runtime

    on_gpu = bool(runtime.gpus())
    thread = threading.Thread(target=sample, daemon=True)
    if on_gpu:
        thread.start()
    ended: list[float] = []
    from cifar_exp.training import fit, models

    model, _ = models.build(config.model, config.data.image_shape)
    history = fit.fit(model, splits, config, lambda epoch, metrics: ended.append(time.perf_counter()))
    stop.set()
    figures: Figures = {"images_per_second": float(np.median(history["train/images_per_second"][1:]))}
    if not on_gpu:
        return figures | {"busy": None, "why": "no GPU"}
    counted = [share for at, share in samples if ended[0] < at < ended[-1]]
    return figures | {"busy": float(np.mean(counted)) / 100, "samples": len(counted)}


def whole_run(data: Path, rehearse: bool, name: str, seed: str) -> Figures:
    """A preset by the command line, on JAX, logged to SQLite in a folder of its own."""
    from mlflow import MlflowClient

    overrides = [f"experiment={name}", f"seed={seed}", *images_of(data, rehearse)]
    overrides += ["training.epochs=1"] if rehearse else []
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        command = [sys.executable, "-m", "cifar_exp", *overrides]
        done = subprocess.run(command, cwd=folder, env=os.environ | store, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        client = MlflowClient(store["MLFLOW_TRACKING_URI"])
        (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
        (run,) = client.search_runs([experiment.experiment_id])
        seconds = run.data.metrics["train/seconds"]
        whole = (run.info.end_time - run.info.start_time) / 1000
        return {
            "test_accuracy": run.data.metrics["test/accuracy"],
            "training_seconds": seconds,
            "run_seconds": whole,
            "command_seconds": time.time() - began,
            "device": run.data.tags["cifar_exp.device"],
        }


def measure(part: str, data: Path, rehearse: bool) -> Figures:
    """Measure one part in this process."""
    if part in MEASURES:
        return MEASURES[part](data, rehearse)
    return whole_run(data, rehearse, *part.rsplit("-", 1))


MEASURES: dict[str, Callable[[Path, bool], Figures]] = {"step": step, "torch": torch_loop, "seeds": seeds, "busy": busy}


def table(results: dict[str, Figures], parts: Sequence[str]) -> str:
    """The figures as a Markdown table."""
    lines = ["| part | figures |", "| --- | --- |"]
    for part in parts:
        figures = results.get(part, {"not measured": "time is over: give the command again"})
        words = (
            f"{key} {value:,.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
        )
        lines.append(f"| {part} | {', '.join(words)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure what is missing and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--results", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--part", choices=PARTS, help="measure this part alone, in this process")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    if arguments.part:
        print(json.dumps(measure(arguments.part, data, arguments.rehearse)))
        return 0
    deadline = time.monotonic() + 60 * arguments.minutes
    results: dict[str, Figures] = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    parts = [part for part in PARTS if not arguments.rehearse or part[-1] not in "1234"]
    missing = [part for part in parts if "failed" in results.get(part, {"failed": ""})]
    # one seed of each preset first
    for part in sorted(missing, key=lambda part: int(part.rpartition("-")[2]) if part[-1].isdigit() else -1):
        left = deadline - time.monotonic()
        if left < 1:
            break
        command = [sys.executable, __file__, "--part", part, "--data", str(data)]
        command += ["--rehearse"] if arguments.rehearse else []
        try:
            environment = os.environ | {"KERAS_BACKEND": "jax"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=left)
            failed = {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
            results[part] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else failed
        except subprocess.TimeoutExpired:
            break
        partial = arguments.results.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=2))
        partial.replace(arguments.results)
        print(f"{part}: {json.dumps(results[part])}", file=sys.stderr)
    print(table(results, parts))
    return 0 if all(part in results and "failed" not in results[part] for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
