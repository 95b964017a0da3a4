"""Frames as events, and decisions of the Traffic Manager as clients meet them.

The event receiver is real. Decisions are put among the entitlements, as the event hub does.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import time
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import trio.testing
import trustme
from websockets.exceptions import ConnectionClosed

from support.backends import start_echo
from support.control_plane import NOWHERE, write_cache
from support.conversation import frame
from support.databridge import Sink
from support.limited import Limited, start_limited
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.entitlements import ApiRow, Change, DecisionRow, KeyTemplateRow
from trio_gw.control_plane.state import StateChange
from trio_gw.wire import frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from websockets.trio.client import ClientConnection

pytestmark = pytest.mark.both_forms

API = "/l/1.0.0:1.0.0"
SUBSCRIPTION = f"7:{API}"
APPLICATION = "7:alice@carbon.super"
PLAN, TIER = "AsyncGold", "50PerMin"
LONG = 3600.0  # seconds


def conditions(*entries: Any) -> str:
    return base64.b64encode(json.dumps(entries).encode()).decode()


class Throttled(Limited):
    """A gateway with a Traffic Manager, of which this is a part."""

    sink: Sink

    def decide(self, *keys: str, seconds: float = LONG, conditions: str = "") -> None:
        """Throttle these keys for some seconds."""
        until = int((time.time() + seconds) * 1000)
        self.apply(Change(tuple(DecisionRow(key, until, conditions) for key in keys)))

    def withdraw(self, *keys: str) -> None:
        self.apply(Change(removed=tuple(DecisionRow(key) for key in keys)))

    def apply(self, change: Change) -> None:
        live = self.gateway.running.live
        live.entitle(live.entitlements.apply(change))

    def open(self, **options: Any) -> Any:
        return self.connect(token=self.token(PLAN, TIER), **options)


@pytest.fixture
async def make(nursery: trio.Nursery, base: Path) -> Callable[..., Awaitable[Throttled]]:
    ca = trustme.CA()
    (base / "apim.pem").write_bytes(ca.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    sink = Sink()
    await nursery.start(sink.run, context)
    backend = await start_echo(nursery)

    async def start(*, api_tier: str = "", **more: Any) -> Throttled:
        throttling = {"enabled": True, "publish": [sink.publish], "login": [sink.login]}
        throttling |= more.pop("throttling", {})
        plane = {
            "url": NOWHERE,
            "events": ["amqp://admin:admin@localhost:1/"],
            "ca": "apim.pem",
            "throttling": throttling,
        }
        # The gateway serves the last known state: nobody listens where API Manager should be.
        known = StateChange(Change((ApiRow("known"),)), {}, time.time())
        await write_cache(base, msgspec.convert(plane, ControlPlaneSettings), known)
        tiers: dict[str, Any] = {
            "Topic": {"events": 1_000_000},
            **{name: {"events": 1_000_000} for name in (PLAN, TIER, "Api")},
            **more.pop("tiers", {}),
        }
        options = {"api_tier": api_tier, "control_plane": plane, **more}
        limited = await start_limited(nursery, base, backend.url, tiers, **options)
        made = Throttled(limited.gateway, limited._signer)
        made.sink = sink
        return made

    return start


async def answered(client: ClientConnection, message: str) -> bool:
    """Send a message, then ping; returns whether its echo came before the pong."""
    await client.send(message)
    pong = await client.ping()
    with trio.fail_after(10):
        await pong.wait()
    with trio.move_on_after(0.05):
        assert await client.recv() == message
        return True
    return False


async def eventually(client: ClientConnection, passes: bool) -> float:
    """Send messages until they pass, or do not; returns after how many seconds."""
    began = trio.current_time()
    with trio.fail_after(10):
        while await answered(client, "again") is not passes:
            pass
    return trio.current_time() - began


async def test_every_data_frame_is_an_event_in_both_directions(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make(api_tier="Api")
    headers = {"X-Request-ID": "r-1"}
    async with throttled.open(additional_headers=headers) as client:
        await client.send("seven b")
        assert await client.recv() == "seven b"
        await client.send(iter(["ab", "cde"]))  # two frames, and one that ends the message
        assert await client.recv() == "abcde"
        pong = await client.ping()
        await pong.wait()
        await throttled.sink.wait_events(6)
    await throttled.gateway.ask(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert sorted(throttled.sink.sizes()) == [0, 2, 3, 5, 7, 7]
    event = dict(throttled.sink.events[0])
    assert abs(int(event.pop("timestamp")) / 1000 - time.time()) < 60
    said = json.loads(event.pop("properties"))
    assert said == {"ip": int(ipaddress.ip_address("127.0.0.1")), "ipv6": 0, "messageSize": 7}
    assert event == {
        "stream": "org.wso2.throttle.request.stream:1.0.0",
        "messageID": "r-1",
        "appKey": APPLICATION,
        "appTier": TIER,
        "apiKey": API,
        "apiTier": "Api",
        "subscriptionKey": SUBSCRIPTION,
        "subscriptionTier": PLAN,
        "resourceKey": API,
        "resourceTier": "Api",
        "userId": "alice@carbon.super",
        "apiContext": "/l/1.0.0",
        "apiVersion": "1.0.0",
        "appTenant": "carbon.super",
        "apiTenant": "carbon.super",
        "appId": "7",
        "apiName": "L",
    }


@pytest.mark.parametrize("key", [SUBSCRIPTION, APPLICATION, f"{API}_default"])
async def test_a_decision_stops_an_open_connection_until_it_is_over(
    make: Callable[..., Awaitable[Throttled]], key: str
) -> None:
    throttled = await make(api_tier="Api")
    given = conditions() if key.startswith(API) else ""
    async with throttled.open() as client, throttled.open() as other:
        assert await answered(client, "before")
        throttled.decide(key, seconds=1.5, conditions=given)
        assert await eventually(client, passes=False) < 1.0
        assert not await answered(other, "other")
        before = len(await throttled.sink.wait_events(2))
        for _ in range(5):
            assert not await answered(client, "dropped")
        await eventually(client, passes=True)
        assert await answered(client, "after")
        await throttled.sink.wait(lambda sink: 5 in sink.sizes()[before:])
        assert 7 not in throttled.sink.sizes()


async def test_a_withdrawn_decision_lets_messages_pass_at_once(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make()
    async with throttled.open() as client:
        throttled.decide(APPLICATION)
        await eventually(client, passes=False)
        throttled.decide(SUBSCRIPTION)
        throttled.withdraw(APPLICATION)
        assert not await answered(client, "the other decision holds")
        throttled.withdraw(SUBSCRIPTION)
        assert await eventually(client, passes=True) < 1.0


async def test_a_throttled_handshake_succeeds_and_begins_throttled(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make()
    throttled.decide(APPLICATION, seconds=2.0)
    throttled.decide("7:bob@carbon.super")
    await trio.testing.wait_all_tasks_blocked()
    async with throttled.open() as client:
        assert not await answered(client, "dropped")
        await eventually(client, passes=True)


async def test_a_custom_policy_counts_at_the_handshake(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make()
    number = int(ipaddress.ip_address("127.0.0.1"))
    throttled.apply(Change((KeyTemplateRow("$userId:$clientIp"),)))
    key = f"alice@carbon.super:{number}"
    async with throttled.open() as client:
        throttled.decide(key)
        await trio.testing.wait_all_tasks_blocked()
        assert await answered(client, "opened before the decision")
        async with throttled.open() as other:
            assert not await answered(other, "dropped")
            throttled.withdraw(key)
            assert await eventually(other, passes=True) < 1.0


async def test_an_api_without_a_tier_is_not_throttled_as_an_api(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make()
    throttled.decide(f"{API}_default", conditions=conditions())
    await trio.testing.wait_all_tasks_blocked()
    async with throttled.open() as client:
        assert await answered(client, "passes")


CURL = {"header": {"values": {"User-Agent": "^curl/"}}}
FREE = {"queryparametertype": {"values": {"plan": "free"}}}
ALICE = {"jwtclaims": {"values": {"sub": "^alice$"}}}
MINE = {"ipspecific": {"specificIp": int(ipaddress.ip_address("127.0.0.1"))}}


@pytest.mark.parametrize(
    ("entry", "options", "hit"),
    [
        (MINE, {}, True),
        ({"ipspecific": {**MINE["ipspecific"], "invert": True}}, {}, False),
        (CURL, {"user_agent_header": "curl/8.0"}, True),
        (CURL, {"user_agent_header": "Mozilla/5.0"}, False),
        (FREE, {"topic": "any?plan=free"}, True),
        (FREE, {"topic": "any?plan=paid"}, False),
        (FREE, {"topic": "any?plan=free" + "&more=1" * 200}, True),
        (ALICE, {}, True),
    ],
)
async def test_conditions_look_at_the_handshake(
    make: Callable[..., Awaitable[Throttled]], entry: Any, options: dict[str, Any], hit: bool
) -> None:
    all_on = dict.fromkeys(("header_conditions", "query_conditions", "claim_conditions"), True)
    throttled = await make(api_tier="Api", throttling=all_on)
    token = throttled.token(PLAN, TIER)
    async with throttled.connect(options.pop("topic", "any"), token, **options) as client:
        assert await answered(client, "before")
        throttled.decide(f"{API}_condition_1", conditions=conditions(entry))
        await trio.testing.wait_all_tasks_blocked()
        assert await answered(client, "then") is not hit


async def test_an_exceeded_tier_may_close_or_pause(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    tiers = {
        PLAN: {"events": 1_000_000, "on_exceed": "close"},
        TIER: {"events": 1_000_000, "on_exceed": "pause"},
    }
    throttled = await make(tiers=tiers)
    async with throttled.open() as client:
        throttled.decide(APPLICATION)
        await trio.testing.wait_all_tasks_blocked()
        await client.send("waits")
        with trio.move_on_after(0.2) as waited:
            await client.recv()
        assert waited.cancelled_caught
        throttled.withdraw(APPLICATION)
        with trio.fail_after(5):
            assert await client.recv() == "waits"
        throttled.decide(SUBSCRIPTION)
        await trio.testing.wait_all_tasks_blocked()
        await client.send("ends the connection")
        with trio.fail_after(5), pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert closed.value.rcvd.reason == f"subscription limit {PLAN} exceeded"


async def test_frames_that_a_tier_drops_are_no_events(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make(tiers={PLAN: {"events": 3, "per": "31d", "count": "both"}})
    async with throttled.open() as client:
        for text in ("1", "22"):
            await client.send(text)
        assert await client.recv() == "1"
        await throttled.sink.wait_events(3)
        for _ in range(20):
            assert not await answered(client, "dropped")
        assert 7 not in throttled.sink.sizes()
        assert len(throttled.sink.events) == 3


async def test_a_burst_of_small_frames_is_counted_exactly(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make()
    stream = await throttled.gateway.upgrade("/l/1.0.0/any", throttled.token(PLAN, TIER))
    burst = b"".join(frame(frames.TEXT, b"x" * (at % 3), key=b"mask") for at in range(3000))
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            left = 3000 * 2 + 3000
            while left > 0:
                left -= len(await stream.receive_some(65536))

        nursery.start_soon(read)
        await stream.send_all(burst)
    await throttled.sink.wait_events(6000)
    counts = [throttled.sink.sizes().count(size) for size in range(3)]
    assert counts == [2000, 2000, 2000]


async def test_traffic_flows_while_the_receiver_is_away(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make()
    throttled.sink.refuse = True
    await throttled.sink.disconnect()
    async with throttled.open() as client:
        for _ in range(50):
            await client.send("x")
            assert await client.recv() == "x"
        throttled.sink.refuse = False
        await throttled.sink.wait(partial(_has, count=100))


def _has(sink: Sink, count: int) -> bool:
    return len(sink.events) >= count


async def test_an_anonymous_caller_has_keys_of_its_own(
    make: Callable[..., Awaitable[Throttled]],
) -> None:
    throttled = await make()
    async with throttled.connect("open") as client:
        assert await answered(client, "a")
        (event, *_) = await throttled.sink.wait_events(2)
        assert (event["appKey"], event["subscriptionTier"]) == (
            "0:anonymous@carbon.super",
            "Unauthenticated",
        )
        throttled.decide("0:anonymous@carbon.super")
        assert await eventually(client, passes=False) < 1.0


LEVELS = [
    (f"{API}_default", "900800"),
    (APPLICATION, "900803"),
    (SUBSCRIPTION, "900804"),
    ("alice@carbon.super", "900806"),
]


@pytest.mark.parametrize(("key", "code"), LEVELS)
async def test_a_plain_request_is_refused_with_the_code_of_the_level(
    make: Callable[..., Awaitable[Throttled]], key: str, code: str
) -> None:
    throttled = await make(api_tier="Api", topic={"x-trio-gw-plain-http": True})
    throttled.apply(Change((KeyTemplateRow("$userId"),)))
    throttled.decide(key, conditions=conditions())
    await trio.testing.wait_all_tasks_blocked()
    token = throttled.token(PLAN, TIER).encode()
    head = b"GET /l/1.0.0/any HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = await throttled.gateway.ask(head + b"Authorization: Bearer " + token + b"\r\n\r\n")
    assert answer.status == 429
    assert answer.json() == {
        "error_message": "Message throttled out",
        "code": code,
        "error_description": "You have exceeded your quota",
    }
    again = parsedate_to_datetime(answer.headers["retry-after"]).timestamp()
    assert again == pytest.approx(time.time() + LONG, abs=60)
