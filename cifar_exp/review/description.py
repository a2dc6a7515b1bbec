"""The part of a run's description that says what was said of it; the rest is people's own."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 8000  # characters of a tag; a longer one is silently cut

_BEGIN = "<!-- reviews: cifar-exp writes what stands between these two marks anew -->"
_END = "<!-- end of reviews -->"
_SECTION = re.compile(rf"\n*{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.S)


def with_reviews(text: str, lines: Sequence[str]) -> str:
    """The description with these lines, the newest last, as its section; what people wrote around it stays.

    As many as there is room for; all of them are in the run's tags.
    """
    own = _SECTION.sub("", text)
    found = _SECTION.search(text)
    before, after = (text[: found.start()], text[found.end() :]) if found else (text, "")
    after = _SECTION.sub("", after)
    for left in range(len(lines) + 1):
        kept = list(reversed(lines[left:]))
        said = [f"- and {left} before, in the tags `review.verdict.*`"] if left else []
        section = "\n".join([_BEGIN, "**Reviews**", "", *kept, *said, _END])
        made = f"{before}\n\n{section}{after}".lstrip("\n")
        if len(made) <= LONGEST:
            return made
    return own


def line(heading: str, said: str) -> str:
    """An entry of a list, on one line, in which nothing that was said can end the section or begin another."""
    whole = f"{heading}: {said}" if said else heading
    return "- " + " ".join(whole.split()).replace("<", "&lt;").replace(">", "&gt;")
