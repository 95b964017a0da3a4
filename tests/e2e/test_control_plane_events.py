"""Events of API Manager reach the gateway: a real broker, the REST fake, real connections.

The numbers are those of the scenarios for the reference system.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.apim import FakeApiManager, start_apim
from support.backends import Backend, start_echo
from support.controlled import CHAT, OPEN, start_controlled
from support.forwarder import forwarding
from support.publisher import key_manager, notification, payload, publishing
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")

OTHER = "6c1f0e2e-0002-4c5e-9a10-000000000002"
PATH = "/chat/1.0.0/x"


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
async def apim(nursery: trio.Nursery, backend: Backend) -> FakeApiManager:
    """API Manager with one API that needs no token."""
    fake = await start_apim(nursery)
    fake.seed(backend.url)
    fake.deploy(CHAT, backend=backend.url, channels=OPEN)
    return fake


def deployed(uuid: str, *labels: str, name: str = "Chat", context: str = "/chat") -> bytes:
    """Build the event of a deployment."""
    return notification(
        "DEPLOY_API_IN_GATEWAY",
        uuid=uuid,
        name=name,
        version="1.0.0",
        context=f"{context}/1.0.0",
        gatewayLabels=list(labels or ("Default",)),
    )


def removed(uuid: str, *labels: str) -> bytes:
    """Build the event of an API that is removed."""
    labels = labels or ("Default",)
    return notification("REMOVE_API_FROM_GATEWAY", uuid=uuid, gatewayLabels=list(labels))


def subscription(kind: str, row: dict[str, Any], **members: Any) -> bytes:
    """Build the event of a subscription from its row."""
    names = {
        *("subscriptionId", "subscriptionUUID", "apiId", "apiUUID", "applicationUUID"),
        *("policyId", "subscriptionState"),
    }
    inner = {name: value for name, value in row.items() if name in names}
    return notification(kind, **inner, applicationId=row["appId"], **members)


async def test_5_a_broker_that_is_down_at_the_start(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, backend: Backend
) -> None:
    async with forwarding(rabbitmq.port) as forwarder:
        forwarder.open = False
        url = f"amqp://admin:admin@127.0.0.1:{forwarder.port}/?retries=1000&connectdelay=0.05"
        controlled = await start_controlled(nursery, base, apim, url)
        await controlled.answers(101, PATH)
        assert not controlled.status.current
        forwarder.open = True
        await controlled.current(pulls=2)
        apim.deploy(OTHER, name="Other", context="/other", backend=backend.url, channels=OPEN)
        async with publishing(rabbitmq.port) as publisher:
            assert await publisher.publish("notification", deployed(OTHER, context="/other"))
        await controlled.answers(101, "/other/1.0.0/x")


async def test_6_an_api_is_deployed_here_or_elsewhere(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, backend: Backend
) -> None:
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
    await controlled.current()
    foreign = "6c1f0e2e-0003-4c5e-9a10-000000000003"
    place = ("Elsewhere", "localhost")
    apim.deploy(
        foreign, place, name="Foreign", context="/foreign", backend=backend.url, channels=OPEN
    )
    apim.deploy(OTHER, name="Other", context="/other", backend=backend.url, channels=OPEN)
    assert await controlled.gateway.status("/other/1.0.0/x", token="") == 404
    before = len(apim.requests)
    async with publishing(rabbitmq.port) as publisher:
        event = deployed(foreign, "Elsewhere", context="/foreign")
        assert await publisher.publish("notification", event)
        event = deployed(OTHER, "Elsewhere", "Default", context="/other")
        assert await publisher.publish("notification", event)
    await controlled.answers(101, "/other/1.0.0/x")
    assert sorted(apim.paths()[before:]) == ["apis", "runtime-artifacts"]
    assert await controlled.gateway.status("/foreign/1.0.0/x", token="") == 404


async def test_7_a_redeployed_api_has_its_new_channels(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, backend: Backend
) -> None:
    apim.deploy(CHAT, backend=backend.url, channels={"/old": OPEN["/*"]})
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
    await controlled.current()
    assert await controlled.gateway.status("/chat/1.0.0/old", token="") == 101
    apim.deploy(CHAT, revision="r2", backend=backend.url, channels={"/new": OPEN["/*"]})
    async with publishing(rabbitmq.port) as publisher:
        assert await publisher.publish("notification", deployed(CHAT))
    await controlled.answers(101, "/chat/1.0.0/new")
    assert await controlled.gateway.status("/chat/1.0.0/old", token="") == 404


async def test_8_an_api_moves_to_another_virtual_host(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, backend: Backend
) -> None:
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
    await controlled.current()
    assert await controlled.gateway.status(PATH, token="") == 101
    place = ("Default", "chat.example.com")
    apim.deploy(CHAT, place, revision="r2", backend=backend.url, channels=OPEN)
    async with publishing(rabbitmq.port) as publisher:
        assert await publisher.publish("notification", deployed(CHAT))
    await controlled.answers(404, PATH)
    assert await controlled.gateway.status(PATH, host="chat.example.com", token="") == 101


async def test_9_a_removed_api_is_not_found(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
    await controlled.current()
    assert await controlled.gateway.status(PATH, token="") == 101
    apim.undeploy(CHAT)
    async with publishing(rabbitmq.port) as publisher:
        assert await publisher.publish("notification", removed(CHAT))
    await controlled.answers(404, PATH)


async def test_21_what_happens_while_the_broker_is_away_is_caught_up(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, backend: Backend
) -> None:
    async with forwarding(rabbitmq.port) as forwarder:
        url = f"amqp://admin:admin@127.0.0.1:{forwarder.port}/?retries=1000&connectdelay=0.05"
        controlled = await start_controlled(nursery, base, apim, url)
        await controlled.current()
        forwarder.cut()
        await controlled.until(lambda: not controlled.status.current)
        apim.deploy(OTHER, name="Other", context="/other", backend=backend.url, channels=OPEN)
        apim.undeploy(CHAT)
        async with publishing(rabbitmq.port) as publisher:
            event = deployed(OTHER, context="/other")
            while await publisher.publish("notification", event):
                await trio.lowlevel.checkpoint()  # the queue of the lost connection goes
            assert not await publisher.publish("notification", removed(CHAT))
        assert await controlled.gateway.status(PATH, token="") == 101
        forwarder.open = True
        await controlled.answers(101, "/other/1.0.0/x")
        await controlled.answers(404, PATH)
        await controlled.current(pulls=2)


def broken_events() -> list[tuple[str, bytes]]:
    """Build events that mean nothing, each with its routing key."""
    whole = notification("SUBSCRIPTIONS_CREATE", subscriptionId=1)
    bodies = [
        *(b"", b"\xff\xfe", b"{", b"null", b"[]", b'"text"', b"{}", b'{"event":5}'),
        *(b'{"event":{"payloadData":[]}}', whole[:-10], b"[" * 100_000, b"9" * 5000),
        payload(eventType="API_CREATE", event="not base64!"),
        payload(eventType="API_CREATE", event=base64.b64encode(b"{not json").decode()),
        payload(eventType="API_CREATE", event=base64.b64encode(b"\xff").decode()),
        payload(eventType=5, event=5),
        payload(eventType="SCOPE_CREATE", event=base64.b64encode(b"{}").decode()),
        payload(eventType="NEVER_HEARD_OF", event=base64.b64encode(b"{}").decode()),
        notification("SUBSCRIPTIONS_CREATE", subscriptionId="one", timeStamp="yesterday"),
        notification("DEPLOY_API_IN_GATEWAY", uuid=["a"], gatewayLabels="Default"),
        notification("DEPLOY_API_IN_GATEWAY", uuid="../../etc", gatewayLabels=["Default"]),
        notification("REMOVE_API_FROM_GATEWAY", uuid=None, gatewayLabels=[None]),
        notification("APPLICATION_CREATE", uuid="\ud800", applicationId=10**400),
        payload(blockingCondition="SUBSCRIPTION", conditionValue="/a:1:b", state="true", id=1),
        payload(blockingCondition="IP", conditionValue="{", state="true", id=2),
        payload(throttleKey=5, isThrottled="yes", expiryTimeStamp=-1),
        payload(revokedToken=5, expiryTime="never", ttl=5),
        key_manager("KM", "add", None, tenantId=-1234),
        key_manager("Nobody", "delete", None),
        key_manager("KM", "add", {"issuer": 5, "self_validate_jwt": "yes"}, tenantId=-1234),
    ]
    keys = ("notification", "keymanager", "tokenRevocation", "throttleData")
    return [(key, data) for data in bodies for key in keys]


async def test_22_events_that_mean_nothing_are_skipped(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
    await controlled.current()
    row = {**apim.tables["subscriptions"][0], "subscriptionState": "BLOCKED"}
    async with publishing(rabbitmq.port) as publisher:
        for key, data in broken_events():
            assert await publisher.publish(key, data)
        event = subscription("SUBSCRIPTIONS_UPDATE", row)
        assert await publisher.publish("notification", event)
    live = controlled.gateway.running.live
    await controlled.until(lambda: live.entitlements.subscriptions[1].state == "BLOCKED")
    malformed = sum(results.get("malformed", 0) for results in controlled.status.events.values())
    assert malformed > 50
    assert [broker.losses for broker in controlled.status.brokers] == [0]
    assert await controlled.gateway.status(PATH, token="") == 101


async def test_24_a_broken_api_does_not_hold_up_the_others(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ, backend: Backend
) -> None:
    apim.deploy(OTHER, name="Broken", context="/broken", raw=b"this is no zip")
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
    await controlled.answers(101, PATH)
    await controlled.current()
    assert await controlled.gateway.status("/broken/1.0.0/x", token="") == 404
    problems = [
        *controlled.status.problems,
        *controlled.gateway.running.catalog.problems,
    ]
    assert any("Broken" in str(problem) for problem in problems)
    apim.deploy(OTHER, name="Broken", context="/broken", backend=backend.url, channels=OPEN)
    async with publishing(rabbitmq.port) as publisher:
        assert await publisher.publish("notification", deployed(OTHER, context="/broken"))
    await controlled.answers(101, "/broken/1.0.0/x")


async def test_events_come_over_tls_with_the_authorities_of_the_settings(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    authorities = base / "authorities"
    authorities.mkdir()
    for name, ca in (("apim.pem", apim.ca), ("broker.pem", rabbitmq.ca)):
        (authorities / name).write_bytes(ca.cert_pem.bytes())
    url = rabbitmq.url(tls=True)
    controlled = await start_controlled(nursery, base, apim, url, ca=str(authorities))
    await controlled.current()
    apim.undeploy(CHAT)
    async with publishing(rabbitmq.port) as publisher:
        assert await publisher.publish("notification", removed(CHAT))
    await controlled.answers(404, PATH)


async def test_a_refused_broker_password_does_not_keep_the_gateway_from_serving(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> None:
    password = secret("eixahL4ohngaiB7u")
    url = rabbitmq.url().replace("admin:admin", f"admin:{password}")
    controlled = await start_controlled(nursery, base, apim, url)
    await controlled.answers(101, PATH)
    (broker,) = controlled.status.brokers
    await controlled.until(lambda: "`control_plane.events`" in broker.reason)
    assert not controlled.status.current
