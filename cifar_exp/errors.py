"""Exceptions with a message for the user, and helpers that word it."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable


class _InOneLine(BaseException):
    """An exception whose message says all: IPython, and so Jupyter, shows it in one line and without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints, as a list of lines; `%tb` does not bring the traceback back, `sys.last_value` has it."""
        return [f"{type(self).__name__}: {printable(' '.join(str(self).split()))}"]


class UserError(_InOneLine, Exception):
    """An error that the user can fix.

    The program prints the message as one line on stderr, without a traceback, and exits with code 2. The message says
    what was got, what was expected and what to do.
    """


class Diverged(_InOneLine, Exception):
    """Raised when the training loss is NaN or infinite."""


class Pruned(Exception):
    """Raised when a search pauses a training after an epoch. It may go on later from the checkpoint of this epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"pruned after epoch {epoch}")
        self.epoch = epoch


class OutOfMemory(_InOneLine, Exception):
    """Raised when a training needs more memory than the machine or its GPU has."""


class Stopped(_InOneLine, KeyboardInterrupt):
    """Raised in a notebook when a training was interrupted; what had begun is logged."""


def described(error: BaseException) -> str:
    """An error in one line, with its type unless the message says all."""
    text = str(error) if isinstance(error, _InOneLine) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def reason(error: BaseException) -> str:
    """First line of the message of the innermost exception, without what network libraries wrap around it.

    Args:
        error: its `reason` attribute and arguments are searched for a wrapped exception.
    """
    wrapped: BaseException | None = error
    while wrapped is not None:
        error = wrapped
        candidates = (getattr(error, "reason", None), *error.args)
        wrapped = next((candidate for candidate in candidates if isinstance(candidate, BaseException)), None)
    line = re.sub(r"^\[Errno \d+\] ", "", next(iter(str(error).splitlines()), type(error).__name__))
    return line.partition("): ")[2] or line


def shorten(text: str, longest: int = 24) -> str:
    """Cut a text to this number of characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def printable(text: str) -> str:
    """Replace unprintable characters, so that text from elsewhere cannot send control sequences to the terminal."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    """A character, unless it is a control, half of a surrogate pair, or turns the direction of a line."""
    is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    turns = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return "\N{REPLACEMENT CHARACTER}" if is_control or turns else character


def counted(number: int, noun: str) -> str:
    """A number of things in words: `1 image`, `1,200 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known name closest to a misspelt one, to be appended to a message.

    Args:
        name: as the user wrote it.
        known: all valid names.

    Returns:
        For example `"; did you mean 'large'?"`, or `""` if no known name is similar.
    """
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
