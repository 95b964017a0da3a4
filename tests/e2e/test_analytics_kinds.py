"""Every kind of event that a running gateway makes, each judged by its schema in docs/analytics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from support.backends import start_echo, start_raw
from support.gateway import start_gateway
from support.limited import DAY, start_limited
from support.projects import api, asyncapi, write
from support.schemas import validate

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import RunningGateway

OPEN = {"publish": {}, "x-auth-type": "None"}


async def events(gateway: RunningGateway, count: int, of: bytes = b"\n") -> list[Any]:
    """Wait for so many events (or `of` some kind); every one is as its schema has it."""
    path = gateway.base / "a.jsonl"
    with trio.fail_after(10):
        while not path.exists() or path.read_bytes().count(of) < count:
            await trio.testing.wait_all_tasks_blocked(0.01)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for event in found:
        validate(event)
    return found


async def test_every_kind(base: Path, nursery: trio.Nursery) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 418 No\r\ncontent-length: 0\r\n\r\n")

    async def babble(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                              b"sec-websocket-accept: bm8=\r\n\r\n")  # fmt: skip

    async def dream(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    echo = await start_echo(nursery)
    backends = {
        "echo": echo.url,
        "no": (await start_raw(nursery, refuse)).url,
        "babble": (await start_raw(nursery, babble)).url,
        "dream": (await start_raw(nursery, dream)).url,
        "gone": "ws://127.0.0.1:1",
    }
    scoped = {"publish": {"x-scopes": ["some"]}}
    for name, url in backends.items():
        topics = {"/a": OPEN, "/secret": {"publish": {}}, "/scoped": scoped}
        write(base / "apis", name, api(name, f"/{name}", url), asyncapi(topics))
    gateway = await start_gateway(
        nursery, base, timeouts={"handshake": 0.2}, limits={"connections_per_api": 1},
        analytics={"enabled": True, "detail": "frames", "file": "a.jsonl"},
    )  # fmt: skip

    async def ask(path: str, token: str | None = None) -> int:
        return (await gateway.ask(gateway.handshake(path, token))).status

    async with gateway.connect("/echo/1.0.0/a", compression=None) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        assert await ask("/echo/1.0.0/a") == 503
    assert await ask("/echo/1.0.0/secret") == 401
    assert await ask("/echo/1.0.0/scoped", gateway.token()) == 403
    assert (await gateway.get("/echo/1.0.0/a")).status == 426
    assert await ask("/no/1.0.0/a") == 418
    assert await ask("/babble/1.0.0/a") >= 500
    assert await ask("/dream/1.0.0/a") == 504
    assert await ask("/gone/1.0.0/a") == 503
    found = await events(gateway, 12)
    good = [event["apiMethod"] for event in found if event["eventType"] == "response"]
    assert sorted(good) == ["CLOSE", "GET", "HANDSHAKE", "PUBLISH", "SUBSCRIBE"]
    faults = [
        (event["errorType"], event["errorMessage"], event["proxyResponseCode"])
        for event in found
        if event["eventType"] == "fault"
    ]
    assert faults == [
        ("THROTTLED", "HARD_LIMIT_EXCEEDED", 503),
        ("AUTH", "AUTHENTICATION_FAILURE", 401),
        ("AUTH", "AUTHORIZATION_FAILURE", 403),
        ("OTHER", "UNCLASSIFIED", 426),
        ("TARGET_CONNECTIVITY", "OTHER", 502),
        ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 504),
        ("TARGET_CONNECTIVITY", "OTHER", 503),
    ]


async def test_what_needs_tokens_of_another_issuer(base: Path, nursery: trio.Nursery) -> None:
    echo = await start_echo(nursery)
    topics: dict[str, Any] = {"/a": {"publish": {}}}
    write(base / "apis", "other", api("Other", "/other", echo.url), asyncapi(topics))
    world = await start_limited(
        nursery, base, echo.url, {"Few": {"events": 2, **DAY}},
        analytics={"enabled": True, "file": "a.jsonl", "interval": 0.05},
    )  # fmt: skip
    gateway = world.gateway
    answer = await gateway.ask(gateway.handshake("/other/1.0.0/a", world.token()))
    assert (answer.status, answer.json()["code"]) == (403, "900908")
    async with world.connect(token=world.token(application="Few"), compression=None) as client:
        await client.send("1")
        assert await client.recv() == "1"
        await client.send("2")
        # Told while the connection goes on, as totals are.
        found = await events(gateway, 2, b'"fault"')
    assert [event["errorMessage"] for event in found if event["eventType"] == "fault"] == [
        "SUBSCRIPTION_VALIDATION_FAILURE",
        "APPLICATION_LEVEL_LIMIT_EXCEEDED",
    ]
