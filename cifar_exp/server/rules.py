"""The rules of review for what MLflow's own routes write.

Each rule reads the request as MLflow's handler will read it, and returns why the request is refused, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import request
from mlflow.protos import model_registry_pb2 as registry
from mlflow.protos import service_pb2 as tracking
from mlflow.server import handlers
from mlflow.utils.mlflow_tags import MLFLOW_USER

from cifar_exp.review import verdicts
from cifar_exp.review.digest import FACTS
from cifar_exp.server import protection
from cifar_exp.tracking import run_tags

Rule = Callable[[str], str | None]
"""Takes the name of the user; returns the reason of a refusal, or None."""

TAGS = "tags: expected a list of objects with key and value"
STATUS = "the status of a finished run is changed by the user who created it only"
ALIAS = "aliases are moved by promotions only: use the page /team or cifar-exp promote"
STAGE = "stages are not used here: promote the model on the page /team or with cifar-exp promote"


_FIRST_STATE = (("review.state", verdicts.UNREVIEWED), ("review.by", ""), ("review.note", ""))


def _read(message: Any) -> Any:
    return handlers._get_request_message(message)


def _reserved(keys: Any) -> str | None:
    """Refusal of tags that only verdicts and promotions write."""
    for key in keys:
        if protection.is_reserved(key):
            return f"tag {key!r} is written by verdicts and promotions only: use the page /team or cifar-exp review"
    return None


def _is_first_state(tag: Mapping[str, Any]) -> bool:
    """Whether a tag says that nothing was decided yet, as cifar_exp logs it with every new run."""
    return (tag.get("key"), tag.get("value") or "") in _FIRST_STATE


def _run_tags(run_id: str, tags: Mapping[str, str | None]) -> str | None:
    """Refusal of new values of a run's tags; None stands for the removal of a tag."""
    if any(protection.is_reserved(key) for key in tags):
        present = handlers._get_tracking_store().get_run(run_id).data.tags
        # What changes nothing may be sent again, as a run does that is resumed or replayed.
        if refusal := _reserved(key for key, value in tags.items() if value is None or present.get(key) != value):
            return refusal
    watched = {key: value for key, value in tags.items() if key in FACTS or key == MLFLOW_USER}
    if not watched:
        return None
    run = handlers._get_tracking_store().get_run(run_id)
    for key, value in watched.items():
        if run.data.tags.get(key) == value:
            continue
        if key == MLFLOW_USER:
            return f"tag {key!r} is the user who created the run: it cannot be changed"
        if run.info.status == protection.FINISHED:
            return f"tag {key!r} of a finished run cannot be changed: reviews rely on it"
    return None


def _run_create(user: str) -> str | None:
    """Refuse reserved tags, and make who has logged in the creator of the run, whatever the client says."""
    body = handlers._get_normalized_request_json()
    tags = _listed_tags(body)
    if tags is None:
        return TAGS
    others = [tag for tag in tags if tag.get("key") != MLFLOW_USER]
    # First, since MLflow continues with what it has read so far when it cannot read the rest.
    first = {"user_id": user, "tags": [{"key": MLFLOW_USER, "value": user}, *others]}
    _replace_body(first | {key: value for key, value in body.items() if key not in ("user_id", "userId", "tags")})
    return _reserved(str(tag.get("key")) for tag in tags if not _is_first_state(tag))


def _promptlab_create(user: str) -> str | None:
    body = handlers._get_normalized_request_json()
    tags = _listed_tags(body)
    if tags is None:
        return TAGS
    _replace_body(body | {"user_id": user})
    return _reserved(str(tag.get("key")) for tag in tags)


def _listed_tags(body: Any) -> list[dict[str, Any]] | None:
    """The tags in the body of a request; None if they are no list of objects."""
    tags = (body.get("tags") or []) if isinstance(body, dict) else None
    return tags if isinstance(tags, list) and all(isinstance(tag, dict) for tag in tags) else None


def _replace_body(body: dict[str, Any]) -> None:
    """Change the JSON that the handler will read."""
    request._cached_json = (body, body)


