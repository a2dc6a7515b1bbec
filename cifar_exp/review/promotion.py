"""Promotion of a run's model to champion, an alias of a registered model, by the rules of review."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError
from cifar_exp.review import paired, promotion_records, texts, verdicts
from cifar_exp.review.promotion_records import Promotion
from cifar_exp.review.query import SHORT_ID
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

_NAME = re.compile(r"[\w .-]{1,255}")
_ALIAS = re.compile(r"(?!(v\d+|latest)$)[a-z][\w-]{0,254}", re.IGNORECASE)  # MLflow reserves these two


def model_name(store: Store, name: str | None) -> str:
    """Name of the registered model: the configured one, or else the name of the experiment.

    Raises:
        UserError: if MLflow does not accept the name.
    """
    chosen = name or store.experiment
    if not _NAME.fullmatch(chosen):
        raise UserError(f"{chosen!r} is not a valid name of a registered model: set one with review.model=NAME")
    return chosen


def promote(store: Store, run: Run, name: str, alias: str, by: str, note: str = "", even_though: str = "") -> Promotion:
    """Give an alias to a run's model if the run is approved and significantly better than the current holder.

    Args:
        store: contains the run and the registered model.
        run: logged the model.
        name: of the registered model, which is created if it does not exist.
        alias: such as `"champion"`.
        by: user who promotes it.
        note: comment, at most 1,000 characters.
        even_though: reason to promote a run that is not approved or not better, at most 1,000 characters.

    Returns:
        The recorded promotion.

    Raises:
        UserError: if the promotion rules or the server forbid it.
    """
    plan = prepare(store, run, name, alias, note, even_though)
    with store.connected() as client:
        version = register(store, run, name)
        now = promotion_records.current_version(client, name, alias)
        plan.check_unmoved(str(now.version) if now else None)
        client.set_registered_model_alias(name, alias, version.version)
        promotion = plan.promotion(str(version.version), by, promotion_records.records(client, name))
        client.set_model_version_tag(name, version.version, *promotion_records.as_tag(promotion))
        client.update_model_version(name, version.version, promotion.description)
    return promotion


@dataclass(frozen=True)
class Plan:
    """A promotion that the rules permit.

    Attributes:
        run: logged the model.
        name: of the registered model.
        alias: such as champion.
        before: version that has the alias now, or None.
        why: note of the user, and the comparison with that version.
        even_though: reason for a promotion in spite of the objections.
        objections: rules that the promotion does not meet.
    """

    run: Run
    name: str
    alias: str
    before: str | None
    why: str
    even_though: str
    objections: tuple[str, ...]

    def check_unmoved(self, version: str | None) -> None:
        """Check that the alias has not moved since the comparison.

        Raises:
            UserError: if another version has it now.
        """
        if version != self.before:
            raise UserError(
                f"{self.name}@{self.alias} was moved in the meantime: run the same command again to compare anew"
            )

    def promotion(self, version: str, by: str, earlier: Sequence[Promotion]) -> Promotion:
        """The promotion of a version, dated after all earlier ones."""
        latest = max((one.at for one in earlier if one.at), default=None)
        at = max([datetime.now(UTC), *([latest + timedelta(microseconds=1)] if latest else [])])
        info = self.run.info
        return Promotion(
            *(
                self.name,
                self.alias,
                version,
                info.run_id,
                info.run_name,
                self.run.data.metrics.get(promotion_records.ACCURACY),
            ),
            *(by, at, self.why, self.even_though if self.objections else "", self.objections, True),
        )


def prepare(
    store: Store, run: Run, name: str, alias: str, note: str = "", even_though: str = "", more: Sequence[str] = ()
) -> Plan:
    """Check a promotion against the rules.

    Args:
        store: contains the run and the registered model.
        run: logged the model.
        name: of the registered model.
        alias: such as `"champion"`.
        note: comment, at most 1,000 characters.
        even_though: reason to promote a run that is not approved or not better, at most 1,000 characters.
        more: further objections to the promotion.

    Raises:
        UserError: if the promotion rules forbid it.
    """
    if not _ALIAS.fullmatch(alias):
        raise UserError(
            f"--alias {alias}: expected up to 255 letters, digits, '-' and '_', starting with a letter; MLflow gives "
            "v1 and latest a meaning of their own"
        )
    if not _NAME.fullmatch(name):
        raise UserError(f"model {name!r}: expected up to 255 letters, digits, spaces, '.', '-' and '_'")
    for text in (note, even_though):
        texts.check(text)
    fetch.model_id(run)  # refuses a run without one
    with store.connected() as client:
        _check_models(client, run)
        before = promotion_records.current_version(client, name, alias)
        first = not any(one.alias == alias for one in promotion_records.records(client, name))
    if before and before.run_id == run.info.run_id:
        raise UserError(f"{run.info.run_name} is already {name}@{alias}, as version {before.version}")
    found, comparison = _check_rules(store, run, before, first)
    objections = (*found, *more)
    if objections and not even_though:
        raise UserError(
            f"{run.info.run_name} cannot be promoted: {'; '.join(objections)}; "
            '--even-though "reason" promotes it anyway, and the reason is recorded'
        )
    why = ". ".join(part for part in (note.rstrip("."), comparison) if part)
    return Plan(run, name, alias, str(before.version) if before else None, why, even_though, objections)


def _check_models(client: MlflowClient, run: Run) -> None:
    """Check that the run itself has logged its models: whoever loads one reads the config of the run that did."""
    for output in run.outputs.model_outputs:
        model = client.get_logged_model(output.model_id)
        if (model.source_run_id, str(model.experiment_id)) != (run.info.run_id, str(run.info.experiment_id)):
            source = f"run {model.source_run_id[:SHORT_ID]}" if model.source_run_id else "no run"
            raise UserError(
                f"{run.info.run_name} cannot be promoted: its model {model.model_id} was logged by {source} in "
                f"experiment {model.experiment_id}, not by this run"
            )


def _check_rules(store: Store, run: Run, before: ModelVersion | None, first: bool) -> tuple[tuple[str, ...], str]:
    """Objections to the promotion, and the comparison with the version that has the alias."""
    objections = []
    state = verdicts.state(run)
    if state != verdicts.APPROVED:
        objections.append(f"it is {state}, not approved")
    if before is None:
        return tuple(objections), "First version with this alias." if first else "No version had this alias."
    if not before.run_id:
        return (*objections, f"version {before.version}, which has the alias, has no run to compare with"), ""
    try:
        compared = paired.compare_runs(store, before.run_id, run.info.run_id)
    except UserError as error:
        return (*objections, f"it cannot be compared with the current version: {error}"), ""
    if not (compared.significant and compared.difference > 0):
        return (*objections, compared.words.rstrip(".")), ""
    return tuple(objections), compared.words


def register(store: Store, run: Run, name: str) -> ModelVersion:
    """Find the model version of the run's model, or create it.

    Raises:
        UserError: if the server forbids it.
    """
    with store.connected() as client, store.as_default():
        return _register(client, run, name)


def _register(client: MlflowClient, run: Run, name: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    model_id = fetch.model_id(run)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    existing = [
        one for one in promotion_records.versions(client, name) if (one.run_id, one.source) == (run.info.run_id, source)
    ]
    if existing:
        return existing[0]
    version = client.create_model_version(name, source, run.info.run_id, model_id=model_id)
    # As mlflow.register_model does: the pages of the run and the model read this tag.
    try:
        registered = parse_json(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS) or "[]")
    except ValueError:  # any user who may log can write anything there
        registered = []
    versions = [*(registered if isinstance(registered, list) else []), {"name": name, "version": version.version}]
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(versions)})
    return version
