"""Limits as clients meet them: the reference's W14 to W18, and more."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.backends import Backend, start_backend, start_echo
from support.limited import DAY, Limited, start_limited

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from websockets.trio.client import ClientConnection
    from websockets.trio.server import ServerConnection

pytestmark = pytest.mark.both_forms

MONTH = {"per": "31d"}  # no test sees the end of such a window
SMALL, LARGE = "send me. small frames. 15", "a" * 1024


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    """The reference's mock, as far as throttling asks for it; without its pauses."""

    async def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await connection.recv()
                if message == SMALL:
                    for number in range(15):
                        await connection.send(f"Message {number}")
                    await connection.aclose()
                elif len(message) > 100:
                    await connection.send("Message large payload received.")
                else:
                    await connection.send(message)

    return await start_backend(nursery, handler)


@pytest.fixture
def make(nursery: trio.Nursery, base: Path, backend: Backend) -> Callable[..., Any]:
    async def start(tiers: dict[str, Any], *, to: Backend | None = None, **more: Any) -> Limited:
        return await start_limited(nursery, base, (to or backend).url, tiers, **more)

    return start


async def echoes(client: ClientConnection, messages: list[str]) -> list[str | bytes]:
    """Send all; returns what has come back when nobody has anything more to do."""
    for message in messages:
        await client.send(message)
    await trio.testing.wait_all_tasks_blocked(0.1)
    found: list[str | bytes] = []
    with trio.move_on_after(0.2) as scope:  # for what is here already
        while True:
            found.append(await client.recv())
            scope.deadline = trio.current_time() + 0.2
    return found


TIERS: dict[str, dict[str, Any]] = {
    "3KbPerMin": {"bytes": "3KB", **MONTH},
    "5ReqPerMin": {"events": 5, **MONTH},
    "5EventsPerMin": {"events": 5, **MONTH},
}


# As the reference's cases have it, and what comes if both directions share the limit.
@pytest.mark.parametrize(("more", "answers"), [({}, 3), ({"count": "both"}, 2)])
@pytest.mark.parametrize("level", ["w14-api", "w16-application"])
async def test_w14_w16_bandwidth(make: Any, level: str, more: Any, answers: int) -> None:
    tiers = {"3KbPerMin": {**TIERS["3KbPerMin"], **more}}
    named = "3KbPerMin"
    world = await make(tiers, api_tier=named if level == "w14-api" else "")
    token = world.token(application=named if level == "w16-application" else "Unlimited")
    async with world.connect(token=token) as client:
        found: list[str | bytes] = []
        for _ in range(10):
            found += await echoes(client, [LARGE])
    assert found == ["Message large payload received."] * answers
    assert client.close_code == 1000, "the client's own Close ended it"


@pytest.mark.parametrize(("more", "answers"), [({}, 5), ({"count": "both"}, 4)])
@pytest.mark.parametrize("level", ["w15-api", "w17-application", "w18-subscription"])
async def test_w15_w17_w18_events(make: Any, level: str, more: Any, answers: int) -> None:
    name = "5EventsPerMin" if level == "w18-subscription" else "5ReqPerMin"
    world = await make({name: {**TIERS[name], **more}}, api_tier=name if level == "w15-api" else "")
    token = world.token(
        plan=name if level == "w18-subscription" else "AsyncUnlimited",
        application=name if level == "w17-application" else "Unlimited",
    )
    async with world.connect(token=token) as client:
        await client.send(SMALL)
        with trio.fail_after(10):
            found = [message async for message in client]
    assert found == [f"Message {number}" for number in range(answers)]
    assert client.close_code == 1000, "the backend's Close came through"


async def test_the_level_of_a_topic(make: Any) -> None:
    world = await make({"Few": {"events": 4, **DAY}}, topic={"x-throttling-tier": "Few"})
    async with world.connect() as client:
        assert await echoes(client, ["a"]) == ["a"]
        assert await echoes(client, ["b"]) == ["b"]
        assert await echoes(client, ["c"]) == []
    async with world.connect("open") as client:
        assert await echoes(client, ["x"]) == ["x"], "another topic has a count of its own"


