"""A field of the schema: its default, its description and the values it takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field
from typing import Any

MISSING: Any = "???"  # omegaconf.MISSING: a setting without a default


def setting(
    default: Any,
    doc: str,
    *,
    choices: Collection[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    longest: int | None = None,
) -> Any:
    """A dataclass field with its description and the values it takes.

    Args:
        default: `MISSING` if a value must be given.
        doc: one or two sentences for docs/settings.md.
        choices: the only values.
        at_least: the smallest value.
        above: a bound that the value must exceed.
        at_most: the largest value.
        below: a bound that the value must not reach.
        longest: the largest number of characters of a text.
    """
    limits = {
        **{"choices": choices, "at least": at_least, "above": above, "at most": at_most, "below": below},
        "characters, at most": longest,
    }
    metadata = {"doc": doc} | {name: limit for name, limit in limits.items() if limit is not None}
    return field(default=default, metadata=metadata)
