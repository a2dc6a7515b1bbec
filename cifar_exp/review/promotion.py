"""Which run's model is to be used: the champion, an alias of a registered model, and the line of those before it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError
from cifar_exp.review import paired, verdicts
from cifar_exp.review.query import SHORT
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
_ALIAS = re.compile(r"(?!v\d+$)[A-Za-z][\w-]*")  # MLflow takes v1 for a version


@dataclass(frozen=True)
class Promotion:
    """A version that was given an alias."""

    model: str
    alias: str
    version: str
    run_id: str
    run_name: str
    accuracy: float | None
    """On the test images."""
    by: str
    at: datetime | None
    """None where the alias was moved by other means than cifar-exp promote."""
    why: str
    even_though: str = ""
    objections: tuple[str, ...] = ()
    now: bool = False
    """Whether the alias is there now."""

    @property
    def lines(self) -> list[str]:
        """For a terminal."""
        accuracy = "no test accuracy" if self.accuracy is None else f"test accuracy {self.accuracy:.4f}"
        when = f"{self.at:%Y-%m-%d %H:%M} UTC by {self.by}" if self.at else "at no known time"
        mark = f"{self.alias} now" if self.now else f"{self.alias} once"
        head = f"version {self.version}  {self.run_name} ({self.run_id[:SHORT]})  {accuracy}; {mark}, {when}"
        reason = [f"  even though {'; '.join(self.objections)}: {self.even_though}"] if self.objections else []
        return [head, *([f"  {self.why}"] if self.why else []), *reason]

    def as_data(self) -> Mapping[str, object]:
        """For JSON."""
        return asdict(self) | {"at": self.at.isoformat() if self.at else None}


def model_name(store: Store, name: str | None) -> str:
    """Of the registered model: the one that the config names, else that of the experiment.

    Raises:
        UserError: if MLflow takes no such name.
    """
    found = name or store.experiment
    if not _NAME.fullmatch(found):
        raise UserError(f"{found!r} is no name of a registered model: give one with review.model=NAME")
    return found


def promote(store: Store, run: Run, name: str, alias: str, by: str, note: str = "", even_though: str = "") -> Promotion:
    """Give the alias to the run's model, if it was approved and beats the one that has it.

    Args:
        store: of the run; also holds the registered model.
        run: the one whose logged model it is.
        name: of the registered model, made where there is none.
        alias: "champion", say.
        by: who says so.
        note: what else there is to say.
        even_though: why, where the run was not approved or does not beat the present one.

    Raises:
        UserError: if the rules or the server do not let it be.
    """
    if not _ALIAS.fullmatch(alias):
        raise UserError(f"--alias {alias}: expected letters, digits, '-' and '_', beginning with a letter, not v1")
    for text in (note, even_though):
        if len(text) > verdicts.LONGEST:
            raise UserError(f"a note has at most {verdicts.LONGEST:,} characters, this one {len(text):,}")
    if not run.outputs or not run.outputs.model_outputs:
        raise UserError(f"run {run.info.run_id[:SHORT]} ({run.info.run_name}, {run.info.status}) logged no model")
    with store.asked() as client:
        before = holder(client, name, alias)
    if before and before.run_id == run.info.run_id:
        raise UserError(f"{run.info.run_name} has {name}@{alias} already, as version {before.version}")
    against, why = _weigh(store, run, before)
    if against and not even_though:
        raise UserError(
            f"{run.info.run_name} cannot be promoted: {'; '.join(against)}; "
            '--even-though "reason" promotes it nevertheless, and is kept'
        )
    said = ". ".join(part for part in (note.rstrip("."), why) if part)
    with store.asked() as client:
        with store.as_default():
            version = _register(client, run, name)
        now = holder(client, name, alias)
        if (now and now.version) != (before and before.version):
            raise UserError(f"{name}@{alias} was moved meanwhile: the same command compares with what has it now")
        client.set_registered_model_alias(name, alias, version.version)
        latest = max((one.at for one in _records(client, name) if one.at), default=None)
        at = max([datetime.now(UTC), *([latest + timedelta(microseconds=1)] if latest else [])])
        promotion = Promotion(
            *(name, alias, str(version.version), run.info.run_id, run.info.run_name, run.data.metrics.get(_ACCURACY)),
            *(by, at, said, even_though if against else "", against, True),
        )
        key = f"{_PREFIX}{at:{_TIME}}.{secrets.token_hex(3)}"
        client.set_model_version_tag(name, version.version, key, json.dumps(promotion.as_data(), ensure_ascii=False))
        told = [f"{alias} since {at:%Y-%m-%d %H:%M} UTC, by {by}.", *promotion.lines[1:]]
        client.update_model_version(name, version.version, "\n\n".join(line.strip() for line in told))
    return promotion


def line(store: Store, name: str, alias: str) -> list[Promotion]:
    """Every version that had this alias, as often as it was given it, the last one last.

    Raises:
        UserError: if the store cannot be read.
    """
    if not store.exists():
        return []
    with store.asked() as client:
        present = holder(client, name, alias)
        found = [one for one in _records(client, name) if one.alias == alias]
        if present and not (found and found[-1].version == str(present.version)):
            found.append(_unrecorded(client, name, alias, present))
    return [*found[:-1], replace(found[-1], now=present is not None)] if found else []


def holder(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that has the alias."""
    from mlflow.exceptions import MlflowException

    try:
        # Asked for an alias of a model that is not there, a server with logins answers that it is forbidden.
        version = client.get_registered_model(name).aliases.get(alias)
        return client.get_model_version(name, version) if version else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _weigh(store: Store, run: Run, before: ModelVersion | None) -> tuple[tuple[str, ...], str]:
    """What speaks against the run, and what it comes to beside the present one."""
    against = []
    state = verdicts.state(run)
    if state != verdicts.APPROVED:
        against.append(f"it is {state}, not approved")
    if before is None:
        return tuple(against), "The first."
    if not before.run_id:
        return (*against, f"version {before.version}, which has the alias, names no run to compare with"), ""
    try:
        compared = paired.paired(store, before.run_id, run.info.run_id)
    except UserError as error:
        return (*against, f"it cannot be compared with the present one: {error}"), ""
    if not (compared.significant and compared.difference > 0):
        return (*against, compared.words.rstrip(".")), ""
    return tuple(against), compared.words


