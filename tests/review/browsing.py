"""A real browser for tests, which records the requests and errors of its pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import program
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENSHOTS = program.ROOT / "build" / "screenshots"  # kept for inspection
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
TIMEOUT = 60_000  # milliseconds; the machine may be busy


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium or Chrome; skip the test if neither is installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a browser: neither chromium nor google-chrome is installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=QUIET.split())
        yield started
        started.close()


@dataclass
class Recorded:
    """URLs that a page requested, and its console warnings and errors."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def opened(browser: Browser, width: int, scheme: Any = "light", **context: Any) -> Iterator[tuple[Page, Recorded]]:
    """Open an empty page with this width and colour scheme."""
    own = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **context)
    own.set_default_timeout(TIMEOUT)
    page, recorded = own.new_page(), Recorded()
    page.on("request", lambda request: recorded.requests.append(request.url))
    page.on(
        "console",
        lambda message: (
            recorded.errors.append(f"{message.text} {message.location['url']}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.on("pageerror", lambda error: recorded.errors.append(str(error)))
    try:
        yield page, recorded
    finally:
        own.close()


def keep(page: Page, name: str) -> None:
    """Save a screenshot of the whole page for inspection."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
