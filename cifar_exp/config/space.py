"""What a search may choose: Hydra's grammar of sweeps, and the section `search` of an experiment, as dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep

from cifar_exp.config import overrides
from cifar_exp.errors import UserError

FLOAT, INT, CATEGORICAL = "float", "int", "categorical"
Value = float | int | str
Point = Mapping[str, Value]

_MOST_TOGETHER = 64  # combinations of choices that are all checked before the first trial
_DIGITS = 5  # of a float in an override
_EXACT_DIGITS = 12  # of the ends of a range, without the rounding errors of a sum of steps


@dataclass(frozen=True)
class Dimension:
    """One setting that a search chooses."""

    key: str
    """As in an override; a group of conf/ or a setting."""
    kind: str
    """float, int or categorical."""
    choices: tuple[str, ...] = ()
    """Of a categorical dimension: values as in an override."""
    low: float = 0
    high: float = 0
    """Ends of a number's range, both included."""
    log: bool = False
    step: float | None = None
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Key of another categorical dimension -> choices of it for which this dimension exists."""

    @property
    def size(self) -> float:
        """Number of values; infinite for floats without a step."""
        if self.kind == CATEGORICAL:
            return len(self.choices)
        step = self.step or (1 if self.kind == INT else 0)
        return math.floor((self.high - self.low) / step + 1e-9) + 1 if step else math.inf

    def values(self) -> tuple[Value, ...]:
        """All values; for a float without a step, both ends."""
        if self.kind == CATEGORICAL:
            return self.choices
        if math.isinf(self.size):
            return self.low, self.high
        step = self.step or 1
        return tuple(self.fit(self.low + step * position) for position in range(int(self.size)))

    def ends(self) -> tuple[Value, ...]:
        """What is checked before the first trial: every choice, or both ends of a range."""
        return self.choices or (self.fit(self.low), self.fit(self.high))

    def fit(self, value: Value) -> Value:
        """A value as it is written in an override: text, an int, or a float of five digits within the range."""
        if self.kind == CATEGORICAL or isinstance(value, str):
            return str(value)
        if self.kind == INT:
            return round(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def exists(self, point: Point) -> bool:
        """Whether the condition of this dimension holds for the dimensions before it."""
        return all(point.get(key) in choices for key, choices in self.when.items())


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
    found = {override.get_key_element(): _dimension(override) for override in swept}
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
        found[override.get_key_element()] = replace(_dimension(override), when=_conditions(key, when))
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


def _dimension(override: Override) -> Dimension:
    key, value = override.get_key_element(), override.value()
    tags: set[str] = getattr(value, "tags", set())
    if unknown := sorted(tags - {"log"}):
        raise UserError(f"{override.input_line}: got the tag {unknown[0]!r}, expected log")
    log = "log" in tags
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if isinstance(low, QuotedString) or isinstance(high, QuotedString) or low is None or high is None:
            raise UserError(f"{override.input_line}: expected two numbers")
        kind = INT if isinstance(low, int) and isinstance(high, int) else FLOAT
        return _checked(override, Dimension(key, kind, low=low, high=high, log=log))
    listed = overrides.values(override)
    if isinstance(value, RangeSweep) and len(listed) > 1:
        if log:
            raise UserError(f"{override.input_line}: a range has equal steps: write tag(log,interval(...))")
        numbers = sorted(_rounded(number) for number in listed)
        step = abs(_rounded(value.step))
        kind = INT if all(number.is_integer() for number in [*numbers, step]) else FLOAT
        low, high = (int(numbers[0]), int(numbers[-1])) if kind == INT else (numbers[0], numbers[-1])
        return Dimension(key, kind, low=low, high=high, step=int(step) if kind == INT else step)
    return Dimension(key, CATEGORICAL, tuple(dict.fromkeys(listed)))


def _rounded(number: Any) -> float:
    """Optuna drops the upper end of a range if it is not a whole number of steps from the lower one: 0.8999999999."""
    return float(f"{float(number):.{_EXACT_DIGITS}g}")


def _checked(override: Override, dimension: Dimension) -> Dimension:
    low, high = dimension.low, dimension.high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{override.input_line}: got {low:g} to {high:g}, expected a smaller and a greater number")
    if dimension.log and low <= 0:
        raise UserError(f"{override.input_line}: got {low:g} on a logarithmic scale, expected a number above 0")
    return dimension


def _read(dimension: Dimension, text: str) -> Value | None:
    if dimension.kind == CATEGORICAL:
        return text if text in dimension.choices else None
    try:
        number = float(text)
    except ValueError:
        return None
    if not dimension.low <= number <= dimension.high or (dimension.kind == INT and not number.is_integer()):
        return None
    return int(number) if dimension.kind == INT else number
