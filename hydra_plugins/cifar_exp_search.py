"""hydra/sweeper=search, where Hydra looks for sweepers; it imports every module here whenever it starts."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper


class SearchSweeper(Sweeper):  # type: ignore[misc]
    """Hydra's face of cifar_exp.search."""

    def __init__(self, **settings: Any) -> None:
        """The settings have been checked in the plan of the search."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """As Hydra calls it."""
        from hydra.core.plugins import Plugins

        self._loader, self._config = hydra_context.config_loader, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the planned search; returns once it has ended."""
        from cifar_exp.search import run

        run.choose(self._launcher, self._loader, self._config)
