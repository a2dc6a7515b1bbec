"""Promotion of a run's model to champion, an alias of a registered model, and the history of promotions."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError
from cifar_exp.review import paired, verdicts
from cifar_exp.review.query import SHORT_ID
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"

_PREFIX = "promotion."
_TIME = "%Y-%m-%dT%H-%M-%S.%fZ"
_ACCURACY = "test/accuracy"
_NAME = re.compile(r"[\w .-]+")
_ALIAS = re.compile(r"(?!v\d+$)[A-Za-z][\w-]*")  # MLflow reads v1 as a version


@dataclass(frozen=True)
class Promotion:
    """A model version that was given an alias.

    Attributes:
        model: name of the registered model.
        alias: such as champion.
        version: of the registered model.
        run_id: of the run that logged the model.
        run_name: of the same run.
        accuracy: of the run on the test images; `None` if it was not logged.
        by: user who promoted it.
        at: time of the promotion, in UTC; `None` if the alias was not set by cifar-exp promote.
        why: note of the user, and the comparison with the version that had the alias before.
        even_though: reason for a promotion in spite of the objections.
        objections: rules that the promotion did not meet.
        now: whether this version has the alias now.
    """

    model: str
    alias: str
    version: str
    run_id: str
    run_name: str
    accuracy: float | None
    by: str
    at: datetime | None
    why: str
    even_though: str = ""
    objections: tuple[str, ...] = ()
    now: bool = False

    @property
    def lines(self) -> list[str]:
        """Lines for the terminal."""
        accuracy = "no test accuracy" if self.accuracy is None else f"test accuracy {self.accuracy:.4f}"
        when = f"{self.at:%Y-%m-%d %H:%M} UTC by {self.by}" if self.at else "time unknown"
        mark = f"{self.alias} now" if self.now else f"{self.alias} before"
        head = f"version {self.version}  {self.run_name} ({self.run_id[:SHORT_ID]})  {accuracy}; {mark}, {when}"
        reason = [f"  even though {'; '.join(self.objections)}: {self.even_though}"] if self.objections else []
        return [head, *([f"  {self.why}"] if self.why else []), *reason]

    @property
    def description(self) -> str:
        """Description of the model version, in Markdown."""
        head = f"{self.alias} since {self.at:%Y-%m-%d %H:%M} UTC, by {self.by}."
        return "\n\n".join(line.strip() for line in (head, *self.lines[1:]))

    def as_data(self) -> Mapping[str, object]:
        """JSON-compatible mapping."""
        return asdict(self) | {"at": self.at.isoformat() if self.at else None}


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
        now = current_version(client, name, alias)
        plan.check_unmoved(str(now.version) if now else None)
        client.set_registered_model_alias(name, alias, version.version)
        promotion = plan.promotion(str(version.version), by, records(client, name))
        client.set_model_version_tag(name, version.version, *as_tag(promotion))
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
            *(self.name, self.alias, version, info.run_id, info.run_name, self.run.data.metrics.get(_ACCURACY)),
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
            f"--alias {alias}: expected letters, digits, '-' and '_', starting with a letter; v1 means a version"
        )
    for text in (note, even_though):
        if len(text) > verdicts.MAX_NOTE_LENGTH:
            raise UserError(f"a note has at most {verdicts.MAX_NOTE_LENGTH:,} characters, this one {len(text):,}")
    if not run.outputs or not run.outputs.model_outputs:
        raise UserError(f"run {run.info.run_id[:SHORT_ID]} ({run.info.run_name}, {run.info.status}) logged no model")
    with store.connected() as client:
        before = current_version(client, name, alias)
    if before and before.run_id == run.info.run_id:
        raise UserError(f"{run.info.run_name} is already {name}@{alias}, as version {before.version}")
    found, comparison = _check_rules(store, run, before)
    objections = (*found, *more)
    if objections and not even_though:
        raise UserError(
            f"{run.info.run_name} cannot be promoted: {'; '.join(objections)}; "
            '--even-though "reason" promotes it anyway, and the reason is recorded'
        )
    why = ". ".join(part for part in (note.rstrip("."), comparison) if part)
    return Plan(run, name, alias, str(before.version) if before else None, why, even_though, objections)


def as_tag(promotion: Promotion) -> tuple[str, str]:
    """Name and value of the tag of a model version that records a promotion."""
    key = f"{_PREFIX}{promotion.at:{_TIME}}.{secrets.token_hex(3)}"
    return key, json.dumps(promotion.as_data(), ensure_ascii=False)


def history(store: Store, name: str, alias: str) -> list[Promotion]:
    """List all promotions to an alias, the latest last.

    Args:
        store: contains the registered model.
        name: of the registered model.
        alias: such as `"champion"`.

    Returns:
        The promotions; empty if the store or the registered model does not exist.

    Raises:
        UserError: if the store cannot be read.
    """
    if not store.exists():
        return []
    with store.connected() as client:
        current = current_version(client, name, alias)
        promotions = [promotion for promotion in records(client, name) if promotion.alias == alias]
        if current and not (promotions and promotions[-1].version == str(current.version)):
            promotions.append(_unrecorded(client, name, alias, current))
    return [*promotions[:-1], replace(promotions[-1], now=current is not None)] if promotions else []


def no_version_message(store: Store, name: str, alias: str) -> str:
    """Message for a user who needs a model version with an alias that no version has."""
    return f"no model version {name}@{alias} in {store.uri}: set the alias with cifar-exp promote RUN"


def current_version(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Model version that has an alias, or `None`."""
    from mlflow.exceptions import MlflowException

    try:
        # A server with logins answers 403 to a request for an alias of a model that does not exist.
        version = client.get_registered_model(name).aliases.get(alias)
        return client.get_model_version(name, version) if version else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _check_rules(store: Store, run: Run, before: ModelVersion | None) -> tuple[tuple[str, ...], str]:
    """Objections to the promotion, and the comparison with the version that has the alias."""
    objections = []
    state = verdicts.state(run)
    if state != verdicts.APPROVED:
        objections.append(f"it is {state}, not approved")
    if before is None:
        return tuple(objections), "First version with this alias."
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

    model_id = run.outputs.model_outputs[-1].model_id
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    existing = [one for one in _versions(client, name) if (one.run_id, one.source) == (run.info.run_id, source)]
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


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    versions: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        versions += page
        token = page.token or None
    return versions


