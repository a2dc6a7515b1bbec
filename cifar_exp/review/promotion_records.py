"""Records of promotions: tags of the model versions that were given an alias, such as champion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cifar_exp.review import verdicts
from cifar_exp.review.query import SHORT_ID
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
ACCURACY = "test/accuracy"

_PREFIX = "promotion."


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


def as_tag(promotion: Promotion) -> tuple[str, str]:
    """Name and value of the tag of a model version that records a promotion."""
    assert promotion.at is not None
    return verdicts.tag_name(_PREFIX, promotion.at), json.dumps(promotion.as_data(), ensure_ascii=False)


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


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model."""
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found += page
        token = page.token or None
    return found


def records(client: MlflowClient, name: str) -> list[Promotion]:
    """Recorded promotions of all versions, the oldest first. Tags that do not hold a valid promotion are ignored."""
    dated = []
    for version in versions(client, name):
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
            run_name, accuracy = run.info.run_name, run.data.metrics.get(ACCURACY)
    except MlflowException:
        run_name = "deleted run"
    why = "The alias was not set by cifar-exp promote."
    return Promotion(name, alias, str(version.version), version.run_id or "", run_name, accuracy, "unknown", None, why)
