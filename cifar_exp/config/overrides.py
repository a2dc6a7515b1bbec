"""Parsing of command line overrides with Hydra's grammar, with error messages that tell how to write them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import PurePath

from hydra.core.override_parser import overrides_parser, overrides_visitor
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    ParsedElementType,
    Quote,
    QuotedString,
    Sweep,
    ValueType,
)
from hydra.errors import HydraException, OverrideParseException

from cifar_exp.config import unoptimized
from cifar_exp.errors import UserError

unoptimized.reload(overrides_visitor)
overrides_parser.HydraOverrideVisitor = overrides_visitor.HydraOverrideVisitor

RANGES = "interval", "range", "choice", "tag", "glob", "sort", "shuffle"


def parse(overrides: Sequence[str], loader: object = None, intervals: bool = False) -> list[Override]:
    """Parse overrides.

    Args:
        overrides: as on a command line.
        loader: Hydra's config loader, which knows the choices of the groups.
        intervals: whether ranges that only a search can use are allowed.

    Raises:
        UserError: if an override is not UTF-8, Hydra's grammar does not allow it, it lists ranges, or it is an
            interval, which only a search can use.
    """
    for text in overrides:
        if (shown := text.encode(errors="backslashreplace").decode()) != text:
            raise UserError(f"{shown}: is not UTF-8, in which settings are logged")
    try:
        parsed: list[Override] = OverridesParser.create(loader).parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UserError(explain(error)) from error
    for override in parsed:
        if not override.key_or_group:
            raise UserError(f"{override.input_line!r} is not of the form key=value")
        if any(isinstance(value, Sweep | Glob) for value in _listed(override)):
            raise UserError(f"{override.input_line}: one of these values holds several: write one range, or each value")
    if not intervals:
        refuse_intervals(parsed)
    return parsed


def write(key: str, value: object) -> str:
    """Write an override of one value as a user would on a command line, without the quotes of a shell.

    Args:
        key: of the setting.
        value: None, bool, number, text, path, or a list or dict of them.

    Raises:
        UserError: for a value of another type.
    """
    element = _element(key, value)
    written = Override(OverrideType.CHANGE, key, ValueType.ELEMENT, element).get_value_element_as_str()
    return f"{key}={written}"


def _element(key: str, value: object) -> ParsedElementType:
    """A value as Hydra's parser would return it; all text is quoted, so that it stays text."""
    match value:
        case None | bool():
            return value
        case Integral():  # NumPy's integers too
            return int(value)
        case Real():
            return float(value)
        case str() | PurePath():
            return QuotedString(str(value), Quote.single)
        case list() | tuple():
            return [_element(key, item) for item in value]
        case dict():
            return {str(name): _element(key, item) for name, item in value.items()}
        case _:
            raise UserError(f"{key}: got {type(value).__name__}, expected a number, a text, a list or a dict of them")


def refuse_intervals(parsed: Sequence[Override]) -> None:
    """Refuse ranges that only a search can use.

    Raises:
        UserError: for the first of them.
    """
    for override in parsed:
        if override.is_interval_sweep():
            raise UserError(_explain_interval(override))


def values(override: Override) -> list[str]:
    """List the values of an override, each as it is written in the override of a job.

    Raises:
        UserError: if the values cannot be listed, or there are none.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    try:
        listed = list(override.sweep_string_iterator())
    except (HydraException, ValueError, ArithmeticError) as error:
        raise UserError(f"{override.input_line}: {str(error).splitlines()[0]}") from error
    if not listed:
        raise UserError(f"{override.input_line}: holds no value, expected at least one")
    return listed


def refers(value: object) -> bool:
    """Whether a value, a key or a value in it refers to another one, with `${...}`."""
    if isinstance(value, dict):
        return refers([*value, *value.values()])
    return any(map(refers, value)) if isinstance(value, list) else "${" in str(value)


def names_choices(override: Override) -> bool:
    """Whether the values of an override can be choices of a group: text, or a list of it."""
    if isinstance(override.value(), Glob):
        return True
    chosen = [name for value in _listed(override) or [override.value()] for name in _as_list(value)]
    return all(isinstance(name, str | QuotedString) for name in chosen)


def _listed(override: Override) -> list[ParsedElementType]:
    """Return the values of `key=1,2`; none for any other override."""
    value = override.value()
    return list(value.list) if isinstance(value, ChoiceSweep) else []


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def explain(error: OverrideParseException) -> str:
    """Describe an override that Hydra's grammar does not allow, in one line that tells how to quote it in a shell."""
    override = str(error.override)
    key, equals, value = override.partition("=")
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith(("See http", "Error parsing"))]
    if "while evaluating" in str(error) and "Unknown function" not in str(error):  # an error of a function
        return f"{override!r}: {' '.join(lines)}"
    escaped = value.replace("\\", "\\\\").replace('"', r"\"")
    quoted = f'{key}="{escaped}"'
    try:
        OverridesParser.create().parse_overrides([quoted])
    except OverrideParseException:
        equals = ""
    if not equals or not key:
        reason = lines[-1].strip("^") or "a key is made of letters, digits, '_', '.' and '/'"
        return f"{override!r} is not of the form key=value: {reason}"
    return (
        f"{override!r}: Hydra cannot read the value {value!r}; text with such characters needs double quotes, which a "
        f"shell takes as {shlex.quote(quoted)}"
    )


def _explain_interval(override: Override) -> str:
    key, interval = override.get_key_element(), override.value()
    assert isinstance(interval, Sweep)
    start, end = getattr(interval, "start", 0), getattr(interval, "end", 1)
    return (
        f"{override.input_line}: an interval has no single values; only a search can draw from it. A sweep takes "
        f"values: {key}={start},{end} or '{key}=choice({start},{end})' or '{key}=range(START,STOP,STEP)', with -m; "
        "hydra/sweeper=search makes it a search"
    )
