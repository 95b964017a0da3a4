"""Open connections obey API Manager, by events of its broker: who loses what ends with 1008.

The numbers are those of the scenarios for the reference system. New handshakes alone are in
`test_control_plane_entitlements`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from support.apim import KEY_MANAGER, FakeApiManager, start_apim
from support.backends import start_echo
from support.controlled import CHAT, ControlledGateway, start_controlled
from support.conversation import split_frames
from support.publisher import Publisher, key_manager, notification, payload, publishing, revocation
from support.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")

ISSUER = "https://am.example:9443/oauth2/token"
PATH = "/chat/1.0.0/x"
OK = 101, ""
NOT_SUBSCRIBED = 403, "900908"
REVOKED = INVALID = 401, "900901"


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    """Sign the certificate of a key manager."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "key manager")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class World:
    """A gateway, its API Manager with a broker, and clients with tokens."""

    def __init__(
        self,
        apim: FakeApiManager,
        controlled: ControlledGateway,
        publisher: Publisher,
        key: rsa.RSAPrivateKey,
    ) -> None:
        self.apim = apim
        self.controlled = controlled
        self.gateway = controlled.gateway
        self.publisher = publisher
        self.key = key

    def token(self, **claims: Any) -> str:
        """Sign a token of the application's key."""
        now = int(time.time())
        every = {"iss": ISSUER, "sub": "bob", "exp": now + 3600, "iat": now, "azp": "client-1"}
        return secret(jwt.encode(every | claims, self.key, algorithm="RS256"))

    async def outcome(self, token: str) -> tuple[int, str]:
        """Make a handshake; return its status, and the code of a refusal."""
        stream = await self.gateway.open()
        async with stream:
            await stream.send_all(self.gateway.handshake(PATH, token))
            answer = b""
            with trio.fail_after(60):
                while b"\r\n\r\n" not in answer or (b" 101 " not in answer and b"}" not in answer):
                    data = await stream.receive_some()
                    assert data, answer
                    answer += data
        body = answer.partition(b"\r\n\r\n")[2]
        status = int(answer[9:12])
        return status, "" if status == 101 else json.loads(body)["code"]

    async def becomes(self, wanted: tuple[int, str], token: str) -> None:
        """Make handshakes until this is their outcome, each after a change."""
        live = self.gateway.running.live
        with trio.fail_after(60):
            while True:
                entitled = live.entitled
                if await self.outcome(token) == wanted:
                    return
                await entitled.wait()

    async def event(self, key: str, data: bytes) -> None:
        """Publish an event to the gateway."""
        assert await self.publisher.publish(key, data)

    async def notify(self, kind: str, **members: Any) -> None:
        await self.event("notification", notification(kind, **members))

    @contextlib.asynccontextmanager
    async def client(self, token: str, reason: str) -> AsyncIterator[None]:
        """Hold a connection, which has to end with 1008 and this reason."""
        stream = await self.gateway.upgrade(PATH, token)
        async with stream:
            yield
            data = b""
            with trio.fail_after(60):
                while not (frames := split_frames(data)[0]):
                    received = await stream.receive_some()
                    assert received, "the connection ended without a Close"
                    data += received
        (close,) = frames
        assert (close.code, close.reason) == (1008, reason)


@pytest.fixture
async def world(
    nursery: trio.Nursery, base: Path, rabbitmq: RabbitMQ, key: rsa.RSAPrivateKey
) -> AsyncIterator[World]:
    backend = await start_echo(nursery)
    apim = await start_apim(nursery)
    apim.seed(backend.url)
    apim.add_key_manager(certificate(key), ISSUER)
    controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
    await controlled.current()
    async with publishing(rabbitmq.port) as publisher:
        yield World(apim, controlled, publisher, key)


def subscription(state: str = "UNBLOCKED", **members: Any) -> dict[str, Any]:
    return {
        "subscriptionId": 1,
        "subscriptionUUID": "sub-uuid-1",
        "apiId": 1,
        "apiUUID": CHAT,
        "applicationId": 2,
        "applicationUUID": "app-uuid-2",
        "policyId": "AsyncGold",
        "subscriptionState": state,
        **members,
    }


