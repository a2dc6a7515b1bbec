"""Start the team's server for tests: the real docker-compose.yml and scripts, with separate containers."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import program
import requests

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What a server is made of: its scripts, and the package that its image holds.
PARTS = (
    *("docker-compose.yml", ".env.example", ".dockerignore", "constraints.txt", "Makefile", "docker"),
    *("pyproject.toml", "README.md", "LICENSE", "cifar_exp", "conf", "hydra_plugins"),
)
ANSWERS_WITHIN = 120  # seconds, for a server that restarts by itself


@dataclass(frozen=True)
class User:
    """Name and password of a user."""

    name: str
    password: str

    @property
    def login(self) -> tuple[str, str]:
        """Credentials in the format of requests."""
        return self.name, self.password


@dataclass(frozen=True)
class Stack:
    """A server with its own containers, volumes, secrets and port."""

    folder: Path
    name: str
    port: int

    @classmethod
    def prepare(cls, folder: Path, **settings: str) -> Stack:
        """Create the folder of a server with .env as `make env` writes it, plus settings; start nothing."""
        for part in PARTS:
            source = program.ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / part)
        stack = cls(folder, f"cifar_exp_test_{secrets.token_hex(4)}", free_port())
        stack.make("env")
        stack.set(COMPOSE_PROJECT_NAME=stack.name, MLFLOW_PORT=str(stack.port), **settings)
        return stack

    def set(self, **settings: str) -> None:
        """Change settings in .env."""
        path = self.folder / ".env"
        lines = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in settings]
        path.write_text("\n".join([*lines, *(f"{key}={value}" for key, value in settings.items())]) + "\n")

    def setting(self, name: str) -> str:
        """Read a setting from .env."""
        (value,) = (
            line.partition("=")[2]
            for line in (self.folder / ".env").read_text().splitlines()
            if line.startswith(f"{name}=")
        )
        return value

    def make(self, *arguments: str, check: bool = True) -> program.Done:
        """Run `make ARGUMENTS` in the server's folder."""
        return _execute(["make", "--silent", *arguments], self.folder, check)

    def compose(self, *arguments: str, check: bool = True) -> program.Done:
        """Run `docker compose ARGUMENTS` in the server's folder."""
        return _execute(["docker/compose", *arguments], self.folder, check)

    def up(self) -> None:
        """Run `make up`, which waits until the server answers."""
        self.make("up")

    def destroy(self) -> None:
        """Remove the containers and volumes."""
        self.compose("down", "--volumes", "--timeout", "2")

    def container(self, service: str) -> str:
        """Id of the container of a service."""
        return self.compose("ps", "-q", service).stdout.strip()

    def inside(self, service: str, *command: str, check: bool = True) -> program.Done:
        """Run a command in the container of a service."""
        return self.compose("exec", "-T", service, *command, check=check)

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> User:
        """The administrator, with the password in .env."""
        return User("admin", self.setting("MLFLOW_ADMIN_PASSWORD"))

    def add(self, name: str) -> User:
        """Add a user with `make user NAME=...`; return it with the printed password."""
        output = self.make("user", f"NAME={name}").stdout
        return User(name, output.split("password")[1].strip())

    def environment(self, user: User) -> dict[str, str]:
        """Environment variables with which a user logs to this server."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": user.name,
            "MLFLOW_TRACKING_PASSWORD": user.password,
        }

    @contextmanager
    def client(self, user: User) -> Iterator[MlflowClient]:
        """Context manager for MLflow's client, logged in with environment variables, which it reads at every call."""
        from mlflow import MlflowClient

        before = os.environ.copy()
        for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
            os.environ.pop(name, None)  # MLflow's default timeouts, whatever ran in this process before
        os.environ.update(self.environment(user))
        try:
            yield MlflowClient(self.url)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def ask(self, path: str, user: User | None = None, **arguments: object) -> requests.Response:
        """Send a POST request if `json=` is given, else a GET request."""
        method = "POST" if "json" in arguments else "GET"
        login = user.login if user else None
        return requests.request(method, f"{self.url}{path}", auth=login, timeout=30, **arguments)  # type: ignore[arg-type]

    def send(self, first_line: str, user: User, content: bytes) -> tuple[int, bytes]:
        """Send a request whose path is not normalized."""
        token = base64.b64encode(":".join(user.login).encode()).decode()
        head = f"{first_line}Host: localhost:{self.port}\r\nAuthorization: Basic {token}\r\nConnection: close\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as to:
            to.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            answer = b"".join(iter(lambda: to.recv(65536), b""))
        start, _, body = answer.partition(b"\r\n\r\n")
        return int(start.split()[1]), body

    def wait_until_it_answers(self) -> None:
        """Wait until the server answers a query, without starting anything."""
        until = time.monotonic() + ANSWERS_WITHIN
        while True:
            try:
                if self.ask("/api/2.0/mlflow/experiments/search", self.admin, json={"max_results": 1}).ok:
                    return
            except requests.RequestException:
                pass
            assert time.monotonic() < until, f"no answer within {ANSWERS_WITHIN} s\n{self.logs()}"
            time.sleep(0.5)

    def wait_until_healthy(self) -> None:
        """Wait until the server answers and Docker's checks report it as healthy."""
        self.wait_until_it_answers()
        until, container = time.monotonic() + ANSWERS_WITHIN, self.container("mlflow")
        while health(container) != "healthy":
            assert time.monotonic() < until, f"not healthy within {ANSWERS_WITHIN} s\n{self.logs()}"
            time.sleep(0.5)

    def logs(self) -> str:
        """Last log lines of every service."""
        return self.compose("logs", "--tail=40", "--no-color", check=False).stdout


NewStack = Callable[..., Stack]
"""Function that prepares a server with settings, without starting it."""


def docker(*arguments: str, check: bool = True) -> program.Done:
    """Run `docker ARGUMENTS`."""
    return _execute(["docker", *arguments], Path.cwd(), check)


def health(container: str) -> str:
    """Health of a container according to Docker's checks."""
    return docker("inspect", "--format", "{{.State.Health.Status}}", container).stdout.strip()


@cache
def missing() -> str | None:
    """Why the server cannot run on this machine; None if it can."""
    for command in ("docker", "make"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    if docker("version", check=False).returncode:
        return "no Docker engine answers"
    if docker("compose", "version", check=False).returncode and shutil.which("docker-compose") is None:
        return "Docker Compose is not installed"
    return None


def free_port() -> int:
    """Find a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _execute(command: list[str], folder: Path, check: bool) -> program.Done:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "COMPOSE_"))}
    done = subprocess.run(
        command, cwd=folder, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900
    )
    assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
