"""The team's server as a test has it: the real docker-compose.yml and scripts, with containers of its own."""

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

# What a server machine needs of this project.
PARTS = ("docker-compose.yml", ".env.example", ".dockerignore", "constraints.txt", "Makefile", "docker")
ANSWERS_WITHIN = 120  # seconds, of a server that starts again by itself


@dataclass(frozen=True)
class User:
    """Somebody who can log in."""

    name: str
    password: str

    @property
    def login(self) -> tuple[str, str]:
        """As requests takes it."""
        return self.name, self.password


@dataclass(frozen=True)
class Stack:
    """A server of its own: containers, volumes, secrets and port are no other's."""

    folder: Path
    name: str
    port: int

    @classmethod
    def prepare(cls, folder: Path, **settings: str) -> Stack:
        """Its folder, with .env as `make env` writes it and these settings; nothing is started."""
        for part in PARTS:
            source = program.ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
        stack = cls(folder, f"cifar_exp_test_{secrets.token_hex(4)}", free_port())
        stack.make("env")
        stack.set(COMPOSE_PROJECT_NAME=stack.name, MLFLOW_PORT=str(stack.port), **settings)
        return stack

    def set(self, **settings: str) -> None:
        """Change .env."""
        path = self.folder / ".env"
        lines = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in settings]
        path.write_text("\n".join([*lines, *(f"{key}={value}" for key, value in settings.items())]) + "\n")

    def setting(self, name: str) -> str:
        """A value of .env."""
        (value,) = (
            line.partition("=")[2]
            for line in (self.folder / ".env").read_text().splitlines()
            if line.startswith(f"{name}=")
        )
        return value

    def make(self, *arguments: str, check: bool = True) -> program.Done:
        """`make ARGUMENTS` in its folder."""
        return _execute(["make", "--silent", *arguments], self.folder, check)

    def compose(self, *arguments: str, check: bool = True) -> program.Done:
        """`docker compose ARGUMENTS` in its folder."""
        return _execute(["docker/compose", *arguments], self.folder, check)

    def up(self) -> None:
        """`make up`: it answers when this returns."""
        self.make("up")

    def destroy(self) -> None:
        """Its containers and all it holds."""
        self.compose("down", "--volumes", "--timeout", "2")

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "-q", service).stdout.strip()

    def inside(self, service: str, *command: str, check: bool = True) -> program.Done:
        """A command in a service's container."""
        return self.compose("exec", "-T", service, *command, check=check)

    def health(self) -> str:
        """Of the server, as Docker's own checks see it."""
        return docker("inspect", "--format", "{{.State.Health.Status}}", self.container("mlflow")).stdout.strip()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> User:
        """Of the .env file."""
        return User("admin", self.setting("MLFLOW_ADMIN_PASSWORD"))

    def add(self, name: str) -> User:
        """`make user NAME=...`, with the password that it prints."""
        said = self.make("user", f"NAME={name}").stdout
        return User(name, said.split("password")[1].strip())

    def environment(self, user: User) -> dict[str, str]:
        """What a user sets to log here."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": user.name,
            "MLFLOW_TRACKING_PASSWORD": user.password,
        }

    @contextmanager
    def client(self, user: User) -> Iterator[MlflowClient]:
        """MLflow's, logged in: it reads the environment at every call."""
        from mlflow import MlflowClient

        before = os.environ.copy()
        for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
            os.environ.pop(name, None)  # MLflow's own patience, whatever ran in this process before
        os.environ.update(self.environment(user))
        try:
            yield MlflowClient(self.url)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def ask(self, path: str, user: User | None = None, **arguments: object) -> requests.Response:
        """POST, where `json=` is given, else GET."""
        method = "POST" if "json" in arguments else "GET"
        login = user.login if user else None
        return requests.request(method, f"{self.url}{path}", auth=login, timeout=30, **arguments)  # type: ignore[arg-type]

    def send(self, first_line: str, user: User, content: bytes) -> tuple[int, bytes]:
        """A request whose path goes out just as it is written."""
        token = base64.b64encode(":".join(user.login).encode()).decode()
        head = f"{first_line}Host: localhost:{self.port}\r\nAuthorization: Basic {token}\r\nConnection: close\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as to:
            to.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            answer = b"".join(iter(lambda: to.recv(65536), b""))
        start, _, body = answer.partition(b"\r\n\r\n")
        return int(start.split()[1]), body

    def wait_until_it_answers(self) -> None:
        """A query, from outside; nothing is done to help it."""
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
        """It answers, and Docker's own checks say so too."""
        self.wait_until_it_answers()
        until = time.monotonic() + ANSWERS_WITHIN
        while self.health() != "healthy":
            assert time.monotonic() < until, f"not healthy within {ANSWERS_WITHIN} s\n{self.logs()}"
            time.sleep(0.5)

    def logs(self) -> str:
        """The last lines of every service."""
        return self.compose("logs", "--tail=40", "--no-color", check=False).stdout


NewStack = Callable[..., Stack]
"""Makes a server that is not started, with these settings."""


def docker(*arguments: str, check: bool = True) -> program.Done:
    """`docker ARGUMENTS`."""
    return _execute(["docker", *arguments], Path.cwd(), check)


@cache
def missing() -> str | None:
    """Why the stack cannot run here, or None."""
    for command in ("docker", "make"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    if docker("version", check=False).returncode:
        return "no Docker engine answers"
    if docker("compose", "version", check=False).returncode and shutil.which("docker-compose") is None:
        return "Docker Compose is not installed"
    return None


def free_port() -> int:
    """One that nobody listens on."""
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