def mapping(consumer_key: str, key_type: str = "PRODUCTION") -> dict[str, Any]:
    return {
        "applicationId": 2,
        "applicationUUID": "app-uuid-2",
        "consumerKey": consumer_key,
        "keyType": key_type,
        "keyManager": KEY_MANAGER,
    }


async def test_10_a_subscription_is_removed_and_made_again(world: World) -> None:
    token = world.token()
    assert await world.outcome(token) == OK
    assert await world.outcome(world.token(azp="unknown")) == NOT_SUBSCRIBED
    async with world.client(token, "subscription removed"):
        await world.notify("SUBSCRIPTIONS_DELETE", **subscription())
        await world.becomes(NOT_SUBSCRIBED, token)
    await world.notify("SUBSCRIPTIONS_CREATE", **subscription())
    await world.becomes(OK, token)


async def test_11_12_states_of_a_subscription_in_the_order_of_their_time(world: World) -> None:
    token, now = world.token(), int(time.time() * 1000)
    sandbox = world.token(azp="client-2", keytype="PRODUCTION")
    await world.notify("APPLICATION_REGISTRATION_CREATE", **mapping("client-2", "SANDBOX"))
    await world.becomes(OK, sandbox)
    async with world.client(token, "subscription blocked"):
        blocked = subscription("PROD_ONLY_BLOCKED", timeStamp=now)
        await world.notify("SUBSCRIPTIONS_UPDATE", **blocked)
        await world.becomes((401, "900907"), token)
    assert await world.outcome(sandbox) == OK
    await world.notify("SUBSCRIPTIONS_UPDATE", **subscription(timeStamp=now - 1))
    async with world.client(sandbox, "subscription not active"):
        await world.notify("SUBSCRIPTIONS_UPDATE", **subscription("ON_HOLD", timeStamp=now + 1))
        await world.becomes((403, "900909"), token)
        assert await world.outcome(sandbox) == (403, "900909")
    await world.notify("SUBSCRIPTIONS_UPDATE", **subscription("BLOCKED", timeStamp=now + 2))
    await world.becomes((401, "900907"), sandbox)
    await world.notify("SUBSCRIPTIONS_UPDATE", **subscription(timeStamp=now + 3))
    await world.becomes(OK, token)


async def test_13_application_keys_come_and_go(world: World) -> None:
    token = world.token(azp="client-2")
    assert await world.outcome(token) == NOT_SUBSCRIBED
    await world.notify("APPLICATION_REGISTRATION_CREATE", **mapping("client-2"))
    await world.becomes(OK, token)
    async with world.client(token, "application key removed"):
        await world.notify("REMOVE_APPLICATION_KEYMAPPING", **mapping("client-2"))
        await world.becomes(NOT_SUBSCRIBED, token)
    assert await world.outcome(world.token()) == OK


async def test_14_an_api_is_blocked_in_its_life_cycle(world: World) -> None:
    token = world.token()
    async with world.client(token, "API blocked"):
        await world.notify("API_LIFECYCLE_CHANGE", uuid=CHAT, apiStatus="BLOCKED")
        await world.becomes((503, "700700"), token)
    await world.notify("API_LIFECYCLE_CHANGE", uuid=CHAT, apiStatus="PUBLISHED")
    await world.becomes(OK, token)


@pytest.mark.parametrize("named", ["jti", "signature"])
async def test_15_a_token_is_revoked(world: World, named: str) -> None:
    token = world.token(**({"jti": "token-1"} if named == "jti" else {}))
    text = "token-1" if named == "jti" else token.rpartition(".")[2]
    async with world.client(token, "token revoked"):
        await world.event("tokenRevocation", revocation(text, int(time.time() * 1000) + 60_000))
        await world.becomes(REVOKED, token)
    assert await world.outcome(world.token(jti="token-2")) == OK


