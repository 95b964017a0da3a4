"""The reference's WebSocket tests W1 to W13, plain and TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from websockets.exceptions import InvalidStatus

from support.backends import start_mock
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both_forms

M = "a text msg that is sent via a web socket connection"
PING = bytes((8, 1, 8, 1))


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    """All fixture APIs of the reference's tests, before its mock backend."""
    backend = await start_mock(nursery)
    apis, url = base / "apis", f"{backend.url}/v2"
    write(apis, "basic", api("Basic", "/websocket-basic", url), asyncapi({"/*": {"publish": {}}}))
    topics = {
        "/notifications": {"publish": {"x-uri-mapping": "/notifications"}},
        "/noMapping": {"publish": {}},
        "/rooms/{roomID}": {
            "publish": {"x-uri-mapping": "/rooms?room={uri.var.roomID}"},
            "parameters": {"roomID": {"schema": {"type": "string"}}},
        },
    }
    write(apis, "topic", api("Topic", "/websocket-topic", url), asyncapi(topics))
    scoped = {"/*": {"subscribe": {"x-scopes": ["reader"], "x-auth-type": "Any"}}}
    write(apis, "scope", api("Scope", "/websocket-scope", url), asyncapi(scoped))
    disabled = {
        "/security-disabled-via-apim-publisher": {"publish": {}, "x-auth-type": "None"},
        "/security-disabled-via-extension": {"publish": {}, "x-wso2-disable-security": True},
    }
    meta = api("Disabled", "/websocket-security-disabled", url)
    write(apis, "disabled", meta, asyncapi(disabled))
    return await start_gateway(nursery, base)


async def status_of(gateway: RunningGateway, path: str, token: str | None, *, tls: bool) -> int:
    """Return the status of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with gateway.connect(path, token, tls=tls):
            pass
    return refused.value.response.status_code


async def test_w1_ping(gateway: RunningGateway, tls: bool) -> None:
    async with gateway.connect("/websocket-basic/1.0.0", gateway.token(), tls=tls) as client:
        pong = await client.ping(PING, ack_on_close=False)
        with trio.fail_after(5):
            await pong.wait()
    assert client.close_code == 1000


async def test_w2_text(gateway: RunningGateway, tls: bool) -> None:
    async with gateway.connect("/websocket-basic/1.0.0", gateway.token(), tls=tls) as client:
        for _ in range(2):
            await client.send(M)
        assert [await client.recv() for _ in range(2)] == [f"Message received: {M}"] * 2


async def test_w3_version_that_does_not_exist(gateway: RunningGateway, tls: bool) -> None:
    assert await status_of(gateway, "/websocket-basic/2.0.0", gateway.token(), tls=tls) == 404


async def test_w4_without_scope(gateway: RunningGateway, tls: bool) -> None:
    assert await status_of(gateway, "/websocket-scope/1.0.0", gateway.token(), tls=tls) == 403


async def test_w5_token_cut_short(gateway: RunningGateway, tls: bool) -> None:
    token = gateway.token("reader")[:-400]
    assert await status_of(gateway, "/websocket-scope/1.0.0", token, tls=tls) == 401


@pytest.mark.parametrize("scopes", [("reader",), ("reader", "anonymous")], ids=["w6", "w7"])
async def test_w6_w7_with_scope(
    gateway: RunningGateway, tls: bool, scopes: tuple[str, ...]
) -> None:
    token = gateway.token(*scopes)
    async with gateway.connect("/websocket-scope/1.0.0", token, tls=tls) as client:
        pong = await client.ping(PING)
        with trio.fail_after(5):
            await pong.wait()
        await client.send("heyyy")
        assert await client.recv() == "Message received: heyyy"


@pytest.mark.parametrize(
    "topic",
    ["security-disabled-via-apim-publisher", "security-disabled-via-extension"],
    ids=["w8", "w9"],
)
async def test_w8_w9_security_disabled(gateway: RunningGateway, tls: bool, topic: str) -> None:
    path = f"/websocket-security-disabled/1.0.0/{topic}"
    async with gateway.connect(path, tls=tls) as client:
        pong = await client.ping(PING)
        with trio.fail_after(5):
            await pong.wait()


@pytest.mark.parametrize(
    ("topic", "suffix"),
    [
        ("noMapping", ""),
        ("notifications", ":/notifications"),
        ("rooms/room1", ":/rooms?room=room1"),
    ],
    ids=["w10", "w11", "w12"],
)
async def test_w10_to_w12_mapping(
    gateway: RunningGateway, tls: bool, topic: str, suffix: str
) -> None:
    path = f"/websocket-topic/1.0.0/{topic}"
    async with gateway.connect(path, gateway.token(), tls=tls) as client:
        await client.send(M)
        assert await client.recv() == f"Message received: {M}{suffix}"


async def test_w13_idle_timeout(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_mock(nursery)
    meta = api("Timeout", "/websocket-timeout", f"{backend.url}/v2")
    write(base / "apis", "timeout", meta, asyncapi({"/*": {"publish": {}}}))
    gateway = await start_gateway(nursery, base, timeouts={"idle": 1})
    path = "/websocket-timeout/1.0.0"
    async with gateway.connect(path, gateway.token(), ping_interval=None) as client:
        with trio.fail_after(4):
            await client.wait_closed()
    assert (client.close_code, client.close_reason) == (1001, "idle for 1 s")
