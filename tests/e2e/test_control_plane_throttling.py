"""The Traffic Manager through API Manager's broker (scenarios 19, 20 and 26).

The broker and the event receiver are real. A toy Traffic Manager counts the events of a key and
publishes a decision.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect

from support.apim import FakeApiManager, start_apim
from support.backends import start_echo
from support.controlled import ControlledGateway, start_controlled
from support.databridge import Sink
from support.publisher import payload, publishing
from support.secrets import secret
from support.tls import leaf
from support.workers import start_workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.trio.client import ClientConnection

    from support.commands import Serving
    from support.publisher import Publisher
    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")

ISSUER = "https://am.example:9443/oauth2/token"
API = "/chat/1.0.0:1.0.0"
SUBSCRIPTION = f"2:{API}"


class Plant(NamedTuple):
    """A gateway, its API Manager, and the Traffic Manager."""

    controlled: ControlledGateway
    apim: FakeApiManager
    sink: Sink
    publisher: Publisher
    key: Any

    def connect(self) -> Any:
        """Connect with a token of the seeded application."""
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "alice", "azp": "client-1", "iat": now, "exp": now + 600}
        token = secret(jwt.encode(claims, self.key, algorithm="RS256"))
        return self.controlled.gateway.connect("/chat/1.0.0/x", token)

    async def decide(self, key: str, until: float, **more: Any) -> None:
        """Publish a decision; `until` in epoch seconds."""
        decision = {"throttleKey": key, "isThrottled": True, "expiryTimeStamp": int(until * 1000)}
        await self.publisher.publish("throttleData", payload(**decision | more))


async def start_sink(nursery: trio.Nursery, apim: FakeApiManager) -> Sink:
    """Start an event receiver with a certificate of API Manager's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    apim.ca.issue_cert("localhost").configure_cert(context)
    sink = Sink()
    await nursery.start(sink.run, context)
    return sink


@pytest.fixture
async def plant(nursery: trio.Nursery, base: Path, rabbitmq: RabbitMQ) -> AsyncIterator[Plant]:
    cert = leaf(trustme.CA())
    backend = await start_echo(nursery)
    apim = await start_apim(nursery)
    seeded = apim.seed(backend.url)
    apim.deploy(seeded.uuid, backend=backend.url, apiThrottlingPolicy="10KPerMin")
    apim.add_key_manager(cert.cert_chain_pems[0].bytes(), ISSUER)
    sink = await start_sink(nursery, apim)
    throttling = {"enabled": True, "publish": [sink.publish], "login": [sink.login]}
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url(), throttling=throttling)
    await controlled.current()
    key = serialization.load_pem_private_key(cert.private_key_pem.bytes(), None)
    async with publishing(rabbitmq.port) as publisher:
        yield Plant(controlled, apim, sink, publisher, key)


async def flows(client: ClientConnection) -> bool:
    """Send a message, then ping; returns whether its echo came before the pong."""
    await client.send("x")
    with trio.fail_after(20):
        pong = await client.ping()
        await pong.wait()
    with trio.move_on_after(0.05):
        await client.recv()
        return True
    return False


async def becomes(client: ClientConnection, flowing: bool) -> None:
    """Send messages until they pass, or do not."""
    with trio.fail_after(30):
        while await flows(client) is not flowing:
            pass


async def test_frames_beyond_a_quota_are_dropped_until_its_window_ends(plant: Plant) -> None:
    async with plant.connect() as client, plant.connect() as other:
        for number in range(4):
            await client.send(f"{number}")
            await client.recv()
        events = await plant.sink.wait_events(8)
        assert {event["subscriptionKey"] for event in events} == {SUBSCRIPTION}
        assert {event["subscriptionTier"] for event in events} == {"AsyncGold"}
        assert {event["appKey"] for event in events} == {"2:alice@carbon.super"}
        assert {event["apiTier"] for event in events} == {"10KPerMin"}
        assert {json.loads(event["properties"])["messageSize"] for event in events} == {1}
        until = time.time() + 3
        await plant.decide(SUBSCRIPTION, until, evaluatedConditions=None)
        await becomes(client, flowing=False)
        assert not await flows(other)
        async with plant.connect() as late:  # the handshake is let through
            assert not await flows(late)
            counted = len(plant.sink.events)
            assert not await flows(client)
            await becomes(client, flowing=True)
            assert time.time() >= until
            assert await flows(late)
        await plant.sink.wait_events(counted + 1)


