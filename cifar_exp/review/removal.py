"""Removal of an alias, such as champion, from the registered model that has it, with a reason on record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cifar_exp.errors import UserError
from cifar_exp.review import promotion_records, texts, verdicts
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

_PREFIX = "promotion.removed."


@dataclass(frozen=True)
class Removal:
    """An alias that was taken from a model version.

    Attributes:
        alias: such as champion.
        by: user who removed it.
        at: time of the removal, in UTC.
        why: reason.
    """

    alias: str
    by: str
    at: datetime
    why: str

    @property
    def line(self) -> str:
        """Line for the terminal, and description of the model version."""
        return f"{self.alias} no more since {self.at:%Y-%m-%d %H:%M} UTC, removed by {self.by}: {self.why}"

    def as_data(self) -> Mapping[str, object]:
        """JSON-compatible mapping."""
        return asdict(self) | {"at": self.at.isoformat()}


def prepare(name: str, alias: str, version: str | None, by: str, why: str) -> Removal:
    """Check the removal of an alias.

    Args:
        name: of the registered model.
        alias: such as `"champion"`.
        version: that has the alias now, or None.
        by: user who removes it.
        why: reason, at most 1,000 characters.

    Raises:
        UserError: if no version has the alias, or the reason is missing or too long.
    """
    if version is None:
        raise UserError(f"no version of {name} is {alias}: there is nothing to remove")
    if not why.strip():
        raise UserError(f"version {version} of {name} is {alias}: give the reason to remove this alias")
    texts.check(why, "reason")
    return Removal(alias, by, datetime.now(UTC), why.strip())


def remove(store: Store, name: str, alias: str, by: str, why: str) -> Removal:
    """Remove an alias from the version that has it. The version, its run and its earlier promotions stay.

    Raises:
        UserError: if no version has the alias, the reason is missing, or the server forbids it.
    """
    with store.connected() as client:
        current = promotion_records.current_version(client, name, alias)
        removal = prepare(name, alias, current and str(current.version), by, why)
        assert current is not None
        client.delete_registered_model_alias(name, alias)
        client.set_model_version_tag(name, current.version, *as_tag(removal))
        client.update_model_version(name, current.version, removal.line)
    return removal


def as_tag(removal: Removal) -> tuple[str, str]:
    """Name and value of the tag of a model version that records a removal."""
    return verdicts.tag_name(_PREFIX, removal.at), json.dumps(removal.as_data(), ensure_ascii=False)


def latest(store: Store, name: str, alias: str) -> Removal | None:
    """The latest removal of an alias; None if it was never removed.

    Raises:
        UserError: if the store cannot be read.
    """
    with store.connected() as client:
        tags = [tag for version in promotion_records.versions(client, name) for tag in version.tags.items()]
    found = [one for key, value in tags if key.startswith(_PREFIX) and (one := _parse(value)) and one.alias == alias]
    return max(found, key=lambda one: one.at, default=None)


def from_data(data: Mapping[str, Any]) -> Removal:
    """The removal that `Removal.as_data` has described.

    Raises:
        ValueError, KeyError, TypeError: if the data describe none.
    """
    return Removal(**{**data, "at": datetime.fromisoformat(data["at"])})


def _parse(value: str) -> Removal | None:
    """The removal that a tag describes; None if it describes none."""
    try:
        removal = from_data(parse_json(value))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    texts = all(isinstance(text, str) for text in (removal.alias, removal.by, removal.why))
    return removal if texts and removal.at.tzinfo is not None else None
