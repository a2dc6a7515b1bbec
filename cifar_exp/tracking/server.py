"""Check, before anything is trained, whether a tracking server will accept what runs log."""

from __future__ import annotations

import os
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from cifar_exp.errors import UserError, reason

if TYPE_CHECKING:
    import requests
    from mlflow.utils.rest_utils import MlflowHostCreds

_PATIENCE = 120  # seconds, for what the server computes before it answers
_TIMEOUT = 10  # seconds; MLflow itself would try for minutes
_QUERY = "/api/2.0/mlflow/experiments/search"  # reads the database, and needs a login if the server has users
_EXPERIMENT = "/api/2.0/mlflow/experiments/get-by-name"
_CURRENT_USER = "/api/2.0/mlflow/users/current"
_LONGEST_VERSION = 40
RULES = "/api/3.0/cifar-exp"  # of a server that runs cifar_exp.server
_FOREIGN_HOST = "Invalid Host header"  # beginning of the answer of MLflow's server


@cache
def check(uri: str) -> str | None:
    """Send a request that needs a login, with MLflow's credentials and certificates. The result is cached.

    Args:
        uri: address of the server, http:// or https://.

    Returns:
        Why the server is away for now; None if it answers.

    Raises:
        UserError: if the host does not exist, is not an MLflow server, or refuses the user.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowException
    from mlflow.utils.rest_utils import http_request

    credentials = _credentials(uri)
    try:
        answer = http_request(
            credentials, _QUERY, "POST", json={"max_results": 1}, max_retries=0, timeout=_TIMEOUT, raise_on_status=False
        )
    except MlflowException as error:
        if _is_away(error):
            return reason(error.__context__ or error)
        raise refusal(uri, reason(error.__context__ or error)) from error
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return f"{answer.status_code} {answer.reason}"
    if problem := _problem(answer, uri, credentials.username):
        raise refusal(uri, problem)
    return None


def version(uri: str) -> str | None:
    """Version of MLflow on the server; None if it cannot be read."""
    answer = _get(uri, "/version")
    return answer.text.strip() if answer is not None and len(answer.text) < _LONGEST_VERSION else None


def current_user(uri: str) -> str | None:
    """Name of the user as the server knows it; None if the server has no users or does not answer."""
    answer = _get(uri, _CURRENT_USER)
    try:
        return str(answer.json()["user"]["username"]) if answer is not None else None
    except (ValueError, KeyError, TypeError):
        return None


@cache
def has_team_page(uri: str) -> bool:
    """Whether a server has the pages of `cifar_exp.server`. The answer is cached."""
    return answer(uri, f"{RULES}/rules") is not None


def experiment(uri: str, name: str) -> tuple[str, str] | None:
    """Look up an experiment by name.

    Returns:
        Its id and lifecycle stage; None if it does not exist or the server does not answer.
    """
    answer = _get(uri, f"{_EXPERIMENT}?experiment_name={quote(name, safe='')}")
    try:
        found = answer.json()["experiment"] if answer is not None else {}
        return str(found["experiment_id"]), str(found["lifecycle_stage"])
    except (ValueError, KeyError, TypeError):
        return None


def answer(uri: str, path: str) -> dict[str, Any] | None:
    """JSON object that a server answers to a GET request; None if it does not have it or does not answer."""
    response = _get(uri, path)
    try:
        content = response.json() if response is not None else None
    except ValueError:  # for example a web page
        return None
    return content if isinstance(content, dict) else None


def call(uri: str, method: str, path: str, content: dict[str, str] | None = None) -> dict[str, Any]:
    """Send a request to a server and return the JSON object that it answers.

    Raises:
        UserError: if the server refuses it or does not answer.
    """
    from mlflow import MlflowException
    from mlflow.utils.rest_utils import http_request

    credentials = _credentials(uri)
    try:
        response = http_request(
            credentials, path, method, json=content, max_retries=0, timeout=_PATIENCE, raise_on_status=False
        )
        answered = response.json() if response.headers.get("Content-Type") == "application/json" else {}
    except (MlflowException, ValueError) as error:
        raise refusal(uri, reason(error.__context__ or error)) from error
    if not response.ok and isinstance(answered.get("message"), str):
        raise UserError(answered["message"])
    if problem := _problem(response, uri, credentials.username):
        raise refusal(uri, problem)
    return dict(answered)


def _credentials(uri: str) -> MlflowHostCreds:
    """MLflow's credentials and certificates from the environment.

    Raises:
        UserError: if they contradict each other.
    """
    from mlflow import MlflowException
    from mlflow.utils.credentials import get_default_host_creds

    try:
        return get_default_host_creds(uri)
    except MlflowException as error:
        raise refusal(uri, reason(error)) from error


def _get(uri: str, path: str) -> requests.Response | None:
    """Send a GET request; None if it fails."""
    from mlflow import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri), path, "GET", max_retries=0, timeout=_TIMEOUT, raise_on_status=False
        )
    except MlflowException:
        return None
    return answer if answer.ok else None


def _is_away(error: BaseException) -> bool:
    """Whether an error would disappear if the server were restarted or the network recovered."""
    import requests
    from urllib3.exceptions import NameResolutionError

    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        wrapped = (getattr(cause, "reason", None), *cause.args)
        cause = cause.__context__ or next((e for e in wrapped if isinstance(e, BaseException)), None)
    permanent = (NameResolutionError, requests.exceptions.SSLError, requests.exceptions.InvalidURL)
    temporary = (requests.exceptions.ConnectionError, requests.exceptions.Timeout)
    return not any(isinstance(one, permanent) for one in seen) and any(isinstance(one, temporary) for one in seen)


def _problem(answer: requests.Response, uri: str, user: str | None) -> str | None:
    """Describe what is wrong with the server's answer and what to do about it; None if it is as expected."""
    status = f"{answer.status_code} {answer.reason}"
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        what = f"it does not know user {user!r} with this password" if user else "it asks for a user and a password"
        return f"{what} ({status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if answer.status_code == HTTPStatus.FORBIDDEN and answer.text.startswith(_FOREIGN_HOST):
        host = urlsplit(uri).netloc
        return f"it does not answer to the name {host!r} ({status}): its MLFLOW_ALLOWED_HOSTS must list that name"
    if answer.status_code == HTTPStatus.FORBIDDEN:
        return f"user {user!r} may not use it ({status})"
    if not answer.ok:
        return status
    try:
        answer.json()
    except ValueError:  # for example a web page
        return "what answers there is no MLflow server"
    return None


def refusal(uri: str, problem: str) -> UserError:
    """Error about a server that also names the settings which its address comes from."""
    return UserError(f"tracking server {uri} (tracking.uri or MLFLOW_TRACKING_URI): {problem}")
