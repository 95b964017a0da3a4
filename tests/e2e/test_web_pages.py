"""Web pages as attackers: what a browser sends for them to the admin port and to `/testkey`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.adminapi import BASE, BASIC, AdminClient, form, logged_in, packed
from support.backends import start_echo
from support.gateway import Answer, RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from support.uploads import start_taking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from support.browser import Browser


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_taking(nursery, base)


async def ask(
    gateway: RunningGateway, method: str, path: str, *lines: str, host: str = "", body: bytes = b""
) -> Answer:
    """Ask the admin port, with these header lines as they are; `host` replaces the right one."""
    host = host or f"localhost:{gateway.admin_port}"
    fields = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: {BASIC}", *lines]
    fields += [f"Content-Length: {len(body)}"] if body else []
    head = "\r\n".join((*fields, "Connection: close", "", "")).encode("latin-1")
    return await gateway.ask(head + body, stream=await AdminClient(gateway).connect())


FOREIGN = [
    ("Sec-Fetch-Site: cross-site",),
    ("Sec-Fetch-Site: same-site",),
    ("Sec-Fetch-Site: SAME-ORIGIN",),
    ("Sec-Fetch-Site:",),
    ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: same-origin"),
    ("Sec-Fetch-Site: same-origin, none",),
    ("Sec-Fetch-Site: same-origin", "Origin: https://evil.example"),
    ("Sec-Fetch-Site: cross-site", "Origin: {own}"),
    ("Origin: https://evil.example",),
    ("Origin: null",),
    ("Origin:",),
    ("Origin: http://localhost:{port}",),
    ("Origin: https://localhost:1",),
    ("Origin: https://localhost",),
    ("Origin: https://127.0.0.1:{port}",),
    ("Origin: {own}/",),
    ("Origin: {own}.evil.example",),
    ("Origin: {own}", "Origin: {own}"),
    ("Origin: {own}, https://evil.example",),
    ("oRiGiN:  https://evil.example",),
]
WAYS = [
    ("POST", f"{BASE}/apis"),
    ("POST", f"//{BASE}/apis/"),
    ("DELETE", f"{BASE}/apis?apiName=Chat&version=1.0.0"),
    ("DELETE", "/admin/connections/1"),
    ("POST", f"{BASE}/oauth2/token"),
    ("PUT", "/whatever/comes/later"),
    ("PATCH", "/"),
    ("TRACE", "/swagger.json"),
    ("PROPFIND", "/admin/apis"),
]


async def test_foreign_pages_change_nothing(gateway: RunningGateway) -> None:
    port = gateway.admin_port
    for lines in FOREIGN:
        written = [line.format(own=f"https://localhost:{port}", port=port) for line in lines]
        answer = await ask(gateway, *WAYS[0], *written)
        assert (answer.status, answer.json()["code"]) == (403, 403), written
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    for method, path in WAYS:
        answer = await ask(gateway, method, path, "Sec-Fetch-Site: cross-site")
        assert answer.status == 403, (method, path)
        # No browser: what it would be anyway.
        assert (await ask(gateway, method, path)).status not in (403, 421), (method, path)


async def test_a_form_deploys_only_from_an_own_page(gateway: RunningGateway) -> None:
    port = gateway.admin_port
    body, kind = form(packed(gateway.base / "aside" / "chat", "chat"))
    path, kind = f"{BASE}/apis?override=true", f"Content-Type: {kind}"
    foreign = ("Origin: http://evil.example", "Sec-Fetch-Site: cross-site")
    assert (await ask(gateway, "POST", path, kind, *foreign, body=body)).status == 403
    assert (await (await logged_in(gateway)).list()).body == b'{"list":null}'
    for own in (
        ("Sec-Fetch-Site: same-origin", f"Origin: https://localhost:{port}"),
        ("Sec-Fetch-Site: none",),
        (),
    ):
        assert (await ask(gateway, "POST", path, kind, *own, body=body)).status == 200, own
    # As behind a port that is forwarded: the browser knows no other.
    answer = await ask(
        gateway, "POST", path, kind, "Origin: https://[::1]:443x", host="[::1]:443", body=body
    )
    assert answer.status == 403
    answer = await ask(
        gateway, "POST", path, kind, "Origin: https://[::1]", host="[::1]", body=body
    )
    assert answer.status == 200


async def test_what_changes_nothing_is_read_but_not_by_pages(gateway: RunningGateway) -> None:
    for path in ("/swagger.json", f"{BASE}/docs", "/admin/apis", f"{BASE}/apis", "/nowhere"):
        for method in ("GET", "OPTIONS"):
            lines = ("Sec-Fetch-Site: cross-site", "Origin: https://evil.example")
            preflight = ("Access-Control-Request-Method: POST",) if method == "OPTIONS" else ()
            answer = await ask(gateway, method, path, *lines, *preflight)
            assert answer.status in ((200, 404) if method == "GET" else (404, 405))
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_only_own_names_are_answered(nursery: trio.Nursery, base: Path) -> None:
    pair = {
        "cert": "certs/mg.pem",
        "key": "certs/mg.key",
        "hosts": ["one.example", "*.two.example"],
    }
    gateway = await start_gateway(
        nursery,
        base,
        admin=True,
        admin_settings={"hosts": ["gw.example", "*.wild.example"]},
        tls={"certificates": [pair]},
    )
    own = (
        *("localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "192.0.2.1", "[2001:db8::1]"),
        *("gw.example", "GW.example.", "a.wild.example", "one.example", "x.two.example"),
        trio.socket.gethostname(),
    )
    for name in own:
        for host in (name, f"{name}:9843"):
            assert (await ask(gateway, "GET", "/swagger.json", host=host)).status == 200, host
    for name in ("evil.example", "a.b.wild.example", "wild.example", "localhost.evil.example"):
        for method in ("GET", "POST", "OPTIONS"):
            answer = await ask(gateway, method, "/swagger.json", host=f"{name}:9843")
            assert answer.status == 421, name
            assert answer.raw.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
            assert "admin.hosts" in answer.json()["message"]
    for host in ("gw.example@evil.example", "evil.example:9843#gw.example", "[::1].evil.example"):
        assert (await ask(gateway, "GET", "/swagger.json", host=host)).status in (400, 421), host


# -- /testkey, metrics ---------------------------------------------------------------------------


async def key(gateway: RunningGateway, *lines: str, method: str = "POST", **more: Any) -> int:
    pair = base64.b64encode(b"admin:admin").decode()
    host = f"localhost:{gateway.tls_port if more.get('tls') else gateway.port}"
    fields = (f"{method} /testkey HTTP/1.1", f"Host: {host}", f"Authorization: Basic {pair}")
    head = "\r\n".join((*fields, *lines, "", "")).encode()
    return (await gateway.ask(head, **more)).status


async def test_test_keys_are_not_for_foreign_pages(nursery: trio.Nursery, base: Path) -> None:
    listed = {"allow_origins": ["*", "https://app.example", "https://*.apps.example"]}
    gateway = await start_gateway(nursery, base, cors=listed)
    for lines in FOREIGN:
        port = gateway.port
        written = [line.format(own=f"http://localhost:{port}", port=1) for line in lines]
        for method in ("POST", "GET"):
            assert await key(gateway, *written, method=method) == 403, written
    for tls, scheme, port in ((False, "http", gateway.port), (True, "https", gateway.tls_port)):
        site = "Sec-Fetch-Site: same-origin"
        assert await key(gateway, site, f"Origin: {scheme}://localhost:{port}", tls=tls) == 200
        assert await key(gateway, tls=tls) == 200
    site = "Sec-Fetch-Site: cross-site"
    for origin, status in (
        ("https://app.example", 200),
        ("https://x.apps.example", 200),
        ("https://app.example.evil.example", 403),
    ):
        assert await key(gateway, site, f"Origin: {origin}") == status


APP = "https://app.example"
CORS = "access-control-"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_pages_of_named_origins_read_what_they_are_answered(
    nursery: trio.Nursery, base: Path, tls: bool
) -> None:
    listed = {"allow_origins": ["*", "**", APP], "allow_methods": ["GET"], "allow_headers": []}
    gateway = await start_gateway(nursery, base, cors=listed)
    wanted = (
        b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n"
    )
    origin = b"Origin: %s\r\nSec-Fetch-Site: cross-site\r\n" % APP.encode()
    answer = await gateway.get("/testkey", method="OPTIONS", headers=origin + wanted, tls=tls)
    assert answer.status == 204
    assert answer.headers[f"{CORS}allow-origin"] == APP
    assert "POST" in answer.headers[f"{CORS}allow-methods"].split(", ")
    assert "authorization" in answer.headers[f"{CORS}allow-headers"].split(", ")
    assert answer.headers["vary"] == "origin"
    right = b"Authorization: Basic YWRtaW46YWRtaW4=\r\n"
    for lines, body, status in (
        (right, b"", 200),
        (b"", b"", 401),
        (b"Authorization: Basic YWRtaW46d3Jvbmc=\r\n", b"", 401),
        (b"Authorization: Basic !\r\n", b"", 400),
        (right * 2, b"", 400),
        (right, b"x" * 20_000, 413),
    ):
        answer = await gateway.get(
            "/testkey", method="POST", headers=origin + lines, body=body, tls=tls
        )
        assert answer.status == status
        assert answer.headers[f"{CORS}allow-origin"] == APP, status
    other = origin.replace(b"app.", b"evil.")
    for method, lines in (("OPTIONS", wanted), ("POST", right)):
        answer = await gateway.get("/testkey", method=method, headers=other + lines, tls=tls)
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith(CORS)]
    # Without an origin it is no preflight; and a plain OPTIONS asks for a key, as every method.
    for lines, status in ((wanted, 401), (wanted + right, 200), (origin + right, 200)):
        answer = await gateway.get("/testkey", method="OPTIONS", headers=lines, tls=tls)
        assert answer.status == status


async def test_pages_are_not_named_by_settings_that_are_off(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway = await start_gateway(nursery, base, cors={"enabled": False, "allow_origins": [APP]})
    assert await key(gateway, f"Origin: {APP}", "Access-Control-Request-Method: POST") == 403


async def test_metrics_on_loopback_are_not_for_other_names(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway = await start_gateway(nursery, base, metrics={"listen": "localhost:0"})
    for host, status in (("localhost:9", 200), ("127.0.0.1", 200), ("evil.example", 421)):
        stream = await trio.open_tcp_stream("127.0.0.1", gateway.metrics_port)
        request = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        answer = await gateway.ask(request, stream=stream)
        assert answer.status == status, host


# -- a browser -----------------------------------------------------------------------------------


async def start_page(
    nursery: trio.Nursery, serve: Callable[[trio.SocketStream], Awaitable[None]]
) -> str:
    """Serve a page; returns its URL."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    return f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"


