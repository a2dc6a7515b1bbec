"""How fast the pages of the team's server answer on a full store, also while programs log and people decide.

    export MLFLOW_TRACKING_URI=... MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD=...
    python benchmarks/team_page.py [--runs 5000] [--experiments 50] [--requests 200] [--rounds 100] [--think 10]
        [--turns 15]

Needs a server that was made for this, and its administrator: it logs runs to the experiments `team_page 1` and so on,
a sweep in each, unless they are there, and makes two approvers. It then measures

- the pages /team, sweep and run, and the search of MLflow's own UI, one request after the other;
- how long 16 clients log while 20 people each open a page every so many seconds, over how long they take alone, in
  turn;
- two approvers who decide on the same run at the same moment: no verdict may be lost.

Exit codes: 0 if no request failed and no verdict is lost, 1 otherwise, 2 if there is no such server.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from contenders import median_and_range
from load_client import Work
from server_load import Latency, load

from cifar_exp.errors import UserError
from cifar_exp.tracking.store import Store

EPOCHS = 10
PEOPLE, CLIENTS = 20, 16
LOGGED = Work(epochs=60, metrics=20, artifacts=2)
LOGGERS = 8  # threads that fill the store
API = "/api/3.0/cifar-exp"
ROLES = "/api/3.0/mlflow/roles"


@dataclass(frozen=True)
class Server:
    """A server, and a login to it."""

    uri: str
    login: tuple[str, str]

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send a request."""
        return requests.request(method, f"{self.uri}{path}", auth=self.login, timeout=120, **arguments)

    def asked(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request and return its JSON answer.

        Raises:
            UserError: if it is refused.
        """
        answer = self.call(method, path, **arguments)
        if not answer.ok:
            raise UserError(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()


def fill(server: Server, runs: int, experiments: int) -> list[tuple[str, str]]:
    """Log the runs that are missing.

    Returns:
        Id of each experiment, and that of one of its runs.
    """
    found = []
    for number in range(1, experiments + 1):
        store = Store(server.uri, f"team_page {number}")
        present = store.client.search_runs([store.experiment_id], max_results=runs // experiments)
        missing = runs // experiments - len(present)
        with ThreadPoolExecutor(LOGGERS) as threads:
            list(threads.map(lambda job, store=store: _log(store, job), range(missing)))
        if missing:
            print(f"experiment {number} of {experiments} has its runs", file=sys.stderr)
        (one,) = store.client.search_runs([store.experiment_id], max_results=1)
        found.append((store.experiment_id, str(one.info.run_id)))
    return found


def _log(store: Store, job: int) -> None:
    """Log a run with the metrics, parameters and tags of a small training."""
    from mlflow.entities import Metric, Param, RunTag

    now, generator = time.time_ns() // 1_000_000, random.Random(job)
    reached = generator.uniform(0.3, 0.8)
    tags = {"cifar_exp.sweep": "benchmark", "cifar_exp.job": str(job + 1), "cifar_exp.git_dirty": "false"}
    run_id = store.client.create_run(store.experiment_id, tags=tags, run_name=f"job {job + 1}").info.run_id
    metrics = [Metric(name, reached, now, 0) for name in ("test/accuracy", "val/best_accuracy")]
    metrics += [
        Metric(name, reached * epoch / EPOCHS, now + epoch, epoch)
        for epoch in range(1, EPOCHS + 1)
        for name in ("val/accuracy", "val/loss", "train/accuracy", "train/loss")
    ]
    params = {"model.name": generator.choice(["large", "bn"]), "optimizer.learning_rate": str(generator.random())}
    params |= {f"setting.{number}": "default" for number in range(40)}
    outcome = [RunTag("cifar_exp.outcome", "completed")]
    store.client.log_batch(run_id, metrics, [Param(*pair) for pair in params.items()], outcome)
    store.client.set_terminated(run_id)


def measure(server: Server, places: list[tuple[str, str]], count: int) -> dict[str, Latency]:
    """Seconds of each kind of page, and of MLflow's own search."""
    chosen = random.Random(0)

    def search(experiment: str, _: str) -> requests.Response:
        body = {"experiment_ids": [experiment], "max_results": 100, "order_by": ["attributes.start_time DESC"]}
        return server.call("POST", "/ajax-api/2.0/mlflow/runs/search", json=body)

    kinds: dict[str, Callable[[str, str], requests.Response]] = {
        "/team": lambda experiment, run: server.call("GET", "/team"),
        "sweep page": lambda experiment, run: server.call("GET", f"/team/sweep?experiment={experiment}&name=benchmark"),
        "run page": lambda experiment, run: server.call("GET", f"/team/run?id={run}"),
        "MLflow's search of 100 runs": search,
    }
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(count):
        for name, ask in kinds.items():
            place = chosen.choice(places)
            began = time.perf_counter()
            answer = ask(*place)
            taken[name].append(time.perf_counter() - began)
            if not answer.ok:
                raise UserError(f"{name}: {answer.status_code} {answer.text[:200]}")
    return {name: Latency.from_seconds(seconds) for name, seconds in taken.items()}


@contextmanager
def clicking(server: Server, places: list[tuple[str, str]], think: float, failures: list[str]) -> Any:
    """People who each open a page every `think` seconds, until the end."""
    stop = threading.Event()

    def click(number: int) -> None:
        chosen = random.Random(number)
        while not stop.wait(think * chosen.uniform(0.5, 1.5)):
            experiment, run = chosen.choice(places)
            sweep = f"/team/sweep?experiment={experiment}&name=benchmark"
            answer = server.call("GET", chosen.choice(["/team", sweep, f"/team/run?id={run}"]))
            if not answer.ok:
                failures.append(f"{answer.status_code} {answer.text[:200]}")

    with ThreadPoolExecutor(PEOPLE) as threads:
        for number in range(PEOPLE):
            threads.submit(click, number)
        try:
            yield
        finally:
            stop.set()


def approvers(server: Server) -> list[Server]:
    """Two new users who may promote."""
    roles = {role["name"]: role["id"] for role in server.asked("GET", f"{ROLES}/list?workspace=default")["roles"]}
    made = []
    for _ in range(2):
        login = (f"approver_{secrets.token_hex(4)}", secrets.token_urlsafe(12))
        server.asked("POST", "/api/2.0/mlflow/users/create", json={"username": login[0], "password": login[1]})
        for role in ("member", "approver"):
            server.asked("POST", f"{ROLES}/assign", json={"username": login[0], "role_id": roles[role]})
        made.append(Server(server.uri, login))
    return made


def decide_at_once(server: Server, run: str, rounds: int) -> list[str]:
    """Let two approvers decide on a run at the same moment, again and again.

    Returns:
        What went wrong: refusals, lost verdicts, a state that is not that of the last verdict.
    """
    people, problems = approvers(server), []
    barrier = threading.Barrier(len(people))

    def decide(person: Server, action: str, note: str) -> None:
        barrier.wait()
        content = {"run_id": run, "action": action, "note": note, "even_though": "a test"}
        answer = person.call("POST", f"{API}/verdict", json=content)
        if not answer.ok:
            problems.append(f"{note}: {answer.status_code} {answer.text[:200]}")

    with ThreadPoolExecutor(len(people)) as threads:
        for number in range(rounds):
            actions = ("approve", "reject")
            list(threads.map(decide, people, actions, [f"{action} {number}" for action in actions]))
    from cifar_exp.review import verdicts

    logged = Store(server.uri, "").client.get_run(run)
    given = [one for one in verdicts.history(logged) if one.by in {person.login[0] for person in people}]
    expected = {f"{action} {number}" for number in range(rounds) for action in ("approve", "reject")}
    problems += [f"lost: {note}" for note in sorted(expected - {one.note for one in given})]
    if given and verdicts.state(logged) != given[-1].state:
        problems.append(f"the state is {verdicts.state(logged)}, the last verdict {given[-1].state}")
    return problems


def main() -> int:
    """Fill the store, measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 5000), ("experiments", 50), ("requests", 200), ("rounds", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--think", type=float, default=10, help="seconds between two pages that a person opens")
    parser.add_argument("--turns", type=int, default=15, help="how often logging is timed with and without people")
    arguments = parser.parse_args()
    named = [os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("URI", "USERNAME", "PASSWORD")]
    server = Server(named[0].rstrip("/"), (named[1], named[2]))
    failures: list[str] = []
    try:
        server.asked("GET", f"{API}/rules")
        places = fill(server, arguments.runs, arguments.experiments)
        print("| page | requests | p50, ms | p95, ms | max, ms |\n| --- | --- | --- | --- | --- |")
        for name, latency in measure(server, places, arguments.requests).items():
            figures = (latency.p50, latency.p95, latency.max)
            print(f"| {name} | {latency.calls} | {' | '.join(f'{1000 * figure:,.0f}' for figure in figures)} |")
        alone = [load(CLIENTS, LOGGED)]
        ratios = []
        for _ in range(arguments.turns):
            with clicking(server, places, arguments.think, failures):
                together = load(CLIENTS, LOGGED)
            alone.append(load(CLIENTS, LOGGED))
            ratios.append(together.seconds / statistics.mean(one.seconds for one in alone[-2:]))
            failures += [*together.failures, *together.lost]
        failures += [what for one in alone for what in (*one.failures, *one.lost)]
        every = f"{PEOPLE} people each opened a page every {arguments.think:g} s"
        print(f"\n{CLIENTS} clients took {median_and_range(ratios)} times as long to log while {every}.")
        problems = decide_at_once(server, places[0][1], arguments.rounds)
        print(f"{2 * arguments.rounds} verdicts of two approvers at the same moments: {len(problems)} problems.")
        failures += problems
    except (UserError, requests.RequestException) as error:
        print(f"team_page: {error}", file=sys.stderr)
        return 2
    for failure in failures[:20]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