def _run_update(user: str) -> str | None:
    message = _read(tracking.UpdateRun())
    if not message.HasField("status") or message.status == tracking.FINISHED:
        return None
    run = handlers._get_tracking_store().get_run(message.run_id or message.run_uuid)
    if run.info.status != protection.FINISHED or run.data.tags.get(run_tags.KIND) == run_tags.SWEEP_KIND:
        return None
    if refusal := protection.of_run(run, "reopened"):
        return refusal
    return None if run.data.tags.get(MLFLOW_USER) == user else STATUS


def _run_delete(user: str) -> str | None:
    return protection.of_run_id(_read(tracking.DeleteRun()).run_id, "deleted")


def _run_set_tag(user: str) -> str | None:
    message = _read(tracking.SetTag())
    return _run_tags(message.run_id or message.run_uuid, {message.key: message.value})


def _run_delete_tag(user: str) -> str | None:
    message = _read(tracking.DeleteTag())
    return _run_tags(message.run_id, {message.key: None})


def _run_log_batch(user: str) -> str | None:
    message = _read(tracking.LogBatch())
    return _run_tags(message.run_id, {tag.key: tag.value for tag in message.tags})


def _experiment_delete(user: str) -> str | None:
    return protection.of_experiment(_read(tracking.DeleteExperiment()).experiment_id)


def _logged_model_delete(user: str) -> str | None:
    return protection.of_logged_model((request.view_args or {})["model_id"], "deleted")


def _model_delete(user: str) -> str | None:
    return protection.of_registered_model(_read(registry.DeleteRegisteredModel()).name, "deleted")


def _model_rename(user: str) -> str | None:
    return protection.of_registered_model(_read(registry.RenameRegisteredModel()).name, "renamed")


def _version_delete(user: str) -> str | None:
    message = _read(registry.DeleteModelVersion())
    return protection.of_version(message.name, message.version)


def _artifact(user: str) -> str | None:
    return protection.of_artifact((request.view_args or {})["artifact_path"], request.method == "DELETE")


def _artifact_of_run(user: str) -> str | None:
    return protection.of_run_id(request.args.get("run_uuid", ""), "changed")


def _artifact_presigned(user: str) -> str | None:
    message = _read(tracking.CreatePresignedUploadUrl())
    if message.model_id:
        return protection.of_logged_model(message.model_id, "changed")
    return protection.of_run_id(message.run_id, "changed")


def _tags_of(message: Callable[[], Any]) -> Rule:
    """Rule on a request with a list of tags."""
    return lambda user: _reserved(tag.key for tag in _read(message()).tags)


def _key_of(message: Callable[[], Any]) -> Rule:
    """Rule on a request with the key of one tag."""
    return lambda user: _reserved([_read(message()).key])


RULES: Mapping[str, Rule] = {
    "run-create": _run_create,
    "promptlab-create": _promptlab_create,
    "run-update": _run_update,
    "run-delete": _run_delete,
    "run-set-tag": _run_set_tag,
    "run-delete-tag": _run_delete_tag,
    "run-log-batch": _run_log_batch,
    "experiment-create": _tags_of(tracking.CreateExperiment),
    "experiment-delete": _experiment_delete,
    "experiment-set-tag": _key_of(tracking.SetExperimentTag),
    "experiment-delete-tag": _key_of(tracking.DeleteExperimentTag),
    "logged-model-delete": _logged_model_delete,
    "logged-model-set-tags": _tags_of(tracking.SetLoggedModelTags),
    "logged-model-delete-tag": lambda user: _reserved([(request.view_args or {})["tag_key"]]),
    "model-create": _tags_of(registry.CreateRegisteredModel),
    "model-set-tag": _key_of(registry.SetRegisteredModelTag),
    "model-delete-tag": _key_of(registry.DeleteRegisteredModelTag),
    "model-rename": _model_rename,
    "model-delete": _model_delete,
    "alias": lambda user: ALIAS,
    "stage": lambda user: STAGE,
    "version-create": _tags_of(registry.CreateModelVersion),
    "version-set-tag": _key_of(registry.SetModelVersionTag),
    "version-delete-tag": _key_of(registry.DeleteModelVersionTag),
    "version-delete": _version_delete,
    "artifact": _artifact,
    "artifact-of-run": _artifact_of_run,
    "artifact-presigned": _artifact_presigned,
}
