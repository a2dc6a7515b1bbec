"""The process of a notebook, which goes on after a command: nothing that a command sets in it stays."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.global_hydra import GlobalHydra

from cifar_exp import console, exits
from cifar_exp.data import datasets
from cifar_exp.errors import Stopped
from cifar_exp.tracking import deleted, server
from cifar_exp.training import session


@contextmanager
def command(arguments: Sequence[str] = ()) -> Iterator[None]:
    """Context manager in which a command runs as it does in a process of its own.

    Args:
        arguments: of the command line; Hydra reads them from `sys.argv`.

    Raises:
        Stopped: if it was interrupted; what has been done is logged by then.
    """
    hydra, argv, folder = GlobalHydra.instance().hydra, sys.argv, os.getcwd()
    with environment(), session.kept(), _loggers(), exits.taken_signals(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # tqdm, which MLflow imports, asks for ipywidgets
        _forget()
        GlobalHydra.instance().clear()  # of a notebook that uses Hydra itself
        sys.argv = [__package__, *arguments]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise errors instead of ending the process
        try:
            yield
        except KeyboardInterrupt:
            raise _stopped() from None
        except Exception as error:
            if exits.received():  # other code replaced the KeyboardInterrupt by this exception
                raise _stopped() from error
            raise
        finally:
            os.chdir(folder)
            sys.argv = argv
            GlobalHydra.instance().hydra = hydra


@contextmanager
def environment() -> Iterator[None]:
    """Context manager that puts the environment variables back at its end."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _loggers() -> Iterator[None]:
    """Print the log records of the package, and put its logger and the levels of all others back at the end."""
    own = logging.getLogger("cifar_exp")
    before = list(own.handlers), own.propagate
    known = [logger for logger in own.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    levels = [logger.level for logger in known]
    console.set_up()
    try:
        yield
    finally:
        own.handlers[:], own.propagate = before
        for logger, level in zip(known, levels, strict=True):
            if logger.level != level:
                logger.setLevel(level)


def _forget() -> None:
    """Forget what was asked or said for the command before: a server may be back, images may have changed."""
    datasets.forget()
    for asked in (console.say_once, deleted.check, server.check, server.has_team_page):
        asked.cache_clear()


def _stopped() -> Stopped:
    return Stopped("a run that had begun is logged as KILLED; the same call continues it")
