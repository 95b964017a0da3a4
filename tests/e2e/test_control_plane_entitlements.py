"""What callers may do follows API Manager: a real broker, the REST fake, tokens of a key manager.

The numbers are those of the scenarios for the reference system.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.apim import KEY_MANAGER, FakeApiManager, start_apim
from support.backends import Backend, start_echo
from support.callers import KeyManager, Verdict, becomes, verdict
from support.controlled import CHAT, start_controlled
from support.publisher import key_manager, notification, payload, publishing, revocation
from support.tls import chain_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from support.controlled import ControlledGateway
    from support.gateway import RunningGateway
    from support.publisher import Publisher
    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")

NOT_SUBSCRIBED = (403, "900908")
BLOCKED = (401, "900907")
INACTIVE = (403, "900909")


@pytest.fixture(scope="module")
def manager() -> KeyManager:
    return KeyManager()


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
async def apim(nursery: trio.Nursery, backend: Backend, manager: KeyManager) -> FakeApiManager:
    fake = await start_apim(nursery)
    fake.seed(backend.url, CHAT)
    endpoint = {"url": backend.url}
    endpoints = {"production_endpoints": endpoint, "sandbox_endpoints": endpoint}
    fake.deploy(CHAT, endpointConfig={"endpoint_type": "ws", **endpoints})
    manager.add_to(fake)
    return fake


@pytest.fixture
async def controlled(
    nursery: trio.Nursery, base: Path, apim: FakeApiManager, rabbitmq: RabbitMQ
) -> ControlledGateway:
    found = await start_controlled(nursery, base, apim, rabbitmq.url())
    await found.current()
    return found


@pytest.fixture
def gateway(controlled: ControlledGateway) -> RunningGateway:
    return controlled.gateway


@pytest.fixture
async def publisher(controlled: ControlledGateway, rabbitmq: RabbitMQ) -> AsyncIterator[Publisher]:
    del controlled  # events are published once a queue is bound
    async with publishing(rabbitmq.port) as found:
        yield found


def subscription(action: str, **members: Any) -> bytes:
    row = {"subscriptionId": 1, "subscriptionUUID": "sub-uuid-1", "apiId": 1, "apiUUID": CHAT}
    row |= {"applicationId": 2, "applicationUUID": "app-uuid-2", "policyId": "AsyncGold"}
    return notification(f"SUBSCRIPTIONS_{action}", **row, **members)


def mapping(name: str, key: str, kind: str = "PRODUCTION") -> bytes:
    return notification(
        name,
        applicationId=2,
        applicationUUID="app-uuid-2",
        consumerKey=key,
        keyType=kind,
        keyManager=KEY_MANAGER,
    )


async def test_10_to_12_subscriptions(
    gateway: RunningGateway, publisher: Publisher, manager: KeyManager
) -> None:
    token = manager.token()
    sandbox = manager.token(azp="client-s")
    await becomes(gateway, token, 101)
    await publisher.publish("notification", subscription("DELETE"))
    await becomes(gateway, token, *NOT_SUBSCRIBED)
    await publisher.publish("notification", subscription("CREATE", subscriptionState="UNBLOCKED"))
    await becomes(gateway, token, 101)
    await publisher.publish("notification", subscription("UPDATE", subscriptionState="BLOCKED"))
    await becomes(gateway, token, *BLOCKED)
    created = mapping("APPLICATION_REGISTRATION_CREATE", "client-s", "SANDBOX")
    await publisher.publish("notification", created)
    state = "PROD_ONLY_BLOCKED"
    await publisher.publish("notification", subscription("UPDATE", subscriptionState=state))
    await becomes(gateway, sandbox, 101)
    assert await verdict(gateway, token) == BLOCKED
    older = subscription("UPDATE", subscriptionState="UNBLOCKED", timeStamp=1_690_000_000_000)
    await publisher.publish("notification", older)
    await publisher.publish("notification", subscription("UPDATE", subscriptionState="ON_HOLD"))
    await becomes(gateway, sandbox, *INACTIVE)
    await publisher.publish("notification", older)
    await publisher.publish("notification", mapping("REMOVE_APPLICATION_KEYMAPPING", "client-s"))
    await becomes(gateway, sandbox, *NOT_SUBSCRIBED)
    assert await verdict(gateway, token) == INACTIVE


async def test_13_keys_of_applications(
    gateway: RunningGateway, publisher: Publisher, manager: KeyManager
) -> None:
    token = manager.token(azp="client-2")
    assert await verdict(gateway, token) == NOT_SUBSCRIBED
    await publisher.publish("notification", mapping("APPLICATION_REGISTRATION_CREATE", "client-2"))
    await becomes(gateway, token, 101)
    await publisher.publish("notification", mapping("REMOVE_APPLICATION_KEYMAPPING", "client-2"))
    await becomes(gateway, token, *NOT_SUBSCRIBED)
    assert await verdict(gateway, manager.token()) == Verdict(101)


async def test_14_the_lifecycle(
    gateway: RunningGateway, publisher: Publisher, manager: KeyManager
) -> None:
    token = manager.token()
    await becomes(gateway, token, 101)
    for status, expected in (("BLOCKED", (503, "700700")), ("PUBLISHED", (101, ""))):
        event = notification("API_LIFECYCLE_CHANGE", uuid=CHAT, apiStatus=status)
        await publisher.publish("notification", event)
        await becomes(gateway, token, *expected)


async def test_15_revocations(
    gateway: RunningGateway, publisher: Publisher, manager: KeyManager
) -> None:
    token = manager.token(jti="to-be-revoked")
    await becomes(gateway, token, 101)
    expiry = int(time.time() + 3600) * 1000
    await publisher.publish("tokenRevocation", revocation("to-be-revoked", expiry))
    await becomes(gateway, token, 401, "900901")
    assert await verdict(gateway, manager.token()) == Verdict(101)


async def test_16_key_managers(gateway: RunningGateway, publisher: Publisher) -> None:
    other = KeyManager("https://other.example.com", "Other")
    token = other.token()
    value = {
        "self_validate_jwt": True,
        "issuer": other.issuer,
        "consumer_key_claim": "azp",
        "scopes_claim": "scope",
        "certificate_type": "PEM",
        "certificate_value": base64.b64encode(chain_of(other.certificate)).decode(),
    }
    await becomes(gateway, token, 401, "900901")
    await publisher.publish("keymanager", key_manager("Other", "add", value))
    await becomes(gateway, token, *NOT_SUBSCRIBED)  # it is valid, and its key is unknown
    created = notification(
        "APPLICATION_REGISTRATION_CREATE",
        applicationUUID="app-uuid-2",
        consumerKey="client-1",
        keyType="PRODUCTION",
        keyManager="Other",
    )
    await publisher.publish("notification", created)
    await becomes(gateway, token, 101)
    await publisher.publish("keymanager", key_manager("other", "delete", None))
    await becomes(gateway, token, 401, "900901")


async def test_17_policies(
    controlled: ControlledGateway, apim: FakeApiManager, publisher: Publisher
) -> None:
    row = apim.tables["subscription-policies"][1]
    row["stopOnQuotaReach"] = False
    row["defaultLimit"]["eventCount"]["eventCount"] = 7
    event = notification(
        "POLICY_UPDATE",
        policyId=2,
        policyName="AsyncGold",
        quotaType="eventCount",
        policyType="SUBSCRIPTION",
        stopOnQuotaReach=False,
    )
    await publisher.publish("notification", event)
    live = controlled.gateway.running.live

    def changed() -> bool:
        policy = live.entitlements.policies[("subscription", 2)]
        return (policy.stop_on_quota, policy.limit) == (False, 7)

    await controlled.until(changed)


async def test_18_blocks(
    gateway: RunningGateway, publisher: Publisher, manager: KeyManager
) -> None:
    token = manager.token()
    await becomes(gateway, token, 101)

    async def block(kind: str, value: str, state: str) -> None:
        event = payload(
            id=7,
            blockingCondition=kind,
            conditionValue=value,
            state=state,
            tenantDomain="carbon.super",
        )
        await publisher.publish("throttleData", event)

    addresses = json.dumps({"fixedIp": "127.0.0.1", "startingIp": "", "endingIp": ""})
    for kind, value in (("API", "/chat/1.0.0"), ("IP", addresses)):
        await block(kind, value, "true")
        await becomes(gateway, token, 403, "900805")
        await block("SUBSCRIPTION", "/chat/1.0.0:1.0.0:alice-ChatApp:PRODUCTION", "true")
        await block(kind, value, "false")
        await becomes(gateway, token, 101)
    # A condition on a subscription has no effect; the state of the subscription has.
    await publisher.publish("notification", subscription("UPDATE", subscriptionState="BLOCKED"))
    await becomes(gateway, token, *BLOCKED)
