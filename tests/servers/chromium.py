"""Chromium from Debian, without a window, driven by playwright in a thread of its own.

It can reach this machine only. What a page asks for, and what it complains of, is kept.
"""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from playwright.sync_api import Page, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_MS: Final = 30_000
POLL_MS: Final = 50
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def missing() -> str | None:
    """Why Chromium cannot be started here, or None."""
    return None if shutil.which("chromium") else "chromium is not installed"


@dataclass
class Window:
    """One browser with one page; `page` is playwright's."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("request", lambda one: self.requests.append(one.url))
        self.page.on("pageerror", lambda one: self.complaints.append(str(one)))
        self.page.on("console", self._on_console)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until that holds. The page's policy forbids playwright's own way of waiting."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not holds():
            assert time.monotonic() < deadline, self.page.inner_text("body")
            self.page.wait_for_timeout(POLL_MS)

    @property
    def width(self) -> int:
        """How wide the page is, with what can only be seen by scrolling."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


@contextmanager
def _open(**options: Any) -> Iterator[Window]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield Window(browser.new_context(**options).new_page())
        finally:
            browser.close()


async def browse(use: Callable[[Window], None], **options: Any) -> None:
    """Have a window used, in a thread; `trio.from_thread.run` calls back. `options` are those of a
    context of playwright's: `viewport`, `java_script_enabled`, …
    """

    def run() -> None:
        with _open(**options) as window:
            use(window)

    await trio.to_thread.run_sync(partial(run))
