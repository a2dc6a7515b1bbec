"""Time cifar-exp compare, report and ensemble and the list of runs in the UI with many logged runs.

    python benchmarks/many_runs.py [--runs 1000] [--epochs 10] [--rounds 3] [--folder build/many_runs] [--no-ui]

Creates a store with this number of finished runs, unless the folder already contains one. Each run has what a training
logs (about 55 parameters and 50 metrics, tags, predictions for 10,000 test and 5,000 validation images), with random
values, logged with MLflow's client. Then the commands are timed, each in a process of its own, in wall time and in
processor time, which depends less on other work of the machine. With Chromium and Playwright, the time until the list
of runs is shown is measured. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from cifar_exp.config import composition
from cifar_exp.config.schema import flatten
from cifar_exp.data import cifar10
from cifar_exp.evaluation.scores import Evaluation
from cifar_exp.tracking.store import Store

EXPERIMENT = "many_runs"
QUIET = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
MODELS, OPTIMIZERS, SEEDS = ("baseline", "bn", "large", "dense"), ("sgd", "adam", "adamw", "nadam"), 5
TEST_IMAGES, VALIDATION_IMAGES = 10_000, 5_000


def log_runs(store: Store, runs: int, epochs: int) -> None:
    """Log runs as a sweep over models, optimizers, learning rates and seeds would."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    client, experiment = store.client, store.experiment_id
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(10, dtype=np.uint8), TEST_IMAGES // 10)
    validation_labels = labels[:: TEST_IMAGES // VALIDATION_IMAGES]
    overrides = [f"model={','.join(MODELS)}", f"optimizer={','.join(OPTIMIZERS)}"]
    configs = composition.plan(overrides, multirun=True).jobs
    for number in range(runs):
        base = configs[number % len(configs)]
        rate = 10.0 ** -(1 + number // (len(configs) * SEEDS) % 4)
        seed = number // len(configs) % SEEDS
        config = replace(base, optimizer=replace(base.optimizer, learning_rate=rate), seed=seed)
        evaluation, validation = (_evaluation(generator, one) for one in (labels, validation_labels))
        now = time.time_ns() // 1_000_000
        name = f"{config.model.name}-{config.optimizer.name}-learning_rate={rate}-seed={seed}"
        tags = {
            "cifar_exp.outcome": "completed",
            "cifar_exp.sweep": "many",
            "cifar_exp.device": "CPU: none",
            "cifar_exp.overrides": f"model={config.model.name} optimizer={config.optimizer.name}",
            "cifar_exp.fingerprint": f"{number:016x}",
            "cifar_exp.git_commit": "0" * 40,
            "review.state": "unreviewed",
        }
        run = client.create_run(experiment, start_time=now, run_name=name, tags=tags)
        last = evaluation.metrics() | {
            "val/best_accuracy": 0.7,
            "val/best_epoch": float(epochs),
            "train/seconds": float(generator.uniform(50, 5_000)),
            "model/parameters": float(100_000 * (1 + number % len(configs))),
        }
        metrics = [Metric(key, value, now, 0) for key, value in last.items()]
        for epoch in range(1, epochs + 1):
            done = epoch / epochs
            for key, value in (("loss", 2.3 - done), ("accuracy", 0.1 + 0.6 * done)):
                noise = generator.normal(0, 0.02, 2)
                metrics += [Metric(f"train/{key}", value + noise[0], now, epoch)]
                metrics += [Metric(f"val/{key}", value + noise[1], now, epoch)]
            metrics += [Metric("train/epoch_seconds", 2.0, now, epoch), Metric("train/learning_rate", rate, now, epoch)]
        params = [Param(key, str(value)) for key, value in flatten(config).items()]
        client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=[RunTag("review.by", "")])
        datasets = [Dataset(f"cifar10-{split}", "0" * 32, "code", "{}") for split in ("test", "validation")]
        client.log_inputs(run.info.run_id, [DatasetInput(dataset) for dataset in datasets])
        place = Path(run.info.artifact_uri.removeprefix("file://")) / "evaluation"
        place.mkdir(parents=True)
        evaluation.predictions().to_parquet(place / "predictions.parquet", index=False)
        validation.predictions().to_parquet(place / "predictions_validation.parquet", index=False)
        client.set_terminated(run.info.run_id, "FINISHED")
        if number % 100 == 99:
            print(f"{number + 1} runs", file=sys.stderr)


def _evaluation(generator: np.random.Generator, labels: np.ndarray) -> Evaluation:
    """Evaluation of a random classifier."""
    logits = generator.normal(0, 1, (len(labels), 10)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += generator.uniform(0.5, 2.5)
    log_probabilities = log_softmax(logits, axis=1)
    return Evaluation(cifar10.CLASS_NAMES, labels, np.exp(log_probabilities), log_probabilities)


def time_command(*arguments: str) -> tuple[float, float]:
    """Run `cifar-exp ARGUMENTS`; return its wall time and its processor time in seconds."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "cifar_exp.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used


def time_run_list(folder: Path, rounds: int) -> list[float]:
    """Start a server and return the seconds until its list of runs, sorted by accuracy, shows the first rows."""
    import requests
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    backend = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    server = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen([*server, "--backend-store-uri", backend], env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                if requests.get(f"{address}/health", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(0.5)
        experiment = Store(address, EXPERIMENT).experiment_id
        query = "workflowType=machine_learning&orderByKey=metrics.%60test%2Faccuracy%60&orderByAsc=false"
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        seconds = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=QUIET.split())
            for _ in range(rounds):
                page = browser.new_page(viewport={"width": 1700, "height": 1000})
                page.set_default_timeout(120_000)
                began = time.perf_counter()
                page.goto(f"{address}/#/experiments/{experiment}/runs?{query}")
                page.locator("[role=row] a[href*='/runs/']").nth(10).wait_for()
                seconds.append(time.perf_counter() - began)
                page.close()
            browser.close()
        return seconds
    finally:
        process.terminate()
        process.wait()
        log.close()


def main() -> None:
    """Log the missing runs, time the commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("build") / "many_runs")
    parser.add_argument("--no-ui", action="store_true")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", EXPERIMENT)
    existing = len(store.client.search_runs([store.experiment_id], max_results=50_000))
    if existing < arguments.runs:
        log_runs(store, arguments.runs - existing, arguments.epochs)
    best = store.client.search_runs([store.experiment_id], order_by=["metrics.`test/accuracy` DESC"], max_results=1)
    few = [run.info.run_id for run in store.client.search_runs([store.experiment_id], max_results=12)]
    where = ("--uri", f"sqlite:///{folder / 'mlflow.db'}", "--experiment", EXPERIMENT)
    page = str(folder / "report.html")
    tasks = {
        "`--help`": ("--help",),
        "`compare`, all": ("compare", *where),
        "`compare --group seed`, all": ("compare", "--group", "seed", *where),
        "`compare`, 12": ("compare", *few, *where),
        "`compare --baseline`, 12": ("compare", *few, "--baseline", best[0].info.run_id, *where),
        "`report`, all": ("report", "-o", page, *where),
        "`report`, 12": ("report", *few, "-o", page, *where),
        "`ensemble --top 50`": ("ensemble", "--sweep", "many", "--top", "50", "--dry-run", *where),
    }
    print(f"| with {max(existing, arguments.runs):,} logged runs | seconds, median (range) | of the processor |")
    print("| --- | --- | --- |")
    for name, task in tasks.items():
        times, used = zip(*(time_command(*task) for _ in range(arguments.rounds)), strict=True)
        print(f"| {name} | {_spread(times)} | {statistics.median(used):.1f} |")
    if not arguments.no_ui:
        print(f"| the UI's list of runs, in Chromium | {_spread(time_run_list(folder, arguments.rounds))} | |")


def _spread(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"


if __name__ == "__main__":
    main()
