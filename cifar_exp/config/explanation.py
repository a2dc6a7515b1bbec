"""`python -m cifar_exp --explain-config`: a composed config as YAML, with the origin of each value as a comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from cifar_exp.config import composition, composition_errors, from_data, overrides, tracing
from cifar_exp.config.composition import CONF
from cifar_exp.config.plan import Plan
from cifar_exp.config.template import KeyPath, key_path, resolved, within
from cifar_exp.config.tracing import Origins, Setting
from cifar_exp.errors import UserError, did_you_mean

_COMMENTS_AT = 50  # column of the comments, unless all values are shorter
_LONGEST = 60  # characters of a replaced value


def explain_config(
    arguments: Sequence[str], multirun: bool = False, config_dir: str | None = None, package: str | None = None
) -> str:
    """Compose the job of a command line, and tell where each value comes from. The job need not be able to run.

    Args:
        arguments: the overrides.
        multirun: whether -m was given; of a sweep, the first job is composed.
        config_dir: folder with additional choices, from --config-dir.
        package: dotted key of the part to show; default: everything.

    Returns:
        YAML with comments, the content of the resolved config.

    Raises:
        UserError: if the config cannot be composed, or has no such part.
    """
    with composition.composing():
        plan = composition.list_jobs(arguments, multirun, config_dir)
        job = [*plan.composed_with, *plan.overrides[0], *plan.of_the_sweep, *plan.arguments]
        by_user = {override.get_key_element() for override in overrides.parse(arguments, intervals=True)}
        try:
            traced = tracing.trace(GlobalHydra.instance().config_loader(), job, by_user, CONF)
        except Exception as error:
            raise UserError(composition_errors.explain(error)) from error
        page = _Page(traced)
        part = page.part(package) if package else ()
        lines = list(page.lines(part))
    width = min(_COMMENTS_AT, max((len(text) for text, comment in lines if comment), default=0))
    head = [*_head(plan), *(f"{group}={choice}: {_words(it)}" for group, (at, choice, it) in page.choices(()))]
    body = [f"{text:{width}}  # {_one_line(comment)}" if comment else text for text, comment in lines]
    gone = ((key, it) for key, it in traced.removed.items() if within(key_path(key), part))
    tail = [f"removed: {key}, {_words(setting)}" for key, setting in gone]
    return "\n".join([*(f"# {_one_line(it)}" for it in head), *body, *(f"# {_one_line(it)}" for it in tail), ""])


def _head(plan: Plan) -> Iterator[str]:
    if Path("conf").resolve() != CONF.resolve():
        yield f"conf/ is {CONF}"
    if plan.space:
        drawn = " ".join(plan.overrides[0][len(plan.fixed) :])
        yield f"one trial of the search, {drawn}"
    elif plan.folder:
        yield f"job 1 of {plan.count}: {' '.join(plan.overrides[0])}"


class _Node(NamedTuple):
    """A part of the config: its path, its content without and its place with OmegaConf."""

    path: KeyPath
    raw: Any
    parent: Any
    key: Any

    def children(self) -> Iterator[_Node]:
        node = self.parent._get_node(self.key) if self.path else self.parent
        for key, raw in self.raw.items() if isinstance(self.raw, dict) else enumerate(self.raw):
            yield _Node((*self.path, str(key)), raw, node, key)


class _Page:
    """The lines of a config, each with its comment."""

    def __init__(self, traced: Origins) -> None:
        self._traced = traced
        self._root = _Node((), OmegaConf.to_container(traced.config), traced.config, None)

    def part(self, package: str) -> KeyPath:
        """Return the path of a part of the config.

        Raises:
            UserError: if there is none.
        """
        node, path = self._root, key_path(package) or (package,)
        while len(node.path) < len(path):
            below = list(node.children()) if isinstance(node.raw, dict | list) else []
            found = next((child for child in below if within(path, child.path)), None)
            if found is None:
                where, names = ".".join(node.path) or "the config", [child.path[-1] for child in below]
                has = f"has: {', '.join(names)}" if below else "is a setting"
                suggested = did_you_mean(path[len(node.path)], names)
                raise UserError(f"-p {package}: no such part{suggested} ({where} {has})")
            node = found
        return path

    def choices(self, path: KeyPath) -> Iterator[tuple[str, tuple[KeyPath, str, Setting]]]:
        """Yield the groups whose settings are at a path."""
        return ((group, choice) for group, choice in self._traced.choices.items() if choice[0] == path)

    def lines(self, part: KeyPath) -> Iterator[tuple[str, str]]:
        """Yield the lines of a part, within the sections that it is in."""
        for child in self._root.children():
            yield from self._entry(child, part, "")

    def _entry(self, node: _Node, part: KeyPath, indent: str) -> Iterator[tuple[str, str]]:
        if not within(node.path, part) and not within(part, node.path):
            return
        key = f"{indent}{_flow(node.key)}:"
        if isinstance(node.raw, dict) and node.raw:
            chosen = (f"{group}={choice}: {_words(setting)}" for group, (_, choice, setting) in self.choices(node.path))
            yield key, "; ".join(chosen)
            for child in node.children():
                yield from self._entry(child, part, f"{indent}  ")
        elif isinstance(node.raw, list) and not self._is_of_one_line(node):
            yield key, _words(self._traced.settings[node.path])
            for item in node.children():
                if within(item.path, part) or within(part, item.path):
                    yield from self._item(item, f"{indent}  ")
        else:
            yield f"{key} {_flow(_value(node))}", self._comment(node)

    def _item(self, node: _Node, indent: str) -> Iterator[tuple[str, str]]:
        """Yield the lines of an item of a list, which is on one line if it is set on one."""
        if not isinstance(node.raw, dict | list) or not node.raw or self._is_of_one_line(node):
            value = _flow(_value(node))
            bare = isinstance(node.raw, dict) and len(node.raw) == 1
            yield f"{indent}- {value[1:-1] if bare else value}", self._comment(node)
            return
        start = f"{indent}- "
        for child in node.children():
            within_it = f"{indent}  "
            lines = self._entry(child, (), within_it) if isinstance(node.raw, dict) else self._item(child, within_it)
            for text, comment in lines:
                yield start + text[len(start) :], comment
                start = within_it

    def _is_of_one_line(self, node: _Node) -> bool:
        """Whether one line of a file, or one override, has set all of a list or an item, and nothing in it since."""
        inside = [setting for path, setting in self._traced.settings.items() if within(path, node.path)]
        top = self._traced.settings.get(node.path)
        return len({it.origin for it in inside}) <= 1 and not any(it.was for it in inside if it is not top)

    def _comment(self, node: _Node) -> str:
        setting = self._traced.settings.get(node.path) or next(
            it for path, it in self._traced.settings.items() if within(path, node.path)
        )
        if node.raw in from_data.INTERPOLATIONS.values():
            failed = _failure(node)
            return f"from the data{f', which cannot be read: {failed}' if failed else ''}"
        return _words(setting, ", ".join(_expressions(node, node)))


def _value(node: _Node) -> Any:
    """Return the content of a node, resolved as far as it can be."""
    if isinstance(node.raw, dict):
        return {child.key: _value(child) for child in node.children()}
    if isinstance(node.raw, list):
        return [_value(child) for child in node.children()]
    return node.raw if not _interpolates(node) or _failure(node) else resolved(node.parent, node.key)


def _interpolates(node: _Node) -> bool:
    return isinstance(node.raw, str) and "${" in node.raw


def _failure(node: _Node) -> str:
    """Return why an interpolation cannot be resolved; an empty string if it can."""
    try:
        resolved(node.parent, node.key)
    except Exception as error:
        return composition_errors.explain(error)
    return ""


def _expressions(node: _Node, of: _Node) -> Iterator[str]:
    """Yield the interpolations in a node, each with its key if it is one of several values."""
    if isinstance(node.raw, dict | list):
        for child in node.children():
            yield from _expressions(child, of)
    elif _interpolates(node):
        name = "" if node is of else f"{node.path[-1]} "
        failed = _failure(node)
        yield f"{name}{node.raw}{f' (cannot be resolved: {failed})' if failed else ''}"


def _words(setting: Setting, expressions: str = "") -> str:
    """Say where a value comes from, and what it replaced."""
    said = f"{setting.origin.name}: {expressions}" if expressions else setting.origin.name
    was = ", ".join(f"{_shortened(value)} {origin.joined}" for value, origin in setting.was)
    return f"{said}; was {was}" if was else said


def _shortened(value: Any) -> str:
    if value in from_data.INTERPOLATIONS.values():
        return "that of the data"
    text = _flow(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _one_line(text: str) -> str:
    return " ".join(text.split())


class _Flow(yaml.SafeDumper):
    """Writes a value on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_Flow.add_representer(str, _text)


def _flow(value: Any) -> str:
    options: Any = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True, "width": float("inf")}
    return str(yaml.dump([value], Dumper=_Flow, **options)).strip()[1:-1]
