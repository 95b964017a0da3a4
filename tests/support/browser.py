"""A real browser, Debian's Chromium, in a thread of its own: its driver blocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

T = TypeVar("T")


class Browser:
    """Starts with its first visit, and ends with the context."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._thread.submit(self._start).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._stop).result()
        self._thread.shutdown()

    async def visit(self, look: Callable[[Page], T], **options: Any) -> T:
        """Call `look` with a page of a fresh profile that takes every certificate.

        `options` are those of the profile, such as `viewport` and `color_scheme`.
        """

        def run() -> T:
            with self._browser.new_context(ignore_https_errors=True, **options) as profile:
                return look(profile.new_page())

        return await trio.to_thread.run_sync(lambda: self._thread.submit(run).result())

    def _start(self) -> None:
        self._driver = sync_playwright().start()
        self._browser = self._driver.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=list(OPTIONS)
        )

    def _stop(self) -> None:
        self._browser.close()
        self._driver.stop()
