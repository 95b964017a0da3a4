"""What happens to a connection while it is open: its token expires or is revoked, its API goes.

And who is not let in to begin with: pages of foreign origins.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed

from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.trio.client import ClientConnection

pytestmark = pytest.mark.both_forms

PATH = "/e/1.0.0/t"
SECURED: dict[str, Any] = {"publish": {}}
HINT = "Make sure you have provided the correct security credentials"


async def before_echo(
    nursery: trio.Nursery, base: Path, settings: dict[str, Any] | None = None, **data: Any
) -> RunningGateway:
    backend = await start_echo(nursery)
    write(base / "apis", "e", api("E", "/e", backend.url, **data), asyncapi({"/t": SECURED}))
    return await start_gateway(nursery, base, **(settings or {}))


def token(gateway: RunningGateway, seconds: float = 3600, user: str = "admin") -> str:
    """Mint a token that expires this many seconds from now."""
    assert gateway.running.testkeys is not None
    return gateway.running.testkeys.mint(user, None, time.time() - 3600 + seconds)


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Wait for the connection's end; returns code and reason."""
    with trio.fail_after(10), pytest.raises(ConnectionClosed) as caught:
        await client.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


@pytest.mark.parametrize("tls", [False, True])
async def test_expiry_ends_the_connection_within_a_second(
    nursery: trio.Nursery, base: Path, tls: bool
) -> None:
    gateway = await before_echo(nursery, base)
    expiry = int(time.time()) + 3
    async with gateway.connect(PATH, token(gateway, expiry - time.time() + 0.5), tls=tls) as client:
        await client.send("before")
        assert await client.recv() == "before"
        assert await closed(client) == (1008, "token expired")
        assert -0.1 < time.time() - expiry < 1.5


async def test_expiry_can_be_ignored(nursery: trio.Nursery, base: Path) -> None:
    gateway = await before_echo(nursery, base, {"on_token_expiry": "ignore"})
    short, long = token(gateway, 2), token(gateway)
    async with gateway.connect(PATH, short) as client, gateway.connect(PATH, long) as other:
        # The sweeper would have ended the first by the time an idle second has been seen.
        deadline = time.time() + 4
        while time.time() < deadline:
            await other.send("tick")
            assert await other.recv() == "tick"
        await client.send("still here")
        assert await client.recv() == "still here"


async def test_revocation_ends_the_connection_and_refuses_the_next(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway = await before_echo(nursery, base)
    revoked, kept = token(gateway), token(gateway)
    claims = json.loads(_payload(revoked))
    async with gateway.connect(PATH, revoked) as client, gateway.connect(PATH, kept) as other:
        (base / "certs" / "revoked.txt").write_text(f"{claims['jti']}\n")
        start = time.monotonic()
        assert await closed(client) == (1008, "token revoked")
        assert time.monotonic() - start < 1.5
        answer = await gateway.ask(gateway.handshake(PATH, revoked))  # row D, also when cached
        assert (answer.status, answer.json()) == (
            401,
            {
                "error_message": "Invalid Credentials",
                "code": "900901",
                "error_description": f"Invalid JWT token. {HINT}",
            },
        )
        assert "www-authenticate" in answer.headers
        await other.send("others do not notice")
        assert await other.recv() == "others do not notice"


async def test_a_subject_can_be_revoked(nursery: trio.Nursery, base: Path) -> None:
    (base / "certs" / "revoked.txt").write_text("subject=mallory\n")
    gateway = await before_echo(nursery, base)
    answer = await gateway.ask(gateway.handshake(PATH, token(gateway, user="mallory")))
    assert answer.status == 401
    async with gateway.connect(PATH, token(gateway)) as client:
        await client.send("x")
        assert await client.recv() == "x"


def _payload(text: str) -> bytes:
    part = text.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_connections_outlive_their_api_unless_evicted(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway = await before_echo(nursery, base)
    async with gateway.connect(PATH, token(gateway)) as client:
        shutil.rmtree(gateway.apis / "e")
        with trio.fail_after(5):
            while gateway.running.live.table.match("localhost", PATH) is not None:
                await gateway.running.live.wait_changed()
        await client.send("still here")
        assert await client.recv() == "still here"


async def test_eviction(nursery: trio.Nursery, base: Path) -> None:
    gateway = await before_echo(nursery, base, {"evict": True})
    async with gateway.connect(PATH, token(gateway)) as client:
        shutil.rmtree(gateway.apis / "e")
        assert await closed(client) == (1001, "API was undeployed")


FORBIDDEN = {
    "code": "403",
    "message": "Forbidden",
    "description": "Web pages of this origin may not use the API.",
}
OWN = {
    "corsConfigurationEnabled": True,
    "accessControlAllowOrigins": ["https://app.example", "https://*.team.example"],
    "accessControlAllowCredentials": True,
}


async def origin(gateway: RunningGateway, text: str) -> tuple[int, Any]:
    """Ask for an upgrade as a page of this origin; 401 without a token means: let in so far."""
    head = gateway.handshake(PATH, extra=f"Origin: {text}\r\n".encode())
    answer = await gateway.ask(head)
    return answer.status, answer.json()


async def test_foreign_pages_are_refused(nursery: trio.Nursery, base: Path) -> None:
    gateway = await before_echo(nursery, base, {"cors": {"allow_origins": ["https://app.example"]}})
    assert (await origin(gateway, "https://app.example"))[0] == 401
    for text in ("https://evil.example", "https://app.example.evil", "null", "http://app.example"):
        assert await origin(gateway, text) == (403, FORBIDDEN)
    assert (await gateway.ask(gateway.handshake(PATH))).status == 401  # no page: no origin


async def test_any_page_by_default(nursery: trio.Nursery, base: Path) -> None:
    gateway = await before_echo(nursery, base)
    assert (await origin(gateway, "https://evil.example"))[0] == 401


async def test_an_api_has_a_list_of_its_own(nursery: trio.Nursery, base: Path) -> None:
    gateway = await before_echo(
        nursery, base, {"cors": {"allow_origins": ["https://other"]}}, corsConfiguration=OWN
    )
    for text in ("https://app.example", "https://a.team.example"):
        assert (await origin(gateway, text))[0] == 401
    for text in ("https://other", "https://team.example"):
        assert await origin(gateway, text) == (403, FORBIDDEN)
    answer = await gateway.get(
        PATH,
        method="OPTIONS",
        headers=b"Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n",
    )
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
