"""Subscriptions of the control plane: look-ups, handshakes, and the resulting caller."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from msgspec import structs

from support.secrets import secret, wrote
from support.visits import visit
from trio_gw.config.entitlements import (
    ApiRow,
    ApplicationRow,
    Change,
    Entitlements,
    KeyMappingRow,
    PolicyRow,
    Row,
    SubscriptionRow,
    of_rows,
)
from trio_gw.config.settings import Issuer
from trio_gw.errors import Refusal
from trio_gw.guard.caller import Application, Caller, Subscription
from trio_gw.guard.credentials import CredentialPlaces
from trio_gw.guard.entitlement import Denial, Grant, find
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.revocations import Revocations
from trio_gw.guard.schemes import Verifiers
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_900_000_000.0
ISSUER = "https://am.example/token"
OPEN = "https://open.example/token"
API = ApiRow("api-1", "Chat", "1.0.0", "/chat/1.0.0", provider="admin")
APPLICATION = ApplicationRow(
    "app-1", "7", "App", "alice", tier="10PerMin", attributes={"b": "2", "a": "1"}
)
MAPPING = KeyMappingRow("key-1", "Resident", "app-1")
SUBSCRIPTION = SubscriptionRow(3, "api-1", "app-1", "Gold")
GOLD = PolicyRow("subscription", 1, "Gold", "eventCount", 10, 60, stop_on_quota=False)
ROWS: tuple[Row, ...] = (API, APPLICATION, MAPPING, SUBSCRIPTION, GOLD)
NOT_SUBSCRIBED = (
    "User is NOT authorized to access the Resource. API Subscription validation failed."
)
BODIES = {
    Denial.NO_API: (403, "900908", "Resource forbidden ", NOT_SUBSCRIBED),
    Denial.NO_KEY: (403, "900908", "Resource forbidden ", NOT_SUBSCRIBED),
    Denial.NO_APPLICATION: (403, "900908", "Resource forbidden ", NOT_SUBSCRIBED),
    Denial.NO_SUBSCRIPTION: (403, "900908", "Resource forbidden ", NOT_SUBSCRIBED),
    Denial.BLOCKED: (
        401,
        "900907",
        "The requested API is temporarily blocked",
        "API Subscription is blocked",
    ),
    Denial.INACTIVE: (403, "900909", "The subscription to the API is inactive", NOT_SUBSCRIBED),
    Denial.API_BLOCKED: (
        503,
        "700700",
        "API blocked",
        "This API has been blocked temporarily. Please try again later or contact the system"
        " administrators.",
    ),
}  # fmt: skip


def rows(*changed: Row, without: Row | None = None) -> Entitlements:
    kept = tuple(row for row in ROWS if row is not without)
    return of_rows((*kept, *changed))


def look(entitlements: Entitlements) -> Grant | Denial:
    return find(entitlements, "key-1", "Resident", "api-1", "carbon.super")


def test_a_subscription_gives_application_tiers_and_owner() -> None:
    assert look(rows()) == Grant(
        Application(
            "App", "7", "app-1", "10PerMin", "alice", attributes=(("a", "1"), ("b", "2"))
        ),
        Subscription("Gold", stop_on_quota=False, publisher="admin", tenant="carbon.super"),
        "PRODUCTION",
    )  # fmt: skip


def test_a_missing_policy_stops_at_the_quota() -> None:
    found = look(rows(structs.replace(APPLICATION, tier=""), without=GOLD))
    assert isinstance(found, Grant)
    assert found.subscription.stop_on_quota
    assert found.subscription.tier == "Gold"
    assert found.application.tier == "Unlimited"
    assert not found.application.by_bytes


@pytest.mark.parametrize(("level", "name"), [("application", "10PerMin"), ("subscription", "Gold")])
def test_either_policy_may_count_bytes(level: Any, name: str) -> None:
    found = look(rows(PolicyRow(level, 9, name, "bandwidthVolume", 10, 60)))
    assert isinstance(found, Grant)
    assert found.application.by_bytes


STATES = [
    (rows(without=API), Denial.NO_API),
    (rows(without=MAPPING), Denial.NO_KEY),
    (rows(structs.replace(MAPPING, key_manager="Other"), without=MAPPING), Denial.NO_KEY),
    (rows(without=APPLICATION), Denial.NO_APPLICATION),
    (rows(without=SUBSCRIPTION), Denial.NO_SUBSCRIPTION),
    (rows(structs.replace(SUBSCRIPTION, api_uuid="api-2")), Denial.NO_SUBSCRIPTION),
    (rows(structs.replace(SUBSCRIPTION, state="BLOCKED")), Denial.BLOCKED),
    (rows(structs.replace(SUBSCRIPTION, state="ON_HOLD")), Denial.INACTIVE),
    (rows(structs.replace(SUBSCRIPTION, state="REJECTED")), Denial.INACTIVE),
    (rows(structs.replace(SUBSCRIPTION, state="PROD_ONLY_BLOCKED")), Denial.BLOCKED),
    (rows(structs.replace(API, status="BLOCKED")), Denial.API_BLOCKED),
    (
        rows(
            structs.replace(SUBSCRIPTION, state="BLOCKED"), structs.replace(API, status="BLOCKED")
        ),
        Denial.BLOCKED,
    ),
]


@pytest.mark.parametrize(("entitlements", "denial"), STATES)
def test_what_an_application_may_not_use(entitlements: Entitlements, denial: Denial) -> None:
    assert look(entitlements) is denial


@pytest.mark.parametrize("state", ["UNBLOCKED", "TIER_UPDATE_PENDING", "", "PROD_ONLY_BLOCKED"])
def test_states_that_allow_a_sandbox_key(state: str) -> None:
    found = look(
        rows(
            structs.replace(SUBSCRIPTION, state=state),
            structs.replace(MAPPING, key_type="Sandbox"),
        )
    )
    assert isinstance(found, Grant)
    assert found.key_type == "SANDBOX"


def test_of_two_subscriptions_to_an_api_the_newer_counts() -> None:
    found = look(rows(structs.replace(SUBSCRIPTION, id=4, state="BLOCKED")))
    assert found is Denial.BLOCKED


def test_a_look_up_among_50_000_subscriptions_takes_microseconds() -> None:
    many = of_rows(
        row
        for number in range(50_000)
        for row in (
            ApplicationRow(f"app-{number}", str(number), f"App {number}"),
            KeyMappingRow(f"key-{number}", "Resident", f"app-{number}"),
            SubscriptionRow(number, f"api-{number % 2000}", f"app-{number}", "Gold"),
        )
    )
    many = many.apply(Change((GOLD, *(ApiRow(f"api-{number}") for number in range(2000)))))
    began = time.perf_counter()
    for number in range(0, 50_000, 50):
        found = find(many, f"key-{number}", "Resident", f"api-{number % 2000}")
        assert isinstance(found, Grant)
    assert (time.perf_counter() - began) / 1000 < 0.0005


# --- handshakes ---


class World:
    """Two issuers that share a key, and the entitlements of a control plane."""

    def __init__(self, folder: Path) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        (folder / "keys.json").write_text(json.dumps({"keys": [public]}))
        issuers = (
            Issuer(ISSUER, name="Resident", jwks="keys.json", validate_subscription=True),
            Issuer(OPEN, name="Open", jwks="keys.json"),
        )
        self.current = rows()
        self.guard = Verifiers(
            Tokens(KeyRing(issuers, folder)),
            Revocations(),
            internal_key=ISSUER,
            api_key=ISSUER,
            entitlements=lambda: self.current,
            tenant="carbon.super",
        )

    def token(self, **claims: Any) -> bytes:
        every = {"iss": ISSUER, "sub": "bob", "exp": int(NOW) + 600, "azp": "key-1"} | claims
        every = {name: value for name, value in every.items() if value is not None}
        return secret(jwt.encode(every, self.key, algorithm="RS256")).encode()

    async def ask(self, name: bytes = b"authorization", **claims: Any) -> Caller:
        value = self.token(**claims)
        bearer = name == b"authorization"
        return await visit(
            self.guard,
            [(name, b"Bearer " + value if bearer else value)],
            NOW,
            places=CredentialPlaces(internal_key=b"internal-key", api_key_headers=(b"apikey",)),
            api="Chat",
            version="1.0.0",
            base_path="/chat/1.0.0",
            api_uuid="api-1",
            api_key=True,
        )

    async def refused(
        self, name: bytes = b"authorization", **claims: Any
    ) -> tuple[int, str, str, str]:
        with pytest.raises(Refusal) as caught:
            await self.ask(name, **claims)
        refusal = caught.value
        wrote(f"{refusal} {refusal.body!r}", "refusal")
        body = json.loads(refusal.body)
        assert list(body) == ["error_message", "code", "error_description"]
        assert any(name == b"www-authenticate" for name, _ in refusal.headers)
        return refusal.status, body["code"], body["error_message"], body["error_description"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("issuers"))


@pytest.fixture
def world(folder: World) -> World:
    folder.current = rows()
    return folder


async def test_a_token_without_subscriptions_is_looked_up(world: World) -> None:
    caller = await world.ask()
    found = look(world.current)
    assert isinstance(found, Grant)
    assert caller.application == found.application
    assert caller.subscription == found.subscription
    assert caller.entitled
    assert caller.key_type == "PRODUCTION"


@pytest.mark.parametrize(("entitlements", "denial"), STATES)
async def test_refusals_of_handshakes(
    world: World, entitlements: Entitlements, denial: Denial
) -> None:
    world.current = entitlements
    assert await world.refused() == BODIES[denial]


async def test_a_change_counts_for_a_token_that_was_verified_before(world: World) -> None:
    await world.ask()
    world.current = rows(without=SUBSCRIPTION)
    assert (await world.refused())[:2] == (403, "900908")
    world.current = rows()
    await world.ask()


async def test_a_token_without_a_consumer_key_is_refused(world: World) -> None:
    assert await world.refused(azp=None) == (
        403, "900908", "Resource forbidden ", "Resource forbidden ",
    )  # fmt: skip


async def test_a_token_with_subscriptions_is_not_looked_up(world: World) -> None:
    entry = {"name": "Chat", "version": "1.0.0", "subscriptionTier": "Silver"}
    world.current = rows(without=SUBSCRIPTION)
    caller = await world.ask(subscribedAPIs=[entry])
    assert caller.subscription.tier == "Silver"
    assert not caller.entitled
    assert (await world.refused(subscribedAPIs=[]))[:2] == (403, "900908")


async def test_the_key_type_of_the_token_wins_over_that_of_the_key(world: World) -> None:
    world.current = rows(structs.replace(MAPPING, key_type="SANDBOX"))
    assert (await world.ask()).key_type == "SANDBOX"
    assert (await world.ask(keytype="PRODUCTION")).key_type == "PRODUCTION"


async def test_an_issuer_without_validation_needs_no_subscription(world: World) -> None:
    world.current = rows(without=SUBSCRIPTION)
    caller = await world.ask(iss=OPEN)
    assert caller.application.name == "anon:Open"
    assert not caller.entitled


async def test_a_blocked_api_refuses_every_credential(world: World) -> None:
    entry = {"name": "Chat", "version": "1.0.0", "context": "/chat/1.0.0"}
    inside: list[tuple[bytes, dict[str, Any]]] = [
        (b"authorization", {}),
        (b"authorization", {"iss": OPEN}),
        (b"authorization", {"subscribedAPIs": [entry]}),
        (b"internal-key", {"token_type": "InternalKey", "subscribedAPIs": [entry]}),
        (b"apikey", {"token_type": "apiKey", "subscribedAPIs": [entry]}),
    ]
    for name, claims in inside:
        await world.ask(name, **claims)
    world.current = rows(structs.replace(API, status="BLOCKED"))
    for name, claims in inside:
        assert await world.refused(name, **claims) == BODIES[Denial.API_BLOCKED]
    with pytest.raises(Refusal):
        await visit(world.guard, [], NOW, secured=False, api_uuid="api-1")
    assert (await visit(world.guard, [], NOW, secured=False, api_uuid="api-2")).anonymous
