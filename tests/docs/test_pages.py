"""The pages of the docs: every link leads somewhere, and every setting, file and module that they name exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import run_checks
from pages import PAGES, ROOT, blocks, text_of

from cifar_exp.config.composition import CONF
from cifar_exp.tracking import run_tags

LANGUAGES = {"sh", "yaml", "python", "text", "ini"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_fenced_with_a_language_so_that_no_command_is_missed(page: Path) -> None:
    assert {language for language, _ in blocks(page)} <= LANGUAGES
    text = text_of(page)
    assert not re.search(r"^```", text, re.M)
    assert not re.search(r"^\n    \S", text, re.M), "an indented block: fence it"


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert [name for name in pages if f"({name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_files_in_the_text_exist(page: Path, known_settings: set[str]) -> None:
    text = page.read_text()
    groups = "augmentation|data|optimizer|prediction|resume|review|sweep|tracking|training|hydra.launcher"
    named = re.findall(rf"`((?:{groups})\.[a-z_0-9.]+)(?==|`)", text)
    tags = {"review.state", "review.by", "review.note"}  # of a run, not settings
    assert sorted(set(named) - known_settings - tags) == []
    files = re.findall(r"`((?:cifar_exp|tests|docker|conf)/[\w/.]+\.\w+)`", text)
    shown = {f"conf/{name}" for _, content in page_blocks() for name in re.findall(r"^# conf/(\S+)$", content, re.M)}
    assert [name for name in files if not (ROOT / name).exists() and name not in shown and "NAME" not in name] == []


def test_every_metric_that_runs_log_is_defined() -> None:
    text = (ROOT / "docs" / "tracking.md").read_text()
    table = text.partition("| metric | definition |\n")[2].partition("\n\n")[0]
    defined = {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    of_class = {f"test/{score}/<class>" for score in run_checks.PER_CLASS}
    assert defined == run_checks.PER_EPOCH | run_checks.AT_THE_END | of_class


def test_every_tag_and_outcome_of_a_run_is_defined() -> None:
    text = (ROOT / "docs" / "tracking.md").read_text().partition("## What each tag says")[2]
    values = [value for name, value in vars(run_tags).items() if name.isupper()]
    assert len(values) > 30 and [value for value in values if f"`{value}`" not in text] == []


def page_blocks() -> list[tuple[str, str]]:
    return [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def known_settings() -> set[str]:
    """Every setting of the schema, and of the parallel launcher."""
    import yaml

    rows = re.findall(r"^\| `([a-z_0-9.]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.M)
    launcher = yaml.safe_load((CONF / "hydra" / "launcher" / "parallel.yaml").read_text())
    launcher |= yaml.safe_load((CONF / "hydra" / "launcher" / "slurm.yaml").read_text()) | {"partition": None}
    return set(rows) | {f"hydra.launcher.{key}" for key in launcher}


def test_names_that_contributors_are_sent_to_are_where_they_are_said_to_be() -> None:
    named = re.findall(r"`(\w+)` (?:of|in) `(cifar_exp/[\w/]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 8
    defined = r"^(?:def {0}\(|class {0}\b|{0}\b.* = )"
    assert [
        (name, file) for name, file in named if not re.search(defined.format(name), (ROOT / file).read_text(), re.M)
    ] == []


def test_the_list_of_modules_in_the_design_is_complete() -> None:
    (listed, *_) = (content for language, content in blocks(ROOT / "docs" / "design.md") if language == "text")
    package = ROOT / "cifar_exp"
    modules = [path for path in package.rglob("*.py") if path.name != "__init__.py" and path.parent.name != "commands"]
    assert [path.name for path in modules if not re.search(rf"\b{re.escape(path.name)}", listed)] == []
    known = {path.name for path in ROOT.glob("*/**/*.py")}
    assert [name for name in re.findall(r"\b(\w+\.py)\b", listed) if name not in known] == []


def test_the_commit_hooks_and_the_workflow_run_what_make_lint_does() -> None:
    import yaml

    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in local["hooks"]}
    lint = subprocess.run(["make", "--dry-run", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    checks = set(re.findall(r"^\.venv/bin/(ruff|mypy|lint-imports)\b", lint, re.M))
    assert checks <= hooks
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    steps = [step["run"].split()[:2] for step in job["steps"] if "run" in step]
    assert steps == [["make", "lint"], ["make", "test"]]
    assert shutil.which("make")
