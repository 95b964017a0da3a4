"""What limits did, as metrics and analytics tell it: by level and action, to the message."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.backends import start_echo
from support.limited import DAY, Limited, start_limited
from support.numbers import samples, total
from support.schemas import validate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both_forms

TIERS = {
    "Api": {"events": 4, **DAY},
    "Topic": {"events": 4, **DAY},
    "Plan": {"events": 4, **DAY},
    "App": {"events": 4, **DAY},
    "Unauthenticated": {"events": 4, **DAY},
    "Wait": {"events": 4, "on_exceed": "pause", **DAY},
    "Close": {"events": 4, "on_exceed": "close", **DAY},
}
CODES = {
    "api": (900800, "API_LEVEL_LIMIT_EXCEEDED"),
    "topic": (900802, "RESOURCE_LEVEL_LIMIT_EXCEEDED"),
    "application": (900803, "APPLICATION_LEVEL_LIMIT_EXCEEDED"),
    "subscription": (900804, "SUBSCRIPTION_LIMIT_EXCEEDED"),
    "address": (900806, "CUSTOM_POLICY_LIMIT_EXCEEDED"),
}


async def left(world: Limited) -> None:
    with trio.fail_after(10):
        while len(world.gateway.running.sessions):
            await trio.testing.wait_all_tasks_blocked(0.005)


async def counted(world: Limited, name: str, count: int) -> bytes:
    """Wait until this metric has grown to so much; returns the exposition."""
    assert world.gateway.running.metrics is not None
    with trio.fail_after(10):
        while total(text := world.gateway.running.metrics.exposition(), name) < count:
            await trio.testing.wait_all_tasks_blocked(0.005)
    return text


async def written(world: Limited, count: int) -> list[Any]:
    """Wait until there are so many fault events; returns them. Every event has its schema."""
    path = world.gateway.base / "a.jsonl"
    with trio.fail_after(10):
        while not path.exists() or path.read_bytes().count(b'"fault"') < count:
            await trio.testing.wait_all_tasks_blocked(0.005)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        validate(event)
    return [event for event in events if event["eventType"] == "fault"]


@pytest.mark.parametrize("detail", ["frames", "interval"])
@pytest.mark.parametrize(
    ("level", "topic", "tiers"),
    [
        ("api", "any", {}),
        ("topic", "tiered", {}),
        ("subscription", "any", {"plan": "Plan"}),
        ("application", "any", {"application": "App"}),
        ("address", "open", {}),
    ],
)
async def test_what_is_dropped(
    level: str, topic: str, tiers: dict[str, str], detail: str, base: Path, nursery: trio.Nursery
) -> None:
    echo = await start_echo(nursery)
    world = await start_limited(
        nursery, base, echo.url, TIERS, api_tier="Api" if level == "api" else "",
        analytics={"enabled": True, "detail": detail, "file": "a.jsonl"},
    )  # fmt: skip
    async with world.connect(topic, world.token(**tiers), compression=None) as client:
        for sent in ("1", "2"):
            await client.send(sent)
            assert await client.recv() == sent
        await client.send("3")
        await client.send(["4", "4"])
        await client.send("5")
        text = await counted(world, "trio_gw_throttled_messages_total", 3)
        (session,) = world.gateway.running.sessions
        assert session.dropped == 3
    await left(world)
    assert samples(text)["trio_gw_throttled_messages_total"] == [
        (
            {"api": "L", "version": "1.0.0", "topic": f"/{topic}", "direction": "in",
             "level": level, "action": "drop"},
            3.0,
        )
    ]  # fmt: skip
    assert total(text, "trio_gw_messages_total", direction="in") == 5, (
        "what is dropped was received"
    )
    events = await written(world, 3 if detail == "frames" else 1)
    assert sum(event["properties"]["messages"] for event in events) == 3
    assert len(events) == (3 if detail == "frames" else 1)
    for event in events:
        assert (event["errorType"], event["proxyResponseCode"]) == ("THROTTLED", 429)
        assert (event["errorCode"], event["errorMessage"]) == CODES[level]
        assert event["properties"]["method"] == "PUBLISH"
        assert event["properties"]["level"] == level
        assert event["properties"]["action"] == "drop"
        assert event["properties"]["tier"] in TIERS


async def test_what_waits_is_counted_once_and_shows_while_it_waits(
    base: Path, nursery: trio.Nursery
) -> None:
    echo = await start_echo(nursery)
    world = await start_limited(
        nursery, base, echo.url, TIERS, analytics={"enabled": True, "file": "a.jsonl"}
    )
    async with world.connect(token=world.token(application="Wait"), compression=None) as client:
        for number in range(6):
            await client.send(str(number))
        await counted(world, "trio_gw_throttled_messages_total", 2)
        (session,) = world.gateway.running.sessions
        assert session.holding
        await counted(world, "trio_gw_connections_held", 1)
        with trio.fail_after(2):
            await client.aclose(1000)  # far from the end of the window
    assert client.close_code == 1000
    await left(world)
    text = await counted(world, "trio_gw_connections_closed_total", 1)
    found: Counter[tuple[str, str]] = Counter()
    for labels, value in samples(text)["trio_gw_throttled_messages_total"]:
        assert labels["level"] == "application"
        found[labels["direction"], labels["action"]] += int(value)
    # One of each direction has waited; those behind were looked at when the client left.
    assert found == {("in", "pause"): 3, ("out", "pause"): 2}
    assert total(text, "trio_gw_connections_held") == 0
    events = await written(world, 2)
    assert {event["properties"]["action"] for event in events} == {"pause"}
    assert sum(event["properties"]["messages"] for event in events) == 5
    *_, end = map(json.loads, (base / "a.jsonl").read_text().splitlines())
    assert (end["properties"]["endedBy"], end["properties"]["messagesDropped"]) == ("client", 5)


async def test_what_ends_a_connection(base: Path, nursery: trio.Nursery) -> None:
    echo = await start_echo(nursery)
    world = await start_limited(
        nursery, base, echo.url, TIERS, api_tier="Close",
        analytics={"enabled": True, "file": "a.jsonl"},
    )  # fmt: skip
    async with world.connect(compression=None) as client:
        for sent in ("1", "2"):
            await client.send(sent)
            assert await client.recv() == sent
        await client.send("3")
        with pytest.raises(ConnectionClosed), trio.fail_after(10):
            await client.recv()
    await left(world)
    text = await counted(world, "trio_gw_connections_closed_total", 1)
    assert total(text, "trio_gw_throttled_messages_total", level="api", action="close") == 1
    assert total(text, "trio_gw_throttled_messages_total") == 1
    assert total(text, "trio_gw_connections_closed_total", code="1008", by="gateway") == 1
    (event,) = await written(world, 1)
    assert event["properties"] == {
        "method": "PUBLISH", "level": "api", "tier": "Close", "action": "close", "messages": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cap", "topic", "level", "status"),
    [
        ("connections", "any", "gateway", 503),
        ("connections_per_api", "any", "api", 503),
        ("connections_per_address", "open", "address", 429),
        ("connections_per_application", "any", "application", 429),
    ],
)
async def test_connections_that_are_refused(
    cap: str, topic: str, level: str, status: int, base: Path, nursery: trio.Nursery
) -> None:
    echo = await start_echo(nursery)
    world = await start_limited(
        nursery, base, echo.url, {}, limits={cap: 1},
        analytics={"enabled": True, "file": "a.jsonl"},
    )  # fmt: skip
    async with world.connect(topic):
        for _ in range(2):
            with pytest.raises(InvalidStatus) as refused:
                async with world.connect(topic):
                    pass
            assert refused.value.response.status_code == status
        text = await counted(world, "trio_gw_refused_connections_total", 2)
    assert samples(text)["trio_gw_refused_connections_total"] == [
        ({"api": "L", "version": "1.0.0", "level": level}, 2.0)
    ]
    assert total(text, "trio_gw_handshakes_total", status=str(status)) == 2
    for event in await written(world, 2):
        assert (event["errorType"], event["errorCode"]) == ("THROTTLED", 900801)
        assert event["proxyResponseCode"] == status
        assert event["properties"] == {"level": level, "action": "refused"}
