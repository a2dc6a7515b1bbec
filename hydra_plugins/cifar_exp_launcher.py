"""hydra/launcher=parallel, where Hydra looks for launchers; it imports every module here whenever it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class ParallelLauncher(Launcher):  # type: ignore[misc]
    """Hydra's face of cifar_exp.sweep.launcher."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """As Hydra calls it; what runs is always cifar_exp.sweep.job."""
        self._loader, self._config = hydra_context.config_loader, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run these jobs; returns once all have ended."""
        from cifar_exp.sweep import launcher

        return launcher.launch(self._settings, self._loader, self._config, job_overrides, initial_job_idx)