async def test_16_a_key_manager_comes_and_goes(world: World) -> None:
    token = world.token(iss="https://other.example/token")
    assert await world.outcome(token) == INVALID
    pem = certificate(world.key).decode()
    value = {
        "issuer": "https://other.example/token",
        "self_validate_jwt": True,
        "certificate_type": "PEM",
        "certificate_value": pem,
    }
    await world.event("keymanager", key_manager("Other", "add", value))
    await world.becomes(NOT_SUBSCRIBED, token)
    await world.notify(
        "APPLICATION_REGISTRATION_CREATE", **{**mapping("client-1"), "keyManager": "Other"}
    )
    await world.becomes(OK, token)
    await world.event("keymanager", key_manager("OTHER", "delete", None))
    await world.becomes(INVALID, token)
    assert await world.outcome(world.token()) == OK


async def test_17_a_policy_changes_while_a_connection_is_open(world: World) -> None:
    gateway = world.gateway

    async def until(limit: int) -> None:
        with trio.fail_after(60):
            while True:
                entitled = gateway.running.live.entitled
                rows = gateway.running.live.entitlements.policies.values()
                if any(row.name == "AsyncGold" and row.limit == limit for row in rows):
                    return
                await entitled.wait()

    policies = world.apim.tables["subscription-policies"]
    gold = next(row for row in policies if row["name"] == "AsyncGold")
    limited = json.loads(json.dumps(gold).replace("10000", "2"))
    assert limited != gold
    policies[policies.index(gold)] = limited
    event = {"policyId": 2, "policyName": "AsyncGold", "quotaType": "eventCount"}
    await world.notify("POLICY_UPDATE", **event, policyType="SUBSCRIPTION", stopOnQuotaReach=True)
    await until(2)
    async with gateway.connect(PATH, world.token()) as client:
        for text in ("one", "two", "dropped"):
            await client.send(text)
        assert [await client.recv(), await client.recv()] == ["one", "two"]
        policies[policies.index(limited)] = {**gold, "stopOnQuotaReach": False}
        await world.notify(
            "POLICY_UPDATE", **event, policyType="SUBSCRIPTION", stopOnQuotaReach=False
        )
        await until(10_000)
        answer = ""
        with trio.fail_after(60):
            while not answer:
                await client.send("three")
                with trio.move_on_after(0.2):  # dropped: the change is not applied yet
                    answer = str(await client.recv())
        assert answer == "three"


def blocking(kind: str, value: object, *, state: bool, number: int = 9) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value)
    return payload(
        id=number,
        blockingCondition=kind,
        conditionValue=text,
        state="true" if state else "false",
        tenantDomain="carbon.super",
    )


LOOPBACK = {"fixedIp": "127.0.0.1", "startingIp": "", "endingIp": "", "invert": False}
RANGE = {"fixedIp": "", "startingIp": "127.0.0.0", "endingIp": "127.0.0.2", "invert": False}
BLOCKS: list[tuple[str, object, str]] = [
    ("API", "/chat/1.0.0", "api is blocked"),
    ("APPLICATION", "alice:ChatApp", "application is blocked"),
    ("USER", "bob@carbon.super", "user is blocked"),
    ("IP", LOOPBACK, "address is blocked"),
    ("IPRANGE", RANGE, "address is blocked"),
]


async def test_18_blocking_conditions(world: World) -> None:
    token = world.token()
    for kind, value, reason in BLOCKS:
        async with world.client(token, reason):
            await world.event("throttleData", blocking(kind, value, state=True))
            await world.becomes((403, "900805"), token)
        await world.event("throttleData", blocking(kind, value, state=False))
        await world.becomes(OK, token)
    subscribed = "/chat/1.0.0:1.0.0:alice-ChatApp:PRODUCTION"
    ends = {**RANGE, "startingIp": "127.0.0.1", "endingIp": "127.0.0.9"}
    await world.event("throttleData", blocking("SUBSCRIPTION", subscribed, state=True))
    await world.event("throttleData", blocking("IPRANGE", ends, state=True, number=10))
    await world.event("throttleData", blocking("USER", "carol", state=True))
    await world.becomes((403, "900805"), world.token(sub="carol"))
    assert await world.outcome(token) == OK
