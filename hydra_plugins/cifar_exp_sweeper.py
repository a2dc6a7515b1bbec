"""The sweeper of planned jobs, where Hydra looks for sweepers; it imports every module here whenever it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class PlannedSweeper(BasicSweeper):  # type: ignore[misc]
    """Hands the launcher the jobs that have been planned and checked; Hydra's own lists and composes them anew."""

    @staticmethod
    def split_arguments(overrides: Any, max_batch_size: int | None) -> list[list[list[str]]]:
        """The planned jobs, in batches of `hydra.sweeper.max_batch_size`."""
        from cifar_exp.config import plan  # it is imported already wherever jobs have been planned

        return list(BasicSweeper.split_overrides_to_chunks(plan.handed_over(), max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Accept the batch: every job was composed and checked when it was planned."""
