"""Export the study of a search to a storage of Optuna, which optuna-dashboard opens."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError, reason
from cifar_exp.search import trials as data
from cifar_exp.search.trials import Trials

if TYPE_CHECKING:
    import optuna

_SCHEMES = ("sqlite", "postgresql", "mysql")


def export(trials: Trials, name: str, url: str) -> bool:
    """Write the study of a search.

    Args:
        trials: of the search.
        name: of the study.
        url: of the storage, as Optuna takes it: sqlite:///study.db.

    Returns:
        Whether anything was written; False if the storage has these very trials.

    Raises:
        UserError: if the storage cannot be used, or has a study of this name with trials of another search.
    """
    import optuna

    if not url.startswith(_SCHEMES) or "://" not in url:
        raise UserError(f"--storage {url}: expected an address of Optuna, such as sqlite:///study.db")
    made = data.to_study(trials)
    own = made.get_trials(deepcopy=False)
    try:
        storage = optuna.storages.RDBStorage(url)
        attributes: dict[str, Any] = {}
        of_system: dict[str, Any] = {}
        if name in optuna.get_all_study_names(storage):
            present = optuna.load_study(study_name=name, storage=storage)
            if _content(present) == _content(made):
                return False
            _check_is_earlier(present, made, name, url)
            attributes = present.user_attrs
            of_system = storage.get_study_system_attrs(
                storage.get_study_id_from_name(name)
            )  # notes of optuna-dashboard
            optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(storage=storage, study_name=name, directions=made.directions)
        for key, value in attributes.items():
            study.set_user_attr(key, value)
        for key, value in of_system.items():
            storage.set_study_system_attr(storage.get_study_id_from_name(name), key, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(trials.search.metrics))
        study.add_trials(own)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"--storage {url}: {reason(error.__cause__ or error)}; install its driver") from error
    except Exception as error:  # of SQLAlchemy or the database's driver, which have no common class
        raise UserError(f"--storage {url}: {reason(error.__cause__ or error)}") from error
    return True


def _check_is_earlier(present: optuna.Study, made: optuna.Study, name: str, url: str) -> None:
    """Check that a stored study has no trials but earlier ones of this search."""
    known = {trial.user_attrs["trial"]: trial.params for trial in made.get_trials(deepcopy=False)}
    others = [
        trial.number
        for trial in present.get_trials(deepcopy=False)
        if known.get(trial.user_attrs.get("trial")) != trial.params
    ]
    if others or present.directions != made.directions:
        what = f"{len(others)} of its trials are not of this search" if others else "its directions are others"
        raise UserError(f"--storage {url} has a study {name!r}, and {what}; give another storage, or delete the study")


def _content(study: optuna.Study) -> list[Any]:
    return [
        (trial.state, trial.params, trial.values, trial.intermediate_values, trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    ]
