"""Add files to a logged run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run


def log(store: Store, run: Run, files: Mapping[str, str]) -> None:
    """Log text files to a run that has ended.

    Args:
        store: contains the run.
        run: the run.
        files: path of the artifact -> content.

    Raises:
        UserError: if the server does not permit it: the files of an approved run cannot be changed there.
    """
    with store.connected() as client, tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            client.log_artifact(run.info.run_id, str(path), str(Path(name).parent))
