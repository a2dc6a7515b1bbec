"""Progress of sending a journal, in a file beside it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cifar_exp.errors import reason
from cifar_exp.tracking import journal

log = logging.getLogger(__name__)

SENT = "sent.json"


@dataclass
class Progress:
    """How far a journal has been sent."""

    lines: int = 0
    """Number of lines that were sent or refused, from the first line."""
    run_id: str | None = None
    experiment_id: str | None = None
    uri: str | None = None
    """Tracking URI of the store that has the run; None: the one that the journal names."""
    refused: dict[str, str] = field(default_factory=dict)
    """Line number, from 1 -> why the store refused the event or why it could not be sent."""

    @classmethod
    def read(cls, folder: Path) -> Progress:
        """Read the progress of the journal in a folder; start from the first line if it is missing or damaged."""
        path = folder / SENT
        if not path.exists():
            return cls()
        try:
            read = cls(**json.loads(path.read_bytes()))
            lines = [read.lines, *map(int, read.refused)]
            texts = [read.run_id or "", read.experiment_id or "", read.uri or "", *read.refused.values()]
            if all(isinstance(text, str) for text in texts) and min(lines) >= 0 and max(lines) <= _lines(folder):
                return read
            problem = "it does not fit the journal"
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            problem = reason(error)
        log.warning("%s is damaged (%s): the whole journal is sent again, which changes nothing twice", path, problem)
        return cls()

    def write(self, folder: Path) -> None:
        """Write the progress atomically."""
        part = folder / f"{SENT}.part"
        part.write_text(json.dumps(asdict(self)))
        part.rename(folder / SENT)


def _lines(folder: Path) -> int:
    path = folder / journal.FILE
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)
