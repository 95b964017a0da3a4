"""The portal in a real browser: pages of a logged-in user, accessibility, pictures, bytes.

    async with portal(tmp_path) as running:
        def look(seen: Seen) -> None:
            seen.open("/operate")
            seen.check("operate")
        await running.visit(look, user="ada", width=360, theme="dark")

Pictures go to the folder that the environment variable PORTAL_PICTURES names, if there is one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import trio
from axe_playwright_python.base import AXE_SCRIPT

from support.backends import start_echo
from support.browser import Browser
from support.gateway import start_gateway
from support.portal_client import PASSWORDS, USERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from playwright.sync_api import Page, Request

    from support.gateway import RunningGateway

PICTURES = os.environ.get("PORTAL_PICTURES", "")
ECHO = Path(__file__).parents[2] / "apis" / "Echo-1.0.0"
SAMPLE_BACKEND = "ws://localhost:2360"
WIDTHS = (360, 1440)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
HEIGHT = 900
# Compressed bytes of one page and what it loads (spec: portal §4).
BUDGET = {"html": 30 << 10, "css": 12 << 10, "js": 45 << 10, "svg": 4 << 10}

T = TypeVar("T")


class Seen:
    """A page of the portal as one user sees it. Blocks: only used in functions given to `visit`."""

    def __init__(self, page: Page, origin: str, label: str) -> None:
        self.page = page
        self.origin = origin
        self.label = label
        self.faults: list[str] = []
        self.requested: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_console(self, message: Any) -> None:
        # Scripts ask for what may not be there, and handle the answer.
        asked = (
            message.text.startswith("Failed to load") and "/portal/api/" in message.location["url"]
        )
        if message.type == "error" and not asked:
            self.faults.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        self.requested.append(request.url)

    def open(self, path: str, *, status: int = 200) -> None:
        """Go to a page below /portal."""
        answer = self.page.goto(f"{self.origin}/portal{path}", wait_until="load")
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}"

    def login(self, user: str) -> None:
        """Log in with the form."""
        self.open("/login")
        self.page.get_by_label("User").fill(user)
        self.page.get_by_label("Password").fill(PASSWORDS[user])
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(f"{self.origin}/portal/")

    def violations(self, *rules: str) -> list[str]:
        """Return what axe-core finds in the page as it is, by all rules or these."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(AXE_SCRIPT)
        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if rules:
            options["runOnly"] = list(rules)
        found = self.page.evaluate(
            "async options => (await axe.run(document, options)).violations", options
        )
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        width: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return width

    def first_paint(self) -> float:
        """Return the milliseconds until the browser painted the first content."""
        milliseconds: float = self.page.evaluate(
            "new Promise(done => new PerformanceObserver(list => {"
            " const found = list.getEntriesByName('first-contentful-paint')[0];"
            " if (found) done(found.startTime);"
            " }).observe({type: 'paint', buffered: true}))"
        )
        return milliseconds

    def transferred(self) -> dict[str, int]:
        """Return the compressed bytes of the page, `html`, and of `css` and `js`."""
        rows: list[list[Any]] = self.page.evaluate(
            "[...performance.getEntriesByType('navigation'),"
            " ...performance.getEntriesByType('resource')"
            ".filter(one => new URL(one.name).pathname.startsWith('/portal/static/'))].map(one =>"
            " [one.entryType === 'navigation' ? 'html' :"
            " new URL(one.name).pathname.split('.').pop(), one.encodedBodySize])"
        )
        found = {"html": 0, "css": 0, "js": 0}
        for kind, size in rows:
            found[kind] = found.get(kind, 0) + size
        return found

    def foreign(self) -> list[str]:
        """Return the requests that went to another origin."""
        own = (self.origin, self.origin.replace("https:", "wss:").replace("http:", "ws:"), "data:")
        return [url for url in self.requested if not url.startswith(own)]

    def picture(self, name: str, *, whole: bool = True) -> None:
        """Take a picture of the page, if somebody wants to look at it."""
        if PICTURES:
            path = Path(PICTURES) / f"{name}-{self.label}.png"
            self.page.screenshot(path=path, full_page=whole, animations="disabled")

    def look_around(self, name: str) -> list[str]:
        """Look at the page at each width and in each theme, and weigh it; return what is wrong.

        The page stays open: only the window and the colours change.
        """
        found = [
            f"{name}: {size} bytes of {kind}"
            for kind, size in self.transferred().items()
            if size > BUDGET.get(kind, 0)
        ]
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": HEIGHT})
            for theme in THEMES:
                self.page.emulate_media(color_scheme=theme)
                self.label = f"{width}-{theme}"
                self.picture(name)
                # Only colours differ between the themes, and they are the same at each width.
                if theme == THEMES[0]:
                    wrong = self.violations()
                else:
                    wrong = self.violations("color-contrast") if width == WIDTHS[-1] else []
                found += [f"{name} {self.label}: {one}" for one in wrong]
            if self.overflow() > 0:
                found.append(f"{name} {width}: scrolls sideways by {self.overflow()} px")
        found += [f"{name}: {one}" for one in (*self.faults, *self.foreign())]
        self.faults.clear()
        self.requested.clear()
        return found

    def check(self, name: str) -> None:
        """Take a picture, and assert what holds for every page: axe, width, scripts, origins."""
        self.picture(name)
        assert self.violations() == [], f"{name} {self.label}"
        assert self.overflow() <= 0, f"{name} {self.label} scrolls sideways"
        assert self.faults == [], f"{name} {self.label}"
        assert self.foreign() == [], f"{name} {self.label}"


