"""What a search may choose: the dimensions on a command line and in the section `search` of an experiment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from hydra.core.override_parser.types import Override

from cifar_exp.config import overrides
from cifar_exp.config.dimension import CATEGORICAL, INT, Dimension, Point, Value, from_override
from cifar_exp.errors import UserError

_MOST_TOGETHER = 64  # combinations of choices that are all checked before the first trial


@dataclass(frozen=True)
class Space:
    """All dimensions, each after those that its condition names."""

    dimensions: tuple[Dimension, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Key of each dimension."""
        return tuple(dimension.key for dimension in self.dimensions)

    @property
    def is_conditional(self) -> bool:
        """Whether some dimension exists only for some choices of another."""
        return any(dimension.when for dimension in self.dimensions)

    @property
    def size(self) -> float:
        """Number of points; infinite if a dimension is."""
        named = {key for dimension in self.dimensions for key in dimension.when}
        named_by_conditions = Space(tuple(dimension for dimension in self.dimensions if dimension.key in named))
        others = [dimension for dimension in self.dimensions if dimension.key not in named]
        return sum(
            math.prod(dimension.size for dimension in others if dimension.exists(point))
            for point in named_by_conditions.points()
        )

    def points(self) -> list[Point]:
        """All points of a finite space, in the order in which an ordinary sweep has its jobs."""
        return self._combined([dimension.values() for dimension in self.dimensions])

    def overrides(self, point: Point) -> tuple[str, ...]:
        """A point as overrides of a job."""
        return tuple(f"{key}={point[key]}" for key in self.keys if key in point)

    def point(self, texts: Mapping[str, str]) -> Point | None:
        """Read a point from the overrides of a job: key -> value as text; None if it is not of this space."""
        found: dict[str, Value] = {}
        for dimension in self.dimensions:
            if not dimension.exists(found):
                continue
            text = texts.get(dimension.key)
            if text is None or (value := _read(dimension, text)) is None:
                return None
            found[dimension.key] = value
        return found

    def checked_points(self) -> list[Point]:
        """Points that have every choice and both ends of every range: all combinations if they are few."""
        ends = [dimension.ends() for dimension in self.dimensions]
        if math.prod(len(of) for of in ends) <= _MOST_TOGETHER:
            return self._combined(ends)
        found: dict[tuple[tuple[str, Value], ...], Point] = {}
        for others in (0, -1):
            for position, dimension in enumerate(self.dimensions):
                for value in ends[position]:
                    wanted: dict[str, Value] = {key: of[others] for key, of in zip(self.keys, ends, strict=True)}
                    wanted[dimension.key] = value
                    wanted |= {key: choices[0] for key, choices in dimension.when.items()}
                    point = self._existing(wanted)
                    found.setdefault(tuple(point.items()), point)
        return list(found.values())

    def _combined(self, values: Sequence[Sequence[Value]]) -> list[Point]:
        every = (self._existing(dict(zip(self.keys, of, strict=True))) for of in product(*values))
        return list({tuple(point.items()): point for point in every}.values())

    def _existing(self, wanted: Point) -> Point:
        point: dict[str, Value] = {}
        for dimension in self.dimensions:
            if dimension.exists(point):
                point[dimension.key] = wanted[dimension.key]
        return point


