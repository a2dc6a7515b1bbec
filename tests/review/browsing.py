"""A real browser, and what a page in it asked for and complained of."""

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

SCREENSHOTS = program.ROOT / "build" / "screenshots"  # kept, to be looked at
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 60_000  # milliseconds, on a machine that does other things too


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a browser: neither chromium nor google-chrome is installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=QUIET.split())
        yield started
        started.close()


@dataclass
class Heard:
    """What a page asked for, and its complaints."""

    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def opened(browser: Browser, width: int, scheme: Any = "light", **context: Any) -> Iterator[tuple[Page, Heard]]:
    """An empty page of this width, light or dark."""
    own = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **context)
    own.set_default_timeout(PATIENCE)
    page, heard = own.new_page(), Heard()
    page.on("request", lambda request: heard.asked.append(request.url))
    page.on("console", lambda said: heard.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.complaints.append(str(error)))
    try:
        yield page, heard
    finally:
        own.close()


def keep(page: Page, name: str) -> None:
    """A screenshot of the whole page, for the eye."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
