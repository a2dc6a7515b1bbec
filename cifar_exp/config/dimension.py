"""One setting that a search chooses: Hydra's ranges and lists of values as a dimension of its space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep

from cifar_exp.config import overrides
from cifar_exp.errors import UserError

FLOAT, INT, CATEGORICAL = "float", "int", "categorical"
Value = float | int | str
Point = Mapping[str, Value]

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


def from_override(override: Override) -> Dimension:
    """Make the dimension of an override with several values.

    Raises:
        UserError: if its values make no range.
    """
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
