"""Keys that change while clients arrive: about 200 handshakes a second for a few seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa

from support.backends import read_head, start_raw
from support.gateway import KEY, RunningGateway, start_gateway
from support.issuers import HttpServer, key_set, sign, start_http
from support.projects import api, asyncapi, write
from trio_gw.guard import issuer_keys
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = "https://issuer.example/token"
PATH = "/a/1.0.0/any"
RATE = 200
ANSWER = (
    b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + accept_key(KEY)
    + b"\r\n\r\n"
)


@pytest.fixture(scope="module")
def keys() -> dict[str, rsa.RSAPrivateKey]:
    return {name: rsa.generate_private_key(65537, 2048) for name in ("old", "new")}


async def serve(nursery: trio.Nursery, base: Path, server: HttpServer) -> RunningGateway:
    async def handler(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(ANSWER)
        while await stream.receive_some():
            pass

    backend = await start_raw(nursery, handler)
    write(base / "apis", "a", api("A", "/a", backend.url), asyncapi({"/any": {"publish": {}}}))
    issuers = [{"issuer": ISSUER, "jwks": server.url("/jwks")}]
    return await start_gateway(nursery, base, issuers=issuers)


def token(key: rsa.RSAPrivateKey, kid: str, number: int) -> str:
    claims = {"iss": ISSUER, "sub": "a", "exp": int(time.time()) + 600, "jti": f"{number}"}
    return sign(key, claims, kid=kid)


async def status(gateway: RunningGateway, one: str) -> int:
    """Make one handshake and leave at once."""
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        await stream.send_all(gateway.handshake(PATH, one))
        return int((await read_head(stream)).split(b" ")[1])


async def arrive(gateway: RunningGateway, tokens: list[str]) -> list[int]:
    """Let clients arrive at the rate, whether earlier ones have been answered or not."""
    answers: list[int] = []

    async def one(text: str) -> None:
        answers.append(await status(gateway, text))

    start = trio.current_time()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number, text in enumerate(tokens):
                await trio.sleep_until(start + number / RATE)
                nursery.start_soon(one, text)
    return answers


async def test_a_rotation_under_load_refuses_no_valid_token(
    nursery: trio.Nursery,
    base: Path,
    keys: dict[str, rsa.RSAPrivateKey],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(issuer_keys, "MIN_REFRESH", 0.5)  # a minute would be long for a test
    published = key_set(old=keys["old"])
    server = await start_http(nursery, lambda *_: (200, published))
    server.fields = "cache-control: max-age=1\r\n"
    gateway = await serve(nursery, base, server)
    old = [token(keys["old"], "old", number) for number in range(250)]
    new = [token(keys["new"], "new", number) for number in range(350)]
    assert set(await arrive(gateway, old[:200])) == {101}
    # The issuer publishes its new key and uses it at once; tokens of both are valid.
    published = key_set(old=keys["old"], new=keys["new"])
    mixed = [one for pair in zip(old[200:], new[:50], strict=True) for one in pair]
    assert set(await arrive(gateway, mixed + new[50:150])) == {101}
    # The old key is withdrawn. Clients of the new one never notice.
    published = key_set(new=keys["new"])
    assert set(await arrive(gateway, new[150:])) == {101}
    with trio.fail_after(10):
        while await status(gateway, old[0]) != 401:
            await server.arrived.wait()
    for one in (old[0], old[249], token(keys["old"], "old", 999)):
        assert await status(gateway, one) == 401
    assert await status(gateway, new[0]) == 101


async def test_a_key_server_that_is_down_all_along_changes_nothing_for_known_keys(
    nursery: trio.Nursery, base: Path, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    up = True
    server = await start_http(
        nursery, lambda *_: (200, key_set(old=keys["old"])) if up else (503, b"")
    )
    gateway = await serve(nursery, base, server)
    assert await status(gateway, token(keys["old"], "old", 0)) == 101
    up = False
    known = [token(keys["old"], "old", number) for number in range(1, 401)]
    strange = [token(keys["new"], "new", number) for number in range(100)]
    answers = await arrive(gateway, [*known[:200], *strange, *known[200:]])
    assert answers.count(101) == len(known)
    assert answers.count(401) == len(strange)
    # The unknown id caused one fetch, and what failed is tried again with growing pauses.
    assert len(server.requests) < 10
