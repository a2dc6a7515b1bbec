"""Compare searches: epochs of training until one finds what random search finds with 50 full trials.

    python benchmarks/search.py [--seeds 20] [--first-seed 1000] [--python NAME=FILE ...] [--only NAME ...]
    python benchmarks/search.py --times [--runs 1000]
    python benchmarks/search.py --idle FOLDER [--trials 20]

The first command lets each contender of benchmarks/search_contenders.py search the recorded landscape
(benchmarks/landscape.py), one worker, many seeds. The target is the median, over 1,000 other seeds, of the best
validation accuracy of 50 random trials of all epochs. `--python optuna-tpe=build/optuna2/bin/python` runs a contender
with another Python. The second command times what a search does between two trials, with 1,000 known ones, and what it
takes to rebuild it from the store. Both print a Markdown table. The third command runs a real search of trials of some
ten seconds on CIFAR-10 in FOLDER, with two workers, and prints how long a worker waits between two trials.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import search_contenders
from landscape import EPOCHS, LEARNING_RATE, Landscape, read

if TYPE_CHECKING:
    from cifar_exp.search.trials import Trial
    from cifar_exp.tracking.store import Store

FULL_TRIALS = 50
REFERENCE_SEEDS = range(20_000, 21_000)
NAMES = ("ours", "optuna-tpe", "ray-asha", "ray-asha-3", "keras-tuner-hyperband")


def target_of(landscape: Landscape) -> float:
    """Median of the best validation accuracy of random search with 50 full trials."""
    bests = []
    for seed in range(10_000, 11_000):
        generator = random.Random(seed)
        settings = (search_contenders.random_setting(generator) for _ in range(FULL_TRIALS))
        bests.append(max(max(landscape.curve(setting)) for setting in settings))
    return statistics.median_low(bests)


def epochs_of(name: str, python: str, target: float, first: int, seeds: int) -> list[float]:
    """Epochs until the target was seen, by seed."""
    script = Path(search_contenders.__file__)
    command = [python, str(script), name, str(target), str(first), str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return [float(line) for line in done.stdout.splitlines() if line.replace(".", "").isdecimal() or line == "inf"]


def compare(arguments: argparse.Namespace) -> None:
    """Print the epochs of every contender."""
    landscape = read()
    target = target_of(landscape)
    best = max(map(max, landscape.accuracies.values()))
    pythons = dict(one.split("=", 1) for one in arguments.python)
    print(f"target {target:.4f}, best of the landscape {best:.4f}, {FULL_TRIALS * EPOCHS:,} epochs are 50 trials\n")
    print("| search | epochs to the target, median | quarter to three quarters | of random search |")
    print("| --- | ---: | ---: | ---: |")
    reference = statistics.median(_random_epochs(landscape, target, seed) for seed in REFERENCE_SEEDS)
    print(f"| random, {len(REFERENCE_SEEDS):,} seeds | {reference:,.0f} | | 1.00 |")
    for name in arguments.only or NAMES:
        python = pythons.get(name, sys.executable)
        epochs = sorted(epochs_of(name, python, target, arguments.first_seed, arguments.seeds))
        median = statistics.median(epochs)
        ends = f"{epochs[len(epochs) // 4]:,.0f} to {epochs[-1 - len(epochs) // 4]:,.0f}"
        print(f"| {name} | {median:,.0f} | {ends} | {median / reference:.2f} |", flush=True)


def _random_epochs(landscape: Landscape, target: float, seed: int) -> float:
    training = search_contenders.Training(landscape, target)
    try:
        search_contenders.random_full(training, seed)
    except search_contenders.Over:
        return training.epochs
    raise AssertionError("random search ends")


def times(runs: int) -> None:
    """Print seconds of asking, telling and rebuilding with so many known trials."""
    from cifar_exp.config.dimension import CATEGORICAL, FLOAT, Dimension
    from cifar_exp.config.space import Space
    from cifar_exp.search import records, sampling, trials
    from cifar_exp.search.pruning import Pruner
    from cifar_exp.search.trials import COMPLETE, PRUNED
    from cifar_exp.tracking.store import Store as TrackingStore

    rate = Dimension(LEARNING_RATE, FLOAT, low=search_contenders.LOW, high=search_contenders.HIGH, log=True)
    choices = search_contenders.CHOICES.items()
    space = Space((rate, *(Dimension(key, CATEGORICAL, tuple(map(str, values))) for key, values in choices)))
    settings = search_contenders.our_settings(n_trials=2 * runs)
    judge, landscape = Pruner.of(settings, EPOCHS), read()
    distributions = sampling.distributions(space)
    search = trials.Search(
        *(settings.metrics, settings.directions, "tpe", "successive_halving", 0, 2 * runs, EPOCHS),
        *(judge.rungs(), distributions),
    )
    generator, rows = random.Random(0), []
    for number in range(1, runs + 1):
        setting = {key: str(of) for key, of in search_contenders.random_setting(generator).items()}
        point = setting | {LEARNING_RATE: rate.fit(float(setting[LEARNING_RATE]))}
        curve = landscape.curve(point)
        kept = next((rung for rung in judge.rungs() if judge.report(number, curve[:rung])), EPOCHS)
        state = COMPLETE if kept == EPOCHS else PRUNED
        rows.append(trials.Trial(number, state, point, (max(curve[:kept]),), curve[:kept], kept, started=1, ended=2))
    known = trials.Trials(search, tuple(rows))
    print(f"| with {runs:,} known trials | seconds, median of 5 (range) |\n| --- | ---: |")
    _time("ask", lambda: sampling.ask(space, settings, known, runs + 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.parquet"

        def tell() -> None:
            judge.report(runs, rows[-1].history)
            judge.promotable([row.trial for row in rows if row.state == PRUNED])
            known.write(path)

        _time("tell: judge, look for a promotion, write the trials", tell)
        store = TrackingStore(f"sqlite:///{folder}/mlflow.db", "search")
        _log(store, rows)
        _time("rebuild from the store", lambda: records.of_sweep(Path(folder), store, "s", space, settings), 3)


def _time(name: str, call: Callable[[], object], rounds: int = 5) -> None:
    call()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    print(f"| {name} | {statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) |", flush=True)


def _log(store: Store, rows: Sequence[Trial]) -> None:
    """Log trials as their runs do, as far as a search reads it."""
    from mlflow.entities import Metric

    from cifar_exp.tracking.run_tags import JOURNAL

    client = store.client
    for row in rows:
        tags = {
            **{"cifar_exp.sweep": "s", "cifar_exp.job": str(row.trial), "cifar_exp.trial": str(row.trial)},
            "cifar_exp.overrides": " ".join(f"{key}={value}" for key, value in row.params.items()),
            JOURNAL: str(row.trial),
            "cifar_exp.outcome": "completed" if row.state == "complete" else row.state,
        }
        run = client.create_run(store.experiment_id, run_name=f"trial-{row.trial}", tags=tags)
        metrics = [Metric("val/accuracy", value, row.started, epoch) for epoch, value in enumerate(row.history, 1)]
        client.log_batch(run.info.run_id, metrics=metrics)
        client.set_terminated(run.info.run_id, "FINISHED")


def idle(data: Path, trials: int) -> None:
    """Run a search with two workers, and print how long they waited between the end of a run and the next one's start.

    Which worker a run was on is not logged: a run is taken to follow the one that ended first.
    """
    from mlflow import MlflowClient

    model = ("data.train_images=20000", "training.epochs=3", "hydra.sweeper.pruner=none")
    space = ("optimizer.learning_rate=tag(log,interval(1e-4,1e-2))", "training.batch_size=choice(32,64)")
    two = ("hydra/launcher=parallel", f"hydra.launcher.cpus_per_job={(os.cpu_count() or 1) / 2:g}")
    with tempfile.TemporaryDirectory() as folder:
        where = (f"data.dir={data}", "data.verify=size", f"tracking.uri=sqlite:///{folder}/mlflow.db")
        search = ("-m", "hydra/sweeper=search", f"hydra.sweeper.n_trials={trials}", "sweep.name=idle")
        subprocess.run(
            [sys.executable, "-m", "cifar_exp", *search, *two, *model, *space, *where], cwd=folder, check=True
        )
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        (experiment,) = (one for one in client.search_experiments() if one.name == "cifar10")
        logged = client.search_runs([experiment.experiment_id], "tags.`cifar_exp.trial` != ''", max_results=trials)
    runs = sorted((run.info.start_time / 1000, run.info.end_time / 1000) for run in logged)
    ends: list[float] = []
    waited = []
    for start, end in runs:
        if earlier := [one for one in ends if one <= start]:
            ends.remove(min(earlier))
            waited.append(start - min(earlier))
        ends.append(end)
    trained = statistics.median(end - start for start, end in runs)
    share = sum(waited) / (sum(waited) + sum(end - start for start, end in runs))
    print(
        f"{len(runs)} trials of {trained:.1f} s, median, on two workers: {share:.3f} of their time between two trials,"
    )
    print(f"{statistics.median(waited):.2f} s ({min(waited):.2f} to {max(waited):.2f}) each")


def main() -> None:
    """Compare searches, or time ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1_000, help="seeds below 120 served to choose our defaults")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--only", nargs="+", choices=search_contenders.CONTENDERS)
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--idle", type=Path, metavar="FOLDER")
    parser.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.times:
        times(arguments.runs)
    elif arguments.idle:
        idle(arguments.idle.resolve(), arguments.trials)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