def of(
    swept: Sequence[Override],
    section: Mapping[str, Any],
    fixed: Mapping[str, str],
    choices: Mapping[str, str],
    loader: object,
) -> Space:
    """Make the space of a search.

    Args:
        swept: overrides with several values.
        section: `search` of the composed config: key -> values in Hydra's grammar, a list of values, or a mapping with
            `values` and `when`.
        fixed: key -> value of overrides with one value, which win over the section.
        choices: group -> choice, of all groups without the ranges.
        loader: Hydra's config loader, which knows the choices of the groups.

    Raises:
        UserError: for values that make no range, and for conditions on what the search does not choose.
    """
    found = {override.get_key_element(): from_override(override) for override in swept}
    for key, entry in section.items():
        if key in found or key in fixed:
            continue
        described = dict(entry) if isinstance(entry, Mapping) else {"values": entry}
        if unknown := sorted(set(described) - {"values", "when"}):
            raise UserError(f"search.{key}: got {unknown[0]!r}, expected values and when")
        content, when = described.get("values"), described.get("when") or {}
        (override,) = overrides.parse([f"{key}={_as_override(key, content)}"], loader, intervals=True)
        if not override.is_sweep_override():
            raise UserError(f"search.{key}: got {content!r}, expected several values: interval(...) or a list")
        found[override.get_key_element()] = replace(from_override(override), when=_conditions(key, when))
    known = {key: value for key, value in (dict(choices) | dict(fixed)).items() if key not in found}
    return Space(tuple(_in_order(_with_conditions(found, known))))


def _with_conditions(found: Mapping[str, Dimension], fixed: Mapping[str, str]) -> dict[str, Dimension]:
    """Drop the dimensions whose condition a fixed setting excludes, and conditions that a fixed setting meets."""
    kept = {}
    for key, dimension in found.items():
        when = {}
        for on, choices in dimension.when.items():
            if on in fixed:
                if _without_quotes(fixed[on]) not in choices:
                    break
            elif on not in found or found[on].kind != CATEGORICAL:
                raise UserError(f"search.{key}.when: {on} is not chosen by the search; list its values in search.{on}")
            else:
                spelled = {_without_quotes(choice): choice for choice in found[on].choices}
                if missing := [choice for choice in choices if choice not in spelled]:
                    raise UserError(
                        f"search.{key}.when: {on} is never {missing[0]}, it is one of {', '.join(found[on].choices)}"
                    )
                when[on] = tuple(spelled[choice] for choice in choices)
        else:
            kept[key] = replace(dimension, when=when)
    return kept


def _in_order(dimensions: Mapping[str, Dimension]) -> Iterator[Dimension]:
    """Each dimension after those that its condition names."""
    waiting, placed = dict(dimensions), set[str]()
    while waiting:
        ready = [key for key, dimension in waiting.items() if all(on in placed for on in dimension.when)]
        if not ready:
            raise UserError(f"search.{next(iter(waiting))}.when: the conditions form a circle")
        yield waiting.pop(ready[0])
        placed.add(ready[0])


def _conditions(key: str, when: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(when, Mapping):
        raise UserError(f"search.{key}.when: got {when!r}, expected a mapping such as {{optimizer: sgd}}")
    return {
        str(on): tuple(_text(choice) for choice in (choices if isinstance(choices, list) else [choices]))
        for on, choices in when.items()
    }


def _as_override(key: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        listed = ",".join(map(_text, content))
        return listed if len(content) > 1 else f"choice({listed})"
    raise UserError(f"search.{key}: got {content!r}, expected interval(...) or a list of values")


def _text(value: Any) -> str:
    """A value of a YAML file as Hydra writes it in an override."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return _without_quotes(overrides.write("value", value).partition("=")[2])


def _without_quotes(text: str) -> str:
    """A value as in an override, without quotes that it does not need."""
    (override,) = overrides.parse([f"value={text}"])
    if not isinstance(value := override.value(), str):
        return text
    try:
        (plain,) = overrides.parse([f"value={value}"])
    except UserError:
        return text
    return value if plain.value() == value else text


def _read(dimension: Dimension, text: str) -> Value | None:
    if dimension.kind == CATEGORICAL:
        return text if text in dimension.choices else None
    try:
        number = float(text)
    except ValueError:
        return None
    if not dimension.low <= number <= dimension.high or (dimension.kind == INT and not number.is_integer()):
        return None
    steps = (number - dimension.low) / (dimension.step or 1)
    if dimension.step and not math.isclose(steps, round(steps), abs_tol=1e-6):  # Optuna takes no value between two
        return None
    return int(number) if dimension.kind == INT else number