async def test_a_decision_about_an_api_has_a_group(plant: Plant) -> None:
    async with plant.connect() as client:
        assert await flows(client)
        await plant.decide(f"{API}_default", time.time() + 600, evaluatedConditions="W10=")
        await becomes(client, flowing=False)
        await plant.decide(f"{API}_default", 0, isThrottled=False)
        await becomes(client, flowing=True)


async def test_malformed_decisions_change_nothing(plant: Plant) -> None:
    async with plant.connect() as client:
        for more in (
            {"throttleKey": 7},
            {"expiryTimeStamp": "soon"},
            {"evaluatedConditions": {"a": 1}},
            {"throttleKey": f"{API}_default", "evaluatedConditions": "%"},
        ):
            await plant.decide(SUBSCRIPTION, time.time() + 600, **more)
        assert await flows(client)
        await plant.decide("2:alice@carbon.super", time.time() + 600)
        await becomes(client, flowing=False)
    assert plant.controlled.status.events["other"]["malformed"] == 3


async def test_a_decision_holds_after_a_pull(plant: Plant, rabbitmq: RabbitMQ) -> None:
    async with plant.connect() as client:
        await plant.decide(SUBSCRIPTION, time.time() + 600)
        await becomes(client, flowing=False)
        pulls = plant.controlled.status.pulls
        await rabbitmq.close_connections()
        await plant.controlled.current(pulls + 1)
        assert not await flows(client)
        with contextlib.suppress(ConnectionClosed):
            await client.aclose()


async def test_traffic_does_not_depend_on_the_event_receiver(plant: Plant) -> None:
    async with plant.connect() as client:
        assert await flows(client)
        plant.sink.refuse = True
        await plant.sink.disconnect()
        for _ in range(20):
            assert await flows(client)
        receiver = plant.controlled.status.receivers[0]
        await plant.controlled.until(lambda: not receiver.connected)
        plant.sink.refuse = False
        await plant.controlled.until(lambda: receiver.connected)
        await plant.sink.wait_events(42)


async def test_every_worker_publishes_its_frames_and_obeys(
    nursery: trio.Nursery, base: Path, rabbitmq: RabbitMQ, running: list[Serving]
) -> None:
    backend = await start_echo(nursery)
    apim = await start_apim(nursery)
    sink = await start_sink(nursery, apim)
    table = apim.settings(base, events=[rabbitmq.url()])
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    more = "\n".join(
        [
            *("[control_plane]", *lines, "[control_plane.throttling]", "enabled = true"),
            *(f"publish = [{json.dumps(sink.publish)}]", f"login = [{json.dumps(sink.login)}]"),
        ]
    )
    group = await start_workers(base, running, backend.url, 2, more)
    everyone = "0:anonymous@carbon.super"
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                connect(f"ws://localhost:{group.port}/one/1.0.0/t", proxy=None)
            )
            for _ in range(8)
        ]
        for client in clients:
            await client.send("x")
            await client.recv()
        events = await sink.wait_events(16)
        assert {event["appKey"] for event in events} == {everyone}
        assert sink.connections == 2
        publisher = await stack.enter_async_context(publishing(rabbitmq.port))
        until = int((time.time() + 600) * 1000)
        decision = {"throttleKey": everyone, "isThrottled": True, "expiryTimeStamp": until}
        await publisher.publish("throttleData", payload(**decision))
        for client in clients:
            await becomes(client, flowing=False)
        await publisher.publish("throttleData", payload(**decision | {"isThrottled": False}))
        for client in clients:
            await becomes(client, flowing=True)
