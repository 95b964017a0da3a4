"""Attacks on the sessions of the portal, by web pages of others and by those who see a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.adminapi import BASE, AdminClient
from support.gateway import start_gateway
from support.portal_client import PASSWORDS, USERS, portal_client, title
from support.secrets import secret
from trio_gw.portal.login import HOME, own_page

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from support.gateway import RunningGateway

HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
}


@pytest.fixture
async def gateway(nursery: trio.Nursery, tmp_path: Path) -> RunningGateway:
    return await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})


async def test_every_answer_has_the_headers(gateway: RunningGateway) -> None:
    async with portal_client(gateway, "con") as browser:
        page = await browser.get("/")
        (style, *_) = [line for line in page.text.split('"') if line.endswith("/base.css")]
        answers = [
            page,
            await browser.http.get(style),
            await browser.get("/login"),
            await browser.get("/nowhere"),
            await browser.get("/api/nowhere"),
            await browser.get("/api/session"),
            await browser.http.get("/portal"),
            await browser.http.put("/portal/login"),
            await browser.get("/login", Host="evil.example"),
            await browser.send("POST", "/logout", headers={"Origin": "null"}),
        ]
    assert [one.status_code for one in answers] == [
        *(200, 200, 303, 404, 404, 200, 303, 405, 421, 403)
    ]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, answer.url
        policy = answer.headers["content-security-policy"]
        for part in (
            *("default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'"),
            *("frame-ancestors 'none'", "form-action 'self'", "trusted-types 'none'"),
        ):
            assert part in policy.split("; "), answer.url
        assert "unsafe" not in policy
        assert "camera=()" in answer.headers["permissions-policy"]
        cached = "immutable" in answer.headers["cache-control"]
        assert cached == (answer is answers[1])
        assert cached or answer.headers["cache-control"] == "no-store"
    assert f"ws://localhost:{gateway.port}" in answers[0].headers["content-security-policy"]


async def test_a_page_of_others_can_do_nothing(gateway: RunningGateway) -> None:
    own = f"https://localhost:{gateway.admin_port}"
    foreign = (
        "",
        "null",
        "https://evil.example",
        f"http://localhost:{gateway.admin_port}",
        f"https://localhost:{gateway.port}",  # the same site
        f"https://localhost:{gateway.admin_port}.evil.example",
        f"{own}, {own}",
    )
    async with portal_client(gateway, "ada") as browser:
        for origin in foreign:
            login = {"user": "con", "password": PASSWORDS["con"]}
            for path, fields in (("/login", login), ("/logout", {})):
                answer = await browser.submit(path, fields, Origin=origin)
                assert answer.status_code == 403, (origin, path)
                assert "set-cookie" not in answer.headers
        # Our own origin, but a browser says that the page is another one.
        for site in ("cross-site", "same-site", "other"):
            fetched = {"Sec-Fetch-Site": site}
            answer = await browser.submit("/logout", {}, **fetched)
            assert answer.status_code == 403
            answer = await browser.get("/api/session", **fetched)
            assert answer.status_code == 403
            assert "ada" not in answer.text
        assert (await browser.get("/api/session")).json()["user"] == "ada"


async def test_a_known_cookie_is_not_taken_for_a_new_session(gateway: RunningGateway) -> None:
    async with portal_client(gateway, "con") as victim, portal_client(gateway, "con") as thief:
        known = thief.cookie
        victim.http.cookies.clear()
        name = f"__Host-trio-gw-{gateway.admin_port}"
        victim.http.cookies.set(name, known, domain="localhost.local")
        answer = await victim.login("ada")
        assert answer.status_code == 303
        made = secret(answer.headers["set-cookie"].partition("=")[2].partition(";")[0])
        assert made != known
        # The session that was known before the login is over.
        assert (await thief.get("/api/session")).status_code == 401


async def test_tokens_of_the_admin_api_and_sessions_are_not_the_same(
    gateway: RunningGateway,
) -> None:
    client = AdminClient(gateway)
    assert (await client.login("ada", PASSWORDS["ada"])).status == 200
    async with portal_client(gateway, "ada") as browser:
        session = browser.cookie
        for token in (session, gateway.token()):
            answer = await client.ask(
                "GET", f"{BASE}/apis", {"Authorization": f"Bearer {secret(token)}"}
            )
            assert answer.status == 401
        browser.http.cookies.clear()
        for headers in (
            {"Authorization": f"Bearer {client.token}"},
            {"Authorization": f"Bearer {session}"},
            {"Cookie": f"__Host-trio-gw-{gateway.admin_port}={client.token}"},
            {"Cookie": f"trio-gw-{gateway.admin_port}={session}"},
            {"Cookie": f"__Host-trio-gw-1={session}"},
        ):
            assert (await browser.get("/api/session", **headers)).status_code == 401
        # Only the right name counts.
        headers = {"Cookie": f"__Host-trio-gw-{gateway.admin_port}={session}"}
        assert (await browser.get("/api/session", **headers)).status_code == 200


async def test_a_logged_out_session_is_over(gateway: RunningGateway) -> None:
    async with portal_client(gateway, "ada") as browser, portal_client(gateway, "ada") as other:
        stolen = {"Cookie": f"__Host-trio-gw-{gateway.admin_port}={browser.cookie}"}
        answer = await browser.submit("/logout", {})
        assert (answer.status_code, answer.headers["location"]) == (303, "/portal/login")
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert (await browser.get("/api/session", **stolen)).status_code == 401
        assert (await other.get("/api/session")).status_code == 200


async def test_guesses_are_slowed_down_and_say_nothing(gateway: RunningGateway) -> None:
    async with portal_client(gateway) as browser:
        pages = []
        for user in ("ada", "nobody", "x" * 300, "ada\0", "é", "bob"):
            answer = await browser.login(user, "canary-Ahph4")
            assert answer.status_code == 401, user
            assert "set-cookie" not in answer.headers
            assert "canary-Ahph4" not in answer.text
            pages.append(answer.text.replace(f'value="{user[:256]}"', 'value="ada"'))
        assert pages[0] == pages[1]
        answer = await browser.login("ada", "canary-Ahph4")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert title(answer) == "Log in · trio-gw"
        wrong = {"user": "ada", "password": secret("canary-Ahph4")}
        answer = await browser.submit("/login", wrong, Accept="application/json")
        assert (answer.status_code, answer.json()["code"]) == (429, 429)
        answer = await browser.submit("/login", {"user": "x" * 5000})
        assert answer.status_code == 413


@pytest.mark.parametrize(
    "text",
    [
        *("", "https://evil.example/", "//evil.example", "/\\evil.example", "/portal"),
        *("/portal//evil.example", "/portal/\\evil", "/portal/../admin/apis", "javascript:x"),
        *("/portal/%2e%2e/admin", "/portal/a\r\nX: y", "/portal/login?next=/portal/login"),
        *("/portal/api/session", " /portal/", "/portal/é", "/portalx/"),
    ],
)
def test_a_login_leads_nowhere_else(text: str) -> None:
    assert own_page(text) == HOME


def test_a_login_leads_to_the_page_that_was_asked_for() -> None:
    for text in ("/portal/apis/Echo:1.0.0?host=a", "/portal/?q=%20x", "/portal/new#x"):
        assert own_page(text) == text


async def test_foreign_host_names_are_refused(gateway: RunningGateway) -> None:
    async with portal_client(gateway, "ada") as browser:
        for host in ("evil.example", "gateway", "10.1.2.3", "[2001:db8::1]", "", "a b", "0.0.0.0"):
            answer = await browser.get("/", Host=host)
            assert answer.status_code in (400, 421), host
            assert "Echo" not in answer.text
        browser.http.cookies.clear()
        for host in ("localhost", "127.0.0.1", "[::1]:1", "LocalHost:9843"):
            assert (await browser.get("/login", Host=host)).status_code == 200, host


async def test_a_link_from_another_site_leads_to_the_page(gateway: RunningGateway) -> None:
    """With such a link a browser sends no cookie, so the page asks again for itself."""
    async with portal_client(gateway) as browser:
        answer = await browser.get("/?q=x", **{"Sec-Fetch-Site": "cross-site"})
        assert (answer.status_code, answer.headers["refresh"]) == (200, "0; url=/portal/?q=x")
        answer = await browser.get("/?q=x", **{"Sec-Fetch-Site": "same-origin"})
        assert answer.headers["location"] == "/portal/login?next=/portal/%3Fq%3Dx"
