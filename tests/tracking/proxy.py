"""A proxy in front of a real server that simulates faults of the network and the server."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOW = 0.5  # seconds
MODES = ("well", "500", "429", "slow", "cut before", "cut after", "cut half way")


class Proxy:
    """HTTP proxy whose `mode` selects a fault and can be changed at any time."""

    def __init__(self, upstream: str) -> None:
        self.mode: str | Callable[[], str] = "well"
        self.requests = 0
        self._upstream = urlsplit(upstream).netloc
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.back()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def away(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def back(self) -> None:
        """Listen again at the same address."""
        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _forward(self) -> None:
                proxy.requests += 1
                mode = proxy.mode() if callable(proxy.mode) else proxy.mode
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if mode in ("500", "429"):
                    self.send_error(int(mode))
                    return
                if mode == "cut before":
                    self.close_connection = True
                    self.connection.close()
                    return
                if mode == "slow":
                    time.sleep(SLOW)
                upstream = http.client.HTTPConnection(proxy._upstream, timeout=30)
                upstream.request(self.command, self.path, content, dict(self.headers))
                answer = upstream.getresponse()
                body = answer.read()
                upstream.close()
                if mode == "cut after":  # the server has handled the request, but the client gets no answer
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if mode == "cut half way" else body)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler


@contextmanager
def before(upstream: str) -> Iterator[Proxy]:
    """Context manager that runs a proxy in front of a server."""
    proxy = Proxy(upstream)
    try:
        yield proxy
    finally:
        proxy.away()
