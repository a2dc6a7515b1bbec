"""Limit of failed logins: who guesses passwords has to wait."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from flask import Flask, Response, g
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FAILURES, WITHIN = 10, 300.0  # failed logins of a user from an address within this many seconds
_REMEMBERED = 1800.0  # seconds after a login in which the same password is never made to wait
_MOST = 10_000  # users and passwords that are kept in memory
_TOO_MANY, _UNAUTHORIZED = 429, 401
_CHALLENGE = (b"www-authenticate", b'Basic realm="mlflow"')
PROOF = "X-Cifar-Exp-Login"  # in answers to a right login, on their way to `Throttle`, which takes it out


def mark_logins(app: Flask) -> None:
    """Put `PROOF` into what MLflow's Flask app answers to a right login.

    A status proves nothing: a foreign Host header or a preflight is answered before the login is checked, and the page
    that logs out answers 401 to the right password.
    """

    @app.after_request
    def mark(response: Response) -> Response:
        if "mlflow_authenticated_user" in g:
            response.headers[PROOF] = "right"
        return response


class Throttle:
    """ASGI middleware that answers 429 to a user's further logins from an address after `FAILURES` failed ones.

    Whoever has logged in lately may keep using the same password, so that nobody can lock out a user who works. Each
    worker of the server counts for itself.

    Args:
        app: the next ASGI app.
        clock: seconds.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self._clock = clock
        self._failed: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._known: OrderedDict[bytes, float] = OrderedDict()  # digest of a login -> time of its last success

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        login = Headers(scope=scope).get("authorization", "") if scope["type"] == "http" else ""
        if not login:
            await self.app(scope, receive, send)
            return
        if not login.lower().startswith("basic "):  # MLflow answers 500
            await _refuse(send, _UNAUTHORIZED, "UNAUTHENTICATED", "expected basic authentication", _CHALLENGE)
            return
        digest = hashlib.sha256(login.encode()).digest()
        who = (_user(login), (scope.get("client") or ("", 0))[0])
        wait = self._wait(digest, who)
        if wait:
            sentence = f"too many failed logins: try again in {math.ceil(wait / 60)} minutes"
            after = (b"retry-after", str(math.ceil(wait)).encode())
            await _refuse(send, _TOO_MANY, "RESOURCE_EXHAUSTED", sentence, after)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                self._note(digest, who, PROOF in headers, message["status"])
                del headers[PROOF]
            await send(message)

        await self.app(scope, receive, watch)

    def _wait(self, digest: bytes, who: tuple[str, str]) -> float:
        """Seconds that a login has to wait; 0 if it may be tried."""
        now = self._clock()
        if now - self._known.get(digest, -math.inf) < _REMEMBERED:
            return 0.0
        failed = self._failed.get(who, deque())
        while failed and now - failed[0] >= WITHIN:
            failed.popleft()
        return WITHIN - (now - failed[0]) if len(failed) >= FAILURES else 0.0

    def _note(self, digest: bytes, who: tuple[str, str], right: bool, status: int) -> None:
        """Remember how a login ended."""
        if right:
            self._known[digest] = self._clock()
            self._known.move_to_end(digest)
        elif status == _UNAUTHORIZED:
            self._known.pop(digest, None)
            self._failed.setdefault(who, deque(maxlen=FAILURES)).append(self._clock())
            self._failed.move_to_end(who)
        for kept in (self._failed, self._known):
            while len(kept) > _MOST:
                kept.popitem(last=False)


def _user(login: str) -> str:
    """Name in a header of basic authentication; empty if it cannot be read."""
    try:
        return base64.b64decode(login[len("basic ") :], validate=True).partition(b":")[0].decode()[:200]
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def _refuse(send: Send, status: int, code: str, sentence: str, header: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error_code": code, "message": sentence}).encode()
    headers = [(b"content-type", b"application/json"), header]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
