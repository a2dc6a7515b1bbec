"""The section of a run's description that lists its reviews; the text around it belongs to the users."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LENGTH = 8000  # characters of a tag; MLflow silently cuts longer ones

_BEGIN = "<!-- reviews: cifar-exp writes what stands between these two marks anew -->"
_END = "<!-- end of reviews -->"
_SECTION = re.compile(rf"\n*{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.S)


def with_reviews(text: str, lines: Sequence[str]) -> str:
    """Replace the section of reviews in a description, or append it.

    Args:
        text: description of the run.
        lines: one list item per review, the oldest first. The oldest are left out if there is no room for all of them;
            every review is also a tag of the run.

    Returns:
        The description with the newest review on top of its section, of at most `MAX_LENGTH` characters. The text
        around the section is unchanged.
    """
    own_text = _SECTION.sub("", text)
    section_match = _SECTION.search(text)
    before, after = (text[: section_match.start()], text[section_match.end() :]) if section_match else (text, "")
    after = _SECTION.sub("", after)
    for omitted in range(len(lines) + 1):
        kept = list(reversed(lines[omitted:]))
        omission = [f"- and {omitted} earlier ones, in the tags `review.verdict.*`"] if omitted else []
        section = "\n".join([_BEGIN, "**Reviews**", "", *kept, *omission, _END])
        description = f"{before}\n\n{section}{after}".lstrip("\n")
        if len(description) <= MAX_LENGTH:
            return description
    return own_text


def list_item(heading: str, text: str) -> str:
    """Format a Markdown list item on one line. Angle brackets are escaped, so that no text can end the section."""
    content = f"{heading}: {text}" if text else heading
    return "- " + " ".join(content.split()).replace("<", "&lt;").replace(">", "&gt;")
