"""What people write: notes, reasons and comments."""

from __future__ import annotations

from cifar_exp.errors import UserError

LONGEST = 1000  # characters; MLflow silently cuts tags after 8,000


def check(text: str, kind: str = "note") -> None:
    """Check that a text can be stored as it is.

    Args:
        text: as it was written.
        kind: of text, for the message.

    Raises:
        UserError: if it is too long, or holds what a database does not take.
    """
    if len(text) > LONGEST:
        raise UserError(f"a {kind} has at most {LONGEST:,} characters, this one {len(text):,}")
    check_characters(text, kind)


def check_characters(text: str, kind: str) -> None:
    """Check that a database takes the characters of a text.

    Raises:
        UserError: if it does not.
    """
    if "\0" in text or text.encode(errors="ignore").decode() != text:
        raise UserError(f"the {kind} holds a character that is none: NUL, or half of a surrogate pair")
