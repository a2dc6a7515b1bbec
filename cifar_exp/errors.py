"""What a user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Said in one line on stderr, with exit code 2 and no traceback: what was got, expected, and to do."""


class Diverged(Exception):
    """A training whose loss is no finite number any more."""


class OutOfMemory(Exception):
    """A training that takes more memory than there is."""


def reason(error: BaseException) -> str:
    """The first line of what went wrong, without the wrapping of a network library."""
    wrapped: BaseException | None = error
    while wrapped is not None:
        error = wrapped
        inside = (getattr(error, "reason", None), *error.args)
        wrapped = next((e for e in inside if isinstance(e, BaseException)), None)
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line.partition("): ")[2] or line


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'large'?"` for the nearest of the known names, or nothing."""
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