ATTACK = """<!doctype html>
<form method=post enctype=multipart/form-data action="{action}"><input type=file name=file></form>
<script>
const octets = Uint8Array.from(atob("{zip}"), c => c.charCodeAt(0));
const chosen = new DataTransfer();
chosen.items.add(new File([octets], "chat.zip", {{type: "application/zip"}}));
document.querySelector("input").files = chosen.files;
</script>"""


async def test_a_page_cannot_deploy_with_cached_credentials(
    nursery: trio.Nursery, base: Path, gateway: RunningGateway, browser: Browser
) -> None:
    admin = f"localhost:{gateway.admin_port}"
    zipped = base64.b64encode(packed(base / "aside" / "chat", "chat")).decode()
    action = f"https://{admin}{BASE}/apis?override=true"
    page = ATTACK.format(action=action, zip=zipped).encode()

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            kind = b"Content-Type: text/html\r\nContent-Length: %d\r\n" % len(page)
            await stream.send_all(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n" + page)

    other = await start_page(nursery, serve)

    def attack(page: Page) -> tuple[int, int, dict[str, str]]:
        seen = page.goto(f"https://admin:admin@{admin}{BASE}/apis")
        page.goto(other)
        with page.expect_navigation() as navigated:
            page.evaluate("document.forms[0].submit()")
        answer = navigated.value
        assert seen is not None
        assert answer is not None
        return seen.status, answer.status, answer.request.all_headers()

    allowed, status, sent = await browser.visit(attack)
    assert allowed == 200
    # The browser did send the password, for the other page.
    assert sent["authorization"] == BASIC
    assert sent["sec-fetch-site"] == "cross-site"
    assert status == 403
    assert (await (await logged_in(gateway)).list()).body == b'{"list":null}'


async def test_a_page_cannot_read_what_runs(
    nursery: trio.Nursery, gateway: RunningGateway, browser: Browser
) -> None:
    admin = f"https://localhost:{gateway.admin_port}"
    script = """async url => {
        const asked = async options => {
            try { return (await fetch(url, options)).status } catch { return "refused" }
        };
        return [
            await asked({credentials: "include"}),
            await asked({mode: "no-cors", credentials: "include"}),
            await asked({method: "DELETE", credentials: "include"}),
            await asked({headers: {Authorization: "Basic YWRtaW46YWRtaW4="}}),
        ];
    }"""

    def attack(page: Page) -> tuple[Any, Any]:
        page.goto(f"https://admin:admin@localhost:{gateway.admin_port}/admin/apis")
        own = page.evaluate(script, f"{admin}/admin/apis")
        page.goto(f"https://127.0.0.1:{gateway.admin_port}/swagger.json")
        return own, page.evaluate(script, f"{admin}/admin/apis")

    own, foreign = await browser.visit(attack)
    assert own == [200, 200, 405, 200]
    assert foreign == ["refused"] * 4


CONSOLE = """async ([keys, topic]) => {
    const body = new URLSearchParams({scope: "chat:write"});
    const headers = {Authorization: "Basic " + btoa("admin:admin")};
    let answer;
    try { answer = await fetch(keys, {method: "POST", headers, body}) } catch { return "refused" }
    const token = await answer.text();
    return await new Promise(resolve => {
        const socket = new WebSocket(topic, ["bearer", token]);
        socket.onopen = () => socket.send("hello");
        socket.onmessage = event => { resolve(event.data); socket.close() };
        socket.onerror = () => resolve("no topic");
    });
}"""


async def test_a_page_of_a_named_origin_gets_a_token_and_opens_a_topic(
    nursery: trio.Nursery, base: Path, browser: Browser
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    named, other = await start_page(nursery, serve), await start_page(nursery, serve)
    backend = await start_echo(nursery)
    scopes = {"/room": {"publish": {"x-scopes": ["chat:write"]}}}
    write(base / "apis", "b", api("B", "/b", backend.url), asyncapi(scopes))
    # Every page may open topics; keys are for one alone.
    listed = {"allow_origins": ["*", named.rstrip("/")]}
    gateway = await start_gateway(nursery, base, cors=listed)

    def ask(page: Page) -> list[Any]:
        said = []
        for origin in (named, other):
            page.goto(origin)
            for scheme, port in (("", gateway.port), ("s", gateway.tls_port)):
                keys = f"http{scheme}://localhost:{port}/testkey"
                topic = f"ws{scheme}://localhost:{port}/b/1.0.0/room"
                said.append(page.evaluate(CONSOLE, [keys, topic]))
        return said

    assert await browser.visit(ask) == ["hello", "hello", "refused", "refused"]
