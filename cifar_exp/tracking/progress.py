"""How far a journal has been sent, in a file beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

SENT = "sent.json"


@dataclass
class Progress:
    """How far a journal has been sent."""

    lines: int = 0
    """That need not be looked at again."""
    run_id: str | None = None
    experiment_id: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    """Line -> why the store did not take it, or why it could not be sent."""

    @classmethod
    def read(cls, folder: Path) -> Progress:
        """Of the journal in this folder."""
        path = folder / SENT
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, folder: Path) -> None:
        """Whole or not at all."""
        part = folder / f"{SENT}.part"
        part.write_text(json.dumps(asdict(self)))
        part.rename(folder / SENT)
