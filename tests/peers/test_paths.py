"""Servers of other people behind the gateway: each is asked for exactly the path it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.trio.client import connect

from support import servers
from support.commands import port_of, start
from support.gateway import start_gateway
from support.projects import api, asyncapi, write
from support.running import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

OPEN = {"publish": {}, "x-auth-type": "None"}


@pytest.fixture(params=servers.SERVERS)
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Run a server of each kind; gives its URL without a path."""
    async with running(request.param) as url:
        yield url


def mapped(target: str) -> dict[str, Any]:
    """Describe an open channel with this mapping."""
    return {"publish": {"x-uri-mapping": target}, "x-auth-type": "None"}


async def test_the_backend_is_asked_for_the_path_that_is_written(
    nursery: trio.Nursery, base: Path, peer: str
) -> None:
    """An endpoint without a mapping, one with a slash at its end, mappings, a path passed on."""
    projects: dict[str, tuple[str, dict[str, Any]]] = {
        "exact": (f"{peer}/graphql", {"/*": OPEN}),
        "slash": (f"{peer}/socket.io/?EIO=4", {"/a": OPEN}),
        "root": (peer, {"/a": OPEN}),
        "mapped": (
            peer,
            {
                "/io": mapped("/socket.io/?EIO=4&transport=websocket"),
                "/stomp": mapped("stomp"),
                "/gone": mapped("/graphql/"),
            },
        ),
        "below": (f"{peer}/", {"/io": mapped("/socket.io/")}),
        "passed": (peer, {"/*": {**OPEN, "x-trio-gw-pass-path": True}}),
    }
    for name, (url, channels) in projects.items():
        write(base / "apis", name, api(name, f"/{name}", url), asyncapi(channels))
    gateway = await start_gateway(nursery, base)
    for path, asked in {
        "/exact/1.0.0/any/thing": "/graphql",
        "/exact/1.0.0/?a=1": "/graphql?a=1",
        "/slash/1.0.0/a": "/socket.io/?EIO=4",
        "/root/1.0.0/a": "/",
        "/mapped/1.0.0/io": "/socket.io/?EIO=4&transport=websocket",
        "/mapped/1.0.0/stomp": "/stomp",
        "/below/1.0.0/io": "/socket.io/",
        "/passed/1.0.0/socket.io/?EIO=4": "/socket.io/?EIO=4",
        "/passed/1.0.0/stomp/a/b": "/stomp/a/b",
        "/passed/1.0.0": "/",
    }.items():
        async with gateway.connect(path) as client:
            assert await client.recv() == asked
            await client.send(path)
            assert await client.recv() == path
    with pytest.raises(InvalidStatus):  # as written, though nobody serves that
        async with gateway.connect("/mapped/1.0.0/gone"):
            pytest.fail("`/graphql/` is another path than `/graphql`")


async def test_to_reaches_exactly_the_url_and_what_is_below_it(tmp_path: Path) -> None:
    async with running("aiohttp") as url:
        serving = await start(tmp_path, "run", "--to", f"{url}/stomp")
        try:
            said = await serving.read_until("out", "wscat")
            assert f"/ reaches exactly {url}/stomp; further paths are appended" in said
            port = port_of(await serving.read_until("err", "listening on https://127"))
            for path, asked in (("", "/stomp"), ("/", "/stomp"), ("/a/b?x=1", "/stomp/a/b?x=1")):
                async with connect(f"ws://localhost:{port}{path}", proxy=None) as client:
                    assert await client.recv() == asked
            for climbing in ("/a/%252e%252e/%252e%252e/graphql", "/a/..%253b/x"):
                with pytest.raises(InvalidStatus) as refused:
                    async with connect(f"ws://localhost:{port}{climbing}", proxy=None):
                        pytest.fail("the backend was asked for a path above its URL")
                assert refused.value.response.status_code == 400
        finally:
            serving.process.terminate()
            await serving.process.wait()


@pytest.mark.parametrize(
    ("setting", "key", "status"),
    [(False, None, 403), (True, None, 101), (False, True, 101), (True, False, 403)],
)
async def test_tornado_compares_the_origin_with_the_host(
    nursery: trio.Nursery, base: Path, *, setting: bool, key: bool | None, status: int
) -> None:
    """Its default `check_origin`; the key of an API goes before the setting."""
    async with running("tornado") as url:
        definition = asyncapi({"/t": OPEN})
        if key is not None:
            definition["x-trio-gw-preserve-host"] = key
        write(base / "apis", "t", api("T", "/t", f"{url}/graphql"), definition)
        gateway = await start_gateway(nursery, base, preserve_host=setting)
        origin = f"Origin: http://localhost:{gateway.port}\r\n".encode()
        stream = await gateway.open()
        await stream.send_all(gateway.handshake("/t/1.0.0/t", extra=origin))
        assert int((await stream.receive_some())[9:12]) == status
        # Another page stays refused, whatever its server says of the host.
        lie = b"Origin: http://evil.example\r\nX-Forwarded-Host: evil.example\r\n"
        stream = await gateway.open()
        await stream.send_all(gateway.handshake("/t/1.0.0/t", extra=lie))
        assert int((await stream.receive_some())[9:12]) == 403