async def test_connections_of_one_key_share_the_limit_and_start_over_it(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world = await make({"Few": {"events": 4, **DAY}}, api_tier="Few")
    with caplog.at_level(logging.INFO, "trio_gw.limits"):
        async with world.connect() as one, world.connect() as two:
            assert await echoes(one, ["1"]) == ["1"]
            assert await echoes(two, ["2"]) == ["2"]
            assert await echoes(one, ["3"]) == []
        async with world.connect() as three:
            assert await echoes(three, ["4"]) == [], "connected, and over the limit at once"
    told = [record for record in caplog.records if "limit" in record.message]
    assert len(told) == 1
    assert "API limit Few exceeded: 4 events per 31d, so messages are dropped" in told[0].message


async def test_an_application_counts_for_itself(make: Any) -> None:
    world = await make({"Few": {"events": 2, **DAY}})
    async with world.connect(token=world.token(application="Few")) as client:
        assert await echoes(client, ["1"]) == ["1"]
        assert await echoes(client, ["2"]) == []
    async with world.connect() as client:
        assert await echoes(client, ["1", "2", "3"]) == ["1", "2", "3"]


async def test_topics_without_security_are_limited_by_address(make: Any) -> None:
    world = await make(
        {"Unauthenticated": {"events": 2, **DAY}}, trusted_proxies=["127.0.0.0/8", "::1"]
    )

    def visitor(address: str) -> Any:
        return world.connect("open", additional_headers={"X-Forwarded-For": address})

    async with visitor("192.0.2.1") as one, visitor("192.0.2.2") as two:
        assert await echoes(one, ["1"]) == ["1"]
        assert await echoes(one, ["2"]) == []
        assert await echoes(two, ["1"]) == ["1"]
    async with visitor("2001:db8::1") as one, visitor("2001:db8::2") as same:
        assert await echoes(one, ["1"]) == ["1"]
        assert await echoes(same, ["2"]) == []
        async with visitor("2001:db8:0:1::1") as other:
            assert await echoes(other, ["1"]) == ["1"]


async def test_addresses_of_one_network_are_one_host(make: Any) -> None:
    world = await make(
        {}, limits={"connections_per_address": 1}, trusted_proxies=["127.0.0.0/8", "::1"]
    )

    def visitor(address: str) -> Any:
        return world.connect("open", additional_headers={"X-Forwarded-For": address})

    async with visitor("2001:db8::1"), visitor("2001:db8:0:1::1"), visitor("192.0.2.1"):
        with pytest.raises(InvalidStatus) as refused:
            async with visitor("2001:db8::ffff:2"):
                pass
        assert refused.value.response.status_code == 429


async def test_a_limit_that_closes_names_itself(make: Any) -> None:
    world = await make({"Few": {"events": 2, "on_exceed": "close", **DAY}}, api_tier="Few")
    async with world.connect() as client:
        assert await echoes(client, ["1"]) == ["1"]
        await client.send("2")
        with pytest.raises(ConnectionClosed), trio.fail_after(10):
            await client.recv()
    assert (client.close_code, client.close_reason) == (1008, "API limit Few exceeded")


async def test_what_waits_comes_later_and_in_windows(nursery: trio.Nursery, make: Any) -> None:
    seen: list[tuple[str, float]] = []
    all_there = trio.Event()

    async def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                seen.append((str(await connection.recv()), time.time()))
                if len(seen) == 20:
                    all_there.set()

    sink = await start_backend(nursery, handler)
    tiers = {"Slow": {"events": 5, "per": "1s", "on_exceed": "pause"}}
    world = await make(tiers, api_tier="Slow", to=sink)
    async with world.connect() as client:
        for number in range(20):
            await client.send(str(number))
        with trio.fail_after(10):
            await all_there.wait()
    assert [text for text, _ in seen] == [str(number) for number in range(20)]
    windows = Counter(int(when) for _, when in seen)
    first, *middle, last = [windows[second] for second in sorted(windows)]
    assert set(middle) == {5}, "exactly so many in every whole window"
    assert first <= 5
    assert last <= 5


async def test_nothing_is_compressed_where_messages_may_vanish(make: Any) -> None:
    tiers = {"Few": {"events": 4, **DAY}, "Wait": {"events": 4, "on_exceed": "pause", **DAY}}
    world = await make(tiers)
    for tier, compressed in (("Few", False), ("Wait", True), ("Unlimited", True)):
        async with world.connect(token=world.token(application=tier)) as client:
            offered = client.request.headers["Sec-WebSocket-Extensions"]
            assert "permessage-deflate" in offered
            answered = client.response.headers.get("Sec-WebSocket-Extensions", "")
            assert ("permessage-deflate" in answered) is compressed
            assert await echoes(client, ["a" * 50]) == ["a" * 50]


@pytest.mark.parametrize(
    ("topic", "settings"),
    [
        ({"x-trio-gw-max-message": 100}, {}),
        ({}, {"limits": {"max_message": 100}}),
        ({"x-trio-gw-max-message": 100}, {"limits": {"max_message": "1MB"}}),
        ({"x-trio-gw-max-message": 100, "x-trio-gw-inspect": True}, {}),
    ],
)
async def test_messages_have_a_largest_size(
    make: Any, topic: dict[str, Any], settings: dict[str, Any]
) -> None:
    world = await make({}, topic=topic, **settings)
    async with world.connect(compression=None) as client:
        assert await echoes(client, ["a" * 100]) == ["a" * 100]
        await client.send("a" * 101)
        with pytest.raises(ConnectionClosed), trio.fail_after(10):
            await client.recv()
    assert client.close_code == 1009
    assert "message of more than 100 bytes" in client.close_reason


async def test_limits_in_message_mode(make: Any) -> None:
    world = await make(
        {"Few": {"events": 4, **DAY}}, api_tier="Few", topic={"x-trio-gw-inspect": True}
    )
    async with world.connect() as client:
        assert await echoes(client, ["1"]) == ["1"]
        assert await echoes(client, ["2"]) == ["2"]
        assert await echoes(client, ["3"]) == []


@pytest.mark.parametrize(
    ("cap", "topic", "status"),
    [
        ("connections", "any", 503),
        ("connections_per_api", "any", 503),
        ("connections_per_address", "open", 429),
        ("connections_per_application", "any", 429),
    ],
)
async def test_only_so_many_connections(make: Any, cap: str, topic: str, status: int) -> None:
    world = await make({}, limits={cap: 2})
    async with world.connect(topic) as one, world.connect(topic):
        with pytest.raises(InvalidStatus) as refused:
            async with world.connect(topic):
                pass
        response = refused.value.response
        assert response.status_code == status
        assert response.headers["Retry-After"] == "5"
        assert cap.rpartition("_")[2].removesuffix("connections") in response.body.decode().lower()
        await one.aclose()
        while len(world.gateway.running.sessions) > 1:
            await trio.testing.wait_all_tasks_blocked(0.001)
        async with world.connect(topic) as again:
            assert await echoes(again, ["back"]) == ["back"]
    while len(world.gateway.running.sessions):
        await trio.testing.wait_all_tasks_blocked(0.001)
    async with world.connect(topic) as one, world.connect(topic) as two:
        assert await echoes(two, ["places were given back"]) == ["places were given back"]


async def test_a_limit_reached_does_not_disturb_others(make: Any, nursery: trio.Nursery) -> None:
    echo = await start_echo(nursery)
    tiers = {"Few": {"events": 2, **DAY}, "Slow": {"events": 2, "on_exceed": "pause", **DAY}}
    world = await make(tiers, to=echo)
    async with (
        world.connect(token=world.token(application="Slow")) as slow,
        world.connect() as free,
    ):
        for number in range(9):
            await slow.send(str(number))
        for number in range(100):
            await free.send(str(number))
            assert await free.recv() == str(number)
