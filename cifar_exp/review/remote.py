"""Verdicts and promotions through a server that keeps the rules of review itself (`cifar_exp.server`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifar_exp.review import promotion_records, removal
from cifar_exp.review.promotion_records import Promotion
from cifar_exp.review.removal import Removal
from cifar_exp.tracking import server
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

BEFORE = "made before the server kept the rules"


@dataclass(frozen=True)
class RuleServer:
    """A server that keeps the rules of review.

    Args:
        store: on that server.
        user: name of the user, as the server knows it.
    """

    store: Store
    user: str

    def give(self, run: Run, action: str, note: str = "", even_though: str = "") -> Run:
        """Record a verdict on a run by an action of `verdicts.ACTIONS`, and return the run with it.

        Raises:
            UserError: if the server refuses it.
        """
        content = {"run_id": run.info.run_id, "action": action, "note": note, "even_though": even_though}
        server.call(self.store.uri, "POST", f"{server.RULES}/verdict", content)
        with self.store.connected() as client:
            return client.get_run(run.info.run_id)

    def promote(self, run: Run, name: str, alias: str, note: str = "", even_though: str = "") -> Promotion:
        """Give an alias to the model of a run.

        Raises:
            UserError: if the server refuses it.
        """
        content = {"run_id": run.info.run_id, "model": name, "alias": alias, "note": note, "even_though": even_though}
        answered = server.call(self.store.uri, "POST", f"{server.RULES}/promote", content)
        return promotion_records.from_data(answered["promotion"])

    def remove_alias(self, name: str, alias: str, why: str) -> Removal:
        """Remove an alias of a registered model.

        Raises:
            UserError: if the server refuses it.
        """
        content = {"model": name, "alias": alias, "why": why}
        answered = server.call(self.store.uri, "POST", f"{server.RULES}/remove-alias", content)
        return removal.from_data(answered["removal"])


def rule_server(store: Store) -> RuleServer | None:
    """The server of a store, if it keeps the rules of review; one request."""
    if not store.is_server or store.away():
        return None
    answered = server.answer(store.uri, f"{server.RULES}/rules")
    user = answered.get("user") if answered else None
    return RuleServer(store, user) if isinstance(user, str) else None