class Portal:
    """A running gateway, and a browser for its portal."""

    def __init__(self, gateway: RunningGateway, browser: Browser) -> None:
        self.gateway = gateway
        self.browser = browser
        # The listener on loopback: Chromium does not know the gateway's certificate.
        self.origin = f"http://localhost:{gateway.portal_port}"
        self._sessions: dict[str, Any] = {}

    async def visit(
        self, look: Callable[[Seen], T], *, user: str = "", width: int = 1440,
        theme: str = "light", **options: Any,
    ) -> T:  # fmt: skip
        """Call `look` with an empty page; with `user` there is a session, made once by the form."""
        if user and user not in self._sessions:
            await self._log_in(user)
        options.setdefault("viewport", {"width": width, "height": HEIGHT})
        options |= {"color_scheme": theme, "reduced_motion": "reduce"}
        if user:
            options["storage_state"] = self._sessions[user]
        label = f"{width}-{theme}"
        return await self.browser.visit(
            lambda page: look(Seen(page, self.origin, label)), **options
        )

    async def _log_in(self, user: str) -> None:
        def look(page: Page) -> Any:
            Seen(page, self.origin, "").login(user)
            return page.context.storage_state()

        self._sessions[user] = await self.browser.visit(look)


@contextlib.asynccontextmanager
async def portal(base: Path, *, echo: bool = True, **settings: Any) -> AsyncIterator[Portal]:
    """Run a gateway with the users of `portal_client`, and a browser.

    With `echo` it serves the sample API, with an echo backend. Settings as in gateway.toml.
    """
    settings.setdefault("admin_settings", {"users": USERS})
    async with trio.open_nursery() as nursery:
        if echo:
            folder = base / "apis" / ECHO.name
            shutil.copytree(ECHO, folder, dirs_exist_ok=True)
            text = (folder / "api.yaml").read_text()
            assert SAMPLE_BACKEND in text
            backend = await start_echo(nursery)
            (folder / "api.yaml").write_text(text.replace(SAMPLE_BACKEND, backend.url))
        gateway = await start_gateway(nursery, base, admin=True, **settings)
        with Browser() as browser:
            yield Portal(gateway, browser)
        nursery.cancel_scope.cancel()
