"""Code version, packages and machine of a run."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cifar_exp
from cifar_exp.tracking import run_tags


class Commit(NamedTuple):
    """Git commit of the code.

    Args:
        sha: of the commit.
        dirty: whether the work tree has uncommitted changes.
    """

    sha: str
    dirty: bool


@cache
def commit() -> Commit | None:
    """Commit of the running code; None if it is not in a git work tree, for example if a wheel was installed."""
    root = Path(cifar_exp.__file__).parent.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        if not git("ls-files", "cifar_exp/__init__.py"):
            return None
        return Commit(git("rev-parse", "HEAD"), bool(git("status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):
        return None


def source_tags() -> dict[str, str]:
    """Tags that describe the code of a run, under this package's names and those that MLflow's UI shows."""
    found = commit()
    tags = {
        run_tags.GIT_COMMIT: found.sha if found else "unknown",
        run_tags.GIT_DIRTY: str(found.dirty).lower() if found else "unknown",
        "mlflow.source.name": "python -m cifar_exp",
        "mlflow.source.type": "LOCAL",
    }
    return tags | ({"mlflow.source.git.commit": found.sha} if found else {})


def requirements(*packages: str) -> list[str]:
    """Requirements that pin packages to their installed versions, for example `keras==3.15.1`.

    Local version labels such as `+cpu`, which a package index does not know, are removed.
    """
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in packages]


def describe(backend: str, device: str, driver: str | None = None) -> str:
    """Describe Python, platform, device and all installed packages as text, one per line.

    Args:
        backend: name and version of what Keras runs on.
        device: of the run.
        driver: version of the GPU's driver; None without a GPU.
    """
    head = [
        f"cifar_exp {cifar_exp.__version__}",
        f"Python {sys.version.split()[0]}",
        f"platform {platform.platform()}",
        f"backend {backend}",
        f"device {device}",
        *([f"driver {driver}"] if driver else []),
    ]
    return "\n".join([*head, "", *_installed(), ""])


@cache
def _installed() -> list[str]:
    """Name and version of every installed package; reading them takes a fifth of a second."""
    known = [found.metadata for found in importlib.metadata.distributions()]  # each access parses the metadata again
    return sorted({f"{one['Name']}=={one['Version']}" for one in known if one["Name"]}, key=str.lower)