def _register(client: MlflowClient, run: Run, name: str) -> ModelVersion:
    """The version of the run's model, made where there is none."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    model_id = run.outputs.model_outputs[-1].model_id
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    made = [one for one in _versions(client, name) if (one.run_id, one.source) == (run.info.run_id, source)]
    if made:
        return made[0]
    version = client.create_model_version(name, source, run.info.run_id, model_id=model_id)
    # As mlflow.register_model does: the pages of the run and the model show it by that.
    try:
        known = parse_json(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS) or "[]")
    except ValueError:  # whoever may log may write anything there
        known = []
    shown = [*(known if isinstance(known, list) else []), {"name": name, "version": version.version}]
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(shown)})
    return version


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found += page
        token = page.token or None
    return found


def _records(client: MlflowClient, name: str) -> list[Promotion]:
    """Every promotion that a version's tags tell of, the oldest first. What is in no form of ours is none."""
    found = []
    for version in _versions(client, name):
        for key, value in version.tags.items():
            if key.startswith(_PREFIX) and (promotion := _read(value, version)):
                found.append((promotion.at, key, promotion))
    return [promotion for _, _, promotion in sorted(found, key=lambda one: one[:2])]


def _read(value: str, version: ModelVersion) -> Promotion | None:
    try:
        content: dict[str, Any] = parse_json(value)
        at = datetime.fromisoformat(content.pop("at"))
        accuracy, objections = content.pop("accuracy"), content.pop("objections")
        content |= {"model": version.name, "version": str(version.version), "now": False}
        promotion = Promotion(**content, at=at, accuracy=accuracy, objections=tuple(objections))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    texts = (promotion.alias, promotion.run_id, promotion.run_name, promotion.by, promotion.why, promotion.even_though)
    numbers = promotion.accuracy is None or isinstance(promotion.accuracy, float)
    whole = all(isinstance(text, str) for text in (*texts, *promotion.objections)) and at.tzinfo is not None
    return promotion if whole and numbers else None


def _unrecorded(client: MlflowClient, name: str, alias: str, version: ModelVersion) -> Promotion:
    from mlflow.exceptions import MlflowException

    run_name, accuracy = "no run", None
    try:
        if version.run_id:
            run = client.get_run(version.run_id)
            run_name, accuracy = run.info.run_name, run.data.metrics.get(_ACCURACY)
    except MlflowException:
        run_name = "a run that is gone"
    why = "The alias was moved by other means than cifar-exp promote."
    return Promotion(name, alias, str(version.version), version.run_id or "", run_name, accuracy, "unknown", None, why)