def records(client: MlflowClient, name: str) -> list[Promotion]:
    """Recorded promotions of all versions, the oldest first. Tags that do not hold a valid promotion are ignored."""
    dated = []
    for version in _versions(client, name):
        for key, value in version.tags.items():
            if key.startswith(_PREFIX) and (promotion := _parse(value, version)):
                dated.append((promotion.at, key, promotion))
    return [promotion for _, _, promotion in sorted(dated, key=lambda item: item[:2])]


def _parse(value: str, version: ModelVersion) -> Promotion | None:
    try:
        content: dict[str, Any] = parse_json(value)
        promotion = from_data(content | {"model": version.name, "version": str(version.version), "now": False})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    texts = (promotion.alias, promotion.run_id, promotion.run_name, promotion.by, promotion.why, promotion.even_though)
    numbers = promotion.accuracy is None or isinstance(promotion.accuracy, float)
    strings = all(isinstance(text, str) for text in (*texts, *promotion.objections))
    return promotion if strings and numbers and promotion.at and promotion.at.tzinfo is not None else None


def from_data(data: Mapping[str, Any]) -> Promotion:
    """The promotion that `Promotion.as_data` has described.

    Raises:
        ValueError, KeyError, TypeError: if the data describe none.
    """
    content = dict(data)
    at, objections = datetime.fromisoformat(content.pop("at")), tuple(content.pop("objections"))
    return Promotion(**content, at=at, objections=objections)


def _unrecorded(client: MlflowClient, name: str, alias: str, version: ModelVersion) -> Promotion:
    from mlflow.exceptions import MlflowException

    run_name, accuracy = "no run", None
    try:
        if version.run_id:
            run = client.get_run(version.run_id)
            run_name, accuracy = run.info.run_name, run.data.metrics.get(_ACCURACY)
    except MlflowException:
        run_name = "deleted run"
    why = "The alias was not set by cifar-exp promote."
    return Promotion(name, alias, str(version.version), version.run_id or "", run_name, accuracy, "unknown", None, why)
