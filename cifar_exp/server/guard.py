"""The rules of review at every way into MLflow's server: its Flask app, and the native routes beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from anyio import to_thread
from flask import Flask, Response, g, request
from mlflow.exceptions import MlflowException
from mlflow.server import auth
from mlflow.server.asgi_utils import get_routed_asgi_path
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from cifar_exp.server import protection, routes, rules

REFUSED = 403


OUR_ENDPOINTS: set[str] = set()
"""Flask endpoints of this package, which keep the rules themselves."""


def add_route(app: Flask, method: str, path: str, view: Callable[[], Any]) -> None:
    """Add a route of this package, for everybody who has logged in.

    Args:
        app: of MLflow.
        method: of HTTP.
        path: without parameters: MLflow lets only those through that it looks up as they are.
        view: answers the request, and checks what the user may.
    """
    endpoint = f"cifar_exp {method} {path}"
    app.add_url_rule(path, endpoint, view, methods=[method])
    auth.BEFORE_REQUEST_VALIDATORS[path, method] = lambda: True
    OUR_ENDPOINTS.add(endpoint)


def unknown(method: str, path: str) -> str:
    """Why a writing route is refused that the table does not have."""
    return f"{method} {path}: this server does not know whether this keeps the rules of review"


def refusal_body(sentence: str) -> dict[str, str]:
    """A refusal in the form that MLflow's clients read."""
    return {"error_code": "PERMISSION_DENIED", "message": sentence}


def protect_flask(app: Flask) -> None:
    """Check each request to the Flask app, after MLflow has checked login and permissions."""
    app.before_request(_check_flask_request)


def _check_flask_request() -> Response | None:
    if request.method not in routes.WRITING or request.url_rule is None:
        return None
    if request.endpoint in OUR_ENDPOINTS:
        return None
    decided = routes.decision(request.method, request.url_rule.rule)
    if decided is None:
        return _refuse(unknown(request.method, request.url_rule.rule))
    if decided in (routes.READS, routes.FREE):
        return None
    try:
        sentence = rules.RULES[decided](g.mlflow_authenticated_user)
    except MlflowException:  # such as a run that does not exist, or a body that cannot be read: MLflow refuses it
        return None
    return _refuse(sentence) if sentence else None


def _refuse(sentence: str) -> Response:
    return Response(json.dumps(refusal_body(sentence)), REFUSED, mimetype="application/json")


def native_routes(api: Any) -> list[tuple[str, str]]:
    """Routes that FastAPI serves itself: (method, path) of each. The mounted Flask app is none of them.

    Args:
        api: the FastAPI app.
    """
    return [(method, path) for methods, path in _native(api.routes) for method in methods]


def _native(registered: Any, prefix: str = "") -> list[tuple[frozenset[str], str]]:
    found: list[tuple[frozenset[str], str]] = []
    for route in registered:
        if (included := getattr(route, "original_router", None)) is not None:
            found += _native(included.routes, prefix + (route.include_context.prefix or ""))
        elif methods := getattr(route, "methods", None):
            found.append((frozenset(methods), prefix + route.path))
    return found


class NativeGuard:
    """ASGI middleware that checks the requests to FastAPI's native routes, which Flask does not see.

    It runs before MLflow's own checks, so it leaves requests that MLflow will refuse to MLflow.

    Args:
        app: the next ASGI app.
        api: the FastAPI app, whose routes are looked up.
    """

    def __init__(self, app: ASGIApp, api: Any) -> None:
        self.app = app
        self._patterns = [(methods, compile_path(path)[0], path) for methods, path in _native(api.routes)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] == "http" and scope["method"] in routes.WRITING:
            sentence = await to_thread.run_sync(self._refusal, scope)
            if sentence:
                await JSONResponse(refusal_body(sentence), REFUSED)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        requested = get_routed_asgi_path(Request(scope))
        path = next(
            (
                path
                for methods, pattern, path in self._patterns
                if scope["method"] in methods and pattern.match(requested)
            ),
            None,
        )
        decided = routes.decision(scope["method"], path) if path else routes.FREE
        if path is None or decided in (routes.READS, routes.FREE):
            return None
        user = _native_user(Request(scope))
        if user is None:
            return None
        if decided != "artifact":
            return unknown(scope["method"], path)
        permitted = auth._authorize_fastapi_artifact_proxy(requested, user.username, None, "update")
        if not (user.is_admin or permitted):
            return None
        return protection.of_artifact(requested.partition("/mlflow-artifacts/artifacts/")[2], False)


def _native_user(request: Request) -> Any:
    """The user of a request to a native route, as MLflow will find it; None if MLflow will refuse the request."""
    if auth.auth_config.authorization_function == auth.DEFAULT_AUTHORIZATION_FUNCTION:
        return auth._authenticate_fastapi_request(request)
    user = auth._authenticate_custom_for_fastapi(request)
    return user if hasattr(user, "username") else None
