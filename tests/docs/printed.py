"""Commands that the docs print, and a check of each kind of them without running it."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pages import ROOT, blocks, text_of

from cifar_exp import cli, launch
from cifar_exp.config.composition import plan
from cifar_exp.config.explanation import explain_config
from cifar_exp.search import run as search

INLINE = ("python -m cifar_exp", "cifar-exp ", "make ", "docker/compose")


class Parsed(Exception):
    """What a script was asked for; raised so that it does not do it."""


def printed(page: Path) -> Iterator[str]:
    """The commands of a page: the lines of its sh blocks, what text blocks show after a $, and those in its text."""
    for language, content in blocks(page):
        lines = content.replace("\\\n", " ").splitlines()
        if language == "sh":
            yield from filter(None, lines)
        elif language == "text":
            yield from (line.removeprefix("$ ") for line in lines if line.startswith("$ "))
    yield from (span for span in re.findall(r"`([^`\n]+)`", text_of(page)) if span.startswith(INLINE))


def words(command: str) -> list[str]:
    """Its words without variables before it and without where its output goes."""
    split = shlex.split(command.replace("\\`", "`"))
    while re.match(r"[A-Z_]+=", split[0]):
        split = split[1:]
    return split[: split.index(">")] if ">" in split else split


def check_program(arguments: list[str], my_conf: Path) -> None:
    """Compose and check every job, with the files of conf/ that the docs show if it names one."""
    parsed = launch.parser().parse_args(arguments)
    files = [path.stem for path in my_conf.rglob("*.yaml")]
    folder = str(my_conf) if any(name in word for name in files for word in arguments) else None
    if parsed.explain_config:
        assert explain_config(parsed.overrides, parsed.multirun, folder, parsed.package)
    elif not parsed.help:
        planned = plan(parsed.overrides, parsed.multirun, folder)
        assert planned.jobs
        if planned.space:
            assert search.check(planned)


def parse_with_cli(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """As cifar-exp reads its command line."""
    monkeypatch.setattr(sys, "argv", ["cifar-exp", *arguments])
    return cli._parsed()


def check_script(script: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a benchmark read its command line, and stop it there."""
    parse = ArgumentParser.parse_args

    def parse_only(self: ArgumentParser, *given: Any, **named: Any) -> NoReturn:
        raise Parsed(parse(self, *given, **named))

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.syspath_prepend(str(ROOT / Path(script).parent))
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / script), run_name="__main__")


def check_make(arguments: list[str]) -> None:
    """Let make say what it would do."""
    done = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_mlflow(arguments: list[str]) -> None:
    """Let MLflow parse it, down to its last subcommand."""
    import click
    from mlflow.cli import cli as mlflow

    context, command, rest = click.Context(mlflow), mlflow, arguments
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
    command.make_context(name, list(rest), parent=context)


def check_extra(requirement: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, _, extra = requirement.rstrip("]").partition("[")
    assert name == project["name"]
    assert not extra or extra in project["optional-dependencies"]


def check_pytest(arguments: list[str]) -> None:
    """The files are there, and so are tests with this in their names."""
    named = [one for one in arguments if one.startswith("tests/")]
    assert named and all((ROOT / one).exists() for one in named)
    if "-k" in arguments:
        word = arguments[arguments.index("-k") + 1]
        assert any(re.search(rf"def test_\w*{word}", (ROOT / one).read_text()) for one in named)
