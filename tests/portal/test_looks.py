"""Every page of the route table: two widths, two themes, axe-core, and without scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from support.portal import ECHO, Seen, portal
from support.portal_client import portal_client
from trio_gw.portal.app import all_routes
from trio_gw.portal.routes import Kind, Role

if TYPE_CHECKING:
    from pathlib import Path

    from support.portal import Portal

# Pages that answer with a file or go elsewhere: they have no look of their own.
ELSEWHERE = frozenset(("/zip", "/raw"))
# Pages that have something to show without scripts.
WITHOUT_SCRIPTS = ("/", "/apis/{id}", "/apis/{id}/topics", "/apis/{id}/topics/{n}",
                   "/apis/{id}/document")  # fmt: skip


def page_paths() -> list[str]:
    """List the pages of the route table."""
    return sorted(
        route.path
        for route in all_routes()
        if route.kind is Kind.PAGE and route.method == "GET" and not ends_elsewhere(route.path)
    )


def ends_elsewhere(path: str) -> bool:
    """Return whether a path answers with a file."""
    return path.endswith(tuple(ELSEWHERE))


async def values_of(running: Portal) -> dict[str, str]:
    """Return a value for each parameter of a path: the sample API is deployed, with a revision."""
    async with portal_client(running.gateway, "ada") as client:
        files = {
            path.relative_to(ECHO).as_posix(): path.read_text()
            for path in ECHO.rglob("*")
            if path.is_file()
        }
        answer = await client.send("POST", "/api/deployments", {"files": files, "override": True})
        assert answer.status_code == 200, answer.text
        values = {"id": answer.json()["id"], "n": "1"}
        if "/new/edit" in page_paths():
            answer = await client.send("PUT", "/api/drafts/new", {"files": files})
            assert answer.status_code == 200, answer.text
        body = {"name": "Looks", "description": "An application to look at", "tier": "Unlimited"}
        answer = await client.send("POST", "/api/applications", body)
        if answer.status_code == 201:
            values["uuid"] = answer.json()["uuid"]
    return values


def filled(path: str, values: dict[str, str]) -> str:
    """Fill in the parameters of a path. A parameter without a value here fails."""
    return re.sub(r"\{(\w+)(?::path)?\}", lambda found: values[found[1]], path)


async def test_every_page_is_accessible_and_fits(tmp_path: Path) -> None:
    def look(seen: Seen) -> list[str]:
        faults = []
        for path, target in targets.items():
            seen.open(target)
            seen.page.locator("h1").wait_for()  # exactly one
            faults += seen.look_around(path.strip("/").replace("/", "-") or "catalogue")
        return faults

    async with portal(tmp_path, evict=True) as running:
        values = await values_of(running)
        targets = {path: filled(path, values) for path in page_paths() if path != "/login"}
        faults = await running.visit(look, user="ada")
        targets = {"/login": "/login"}
        faults += await running.visit(look)
    assert not faults, "\n".join(faults)


async def test_what_is_read_needs_no_script(tmp_path: Path) -> None:
    def look(seen: Seen) -> None:
        seen.login("con")
        for path in WITHOUT_SCRIPTS:
            if path in known:
                seen.open(filled(path, values))
                assert "Echo" in seen.page.inner_text("main"), path
        seen.page.locator("details.menu > summary").click()
        seen.page.get_by_role("button", name="Log out").click()
        seen.page.wait_for_url("**/portal/login*")

    known = page_paths()
    async with portal(tmp_path) as running:
        values = await values_of(running)
        await running.visit(look, java_script_enabled=False)


def test_every_page_has_a_role() -> None:
    open_pages = {route.path for route in all_routes() if route.role is Role.NOBODY}
    assert {path for path in open_pages if not path.startswith("/static/")} <= {"/login", "/logout"}
