"""The credential schemes besides the bearer token, their order, and the resulting callers.

For bearer tokens see test_tokens.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from support.secrets import secret, wrote
from support.visits import visit
from trio_gw.config.settings import Claims, Issuer
from trio_gw.errors import Refusal
from trio_gw.guard.caller import Application, Subscription
from trio_gw.guard.credentials import CredentialPlaces
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.revocations import Revocations
from trio_gw.guard.schemes import Verifiers
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.guard.caller import Caller

NOW = 1_900_000_000.0
SELF = "https://self.example/token"
MAPPED = "https://mapped.example/token"
PUBLISHER = "https://publisher.example/token"
KEYS = "https://keys.example/token"
HINT = "Make sure you have provided the correct security credentials"
FORBIDDEN = "Resource forbidden "
NOT_SUBSCRIBED = (
    "User is NOT authorized to access the Resource. API Subscription validation failed."
)
PLACES = CredentialPlaces(
    internal_key=b"internal-key",
    api_key_headers=(b"apikey",),
    api_key_parameters=("apikey",),
    query_token=True,
)
CHAT = {
    "name": "Chat",
    "context": "/chat/1.0.0",
    "version": "1.0.0",
    "publisher": "alice",
    "subscriptionTier": "Gold",
    "subscriberTenantDomain": "carbon.super",
}


class World:
    """Issuers of each kind, with one key each."""

    def __init__(self, folder: Path) -> None:
        issuers = (
            Issuer(SELF, name="Self", jwks="self.json", validate_subscription=True),
            Issuer(
                MAPPED,
                jwks="mapped.json",
                audience=("gateway", "other"),
                consumer_key_claim="cid",
                claims=Claims("user.name", "scp", "env", "app", "tid"),
            ),
            Issuer(PUBLISHER, name="Publisher", jwks="publisher.json"),
            Issuer(KEYS, name="Keys", jwks="keys.json"),
        )
        self.signers = {issuer.issuer: rsa.generate_private_key(65537, 2048) for issuer in issuers}
        for issuer in issuers:
            key = RSAAlgorithm.to_jwk(self.signers[issuer.issuer].public_key(), as_dict=True)
            (folder / issuer.jwks).write_text(json.dumps({"keys": [key]}))
        ring = KeyRing(issuers, folder)
        self.guard = Verifiers(Tokens(ring), Revocations(), internal_key=PUBLISHER, api_key=KEYS)
        self.off = Verifiers(Tokens(ring), Revocations())

    def token(self, issuer: str, *, signer: str = "", drop: str = "", **claims: Any) -> bytes:
        """Sign a token with the issuer's key, or with that of `signer`."""
        every = {"iss": issuer, "sub": "bob", "exp": int(NOW) + 600, "jti": "id-1"} | claims
        every.pop(drop, None)
        key = self.signers[signer or issuer]
        return secret(jwt.encode(every, key, algorithm="RS256")).encode()

    async def ask(self, *headers: tuple[bytes, bytes], **options: Any) -> Caller:
        """Authenticate a request to the API Chat 1.0.0, which accepts API keys."""
        guard = options.pop("guard", self.guard)
        about = {"api": "Chat", "version": "1.0.0", "base_path": "/chat/1.0.0", "api_key": True}
        options = {"places": PLACES, **about, **options}
        return await visit(guard, headers, NOW, **options)

    async def refused(self, *headers: tuple[bytes, bytes], **options: Any) -> tuple[int, str, str]:
        """Return status, code and description of the refusal."""
        with pytest.raises(Refusal) as caught:
            await self.ask(*headers, **options)
        refusal = caught.value
        wrote(f"{refusal} {refusal.body!r}", "refusal")
        body = json.loads(refusal.body)
        assert body.get("code") == refusal.code
        return refusal.status, refusal.code, body.get("error_description", body.get("description"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("issuers"))


def bearer(token: bytes) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token


# --- claims ---


async def test_an_issuer_names_its_claims(world: World) -> None:
    claims: dict[str, Any] = {
        "user": {"name": "carol"},
        "scp": ["read", "write"],
        "env": "sandbox",
        "cid": "key-1",
        "tid": "t-1",
        "aud": ["x", "other"],
        "scope": "none-of-these",
    }
    caller = await world.ask(bearer(world.token(MAPPED, **claims)), scopes=("write",))
    assert (caller.subject, caller.key_type, caller.consumer_key, caller.token_id) == (
        "carol",
        "SANDBOX",
        "key-1",
        "t-1",
    )
    assert caller.scopes == {"read", "write"}


async def test_a_claim_with_a_dot_in_its_name_comes_before_a_path(world: World) -> None:
    claims: dict[str, Any] = {"user.name": "dot", "user": {"name": "path"}, "aud": "gateway"}
    assert (await world.ask(bearer(world.token(MAPPED, **claims)))).subject == "dot"


@pytest.mark.parametrize("user", ["text", 5, None, [], {"name": 5}, {}])
async def test_a_path_into_nothing_finds_nothing(world: World, user: object) -> None:
    token = world.token(MAPPED, user=user, aud="gateway")
    assert (await world.ask(bearer(token))).subject == ""


@pytest.mark.parametrize("aud", ["gateway", ["a", "gateway"], ["other"]])
async def test_an_audience_that_is_ours(world: World, aud: object) -> None:
    assert (await world.ask(bearer(world.token(MAPPED, aud=aud)))).issuer == MAPPED


@pytest.mark.parametrize("aud", ["", "Gateway", "gateway ", [], ["x"], [["gateway"]], 5, None, {}])
async def test_an_audience_that_is_not(world: World, aud: object) -> None:
    token = world.token(MAPPED, aud=aud)
    assert await world.refused(bearer(token)) == (401, "900901", f"Invalid Credentials. {HINT}")


async def test_no_audience_at_all(world: World) -> None:
    assert (await world.refused(bearer(world.token(MAPPED))))[1] == "900901"


# --- subscriptions: rows F and G ---


async def test_j22_a_subscription_in_the_token_gives_its_tiers(world: World) -> None:
    application = {
        "id": 7,
        "uuid": "u-7",
        "name": "App",
        "tier": "10PerMin",
        "owner": "bob",
        "tierQuotaType": "bandwidthVolume",
    }
    token = world.token(
        SELF,
        application=application,
        subscribedAPIs=[{"name": "Other", "version": "1.0.0"}, CHAT],
        tierInfo={"Gold": {"stopOnQuotaReach": False, "spikeArrestLimit": 0}},
        consumerKey="ck",
    )
    caller = await world.ask(bearer(token))
    assert caller.application == Application("App", "7", "u-7", "10PerMin", "bob", by_bytes=True)
    assert caller.subscription == Subscription("Gold", False, "alice", "carbon.super")
    assert caller.consumer_key == "ck"


@pytest.mark.parametrize(
    "tiers", [{}, {"Gold": {}}, {"Gold": {"stopOnQuotaReach": True}}, {"Gold": 1}, [], 5, None]
)
async def test_reaching_the_quota_stops_unless_the_tier_says_otherwise(
    world: World, tiers: object
) -> None:
    token = world.token(SELF, subscribedAPIs=[CHAT], tierInfo=tiers)
    assert (await world.ask(bearer(token))).subscription.stop_on_quota is True


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [{**CHAT, "name": "chat"}],
        [{**CHAT, "version": "1.0"}],
        [{"context": "/chat/1.0.0", "version": "1.0.0"}],
        [5, None, "Chat", ["Chat"]],
        [{"name": ["Chat"], "version": {}}],
        {},
        "Chat",
        5,
    ],
    ids=str,
)
async def test_j23_row_f_not_subscribed_by_the_token(world: World, listed: object) -> None:
    token = world.token(SELF, subscribedAPIs=listed, consumerKey="ck")
    assert await world.refused(bearer(token)) == (403, "900908", FORBIDDEN)


async def test_row_g_nobody_knows_of_a_subscription(world: World) -> None:
    token = world.token(SELF, azp="ck")
    assert await world.refused(bearer(token)) == (403, "900908", NOT_SUBSCRIBED)


async def test_row_f_without_even_a_consumer_key(world: World) -> None:
    assert await world.refused(bearer(world.token(SELF))) == (403, "900908", FORBIDDEN)


async def test_the_subscription_is_looked_at_for_each_api_cached_or_not(world: World) -> None:
    token = world.token(SELF, subscribedAPIs=[CHAT])
    for _ in range(2):
        await world.ask(bearer(token))
        assert (await world.refused(bearer(token), api="Other"))[1] == "900908"


async def test_scopes_come_after_the_subscription(world: World) -> None:
    token = world.token(SELF, subscribedAPIs=[CHAT], scope="a")
    assert (await world.refused(bearer(token), scopes=("b",)))[1] == "900910"
    assert (await world.refused(bearer(token), scopes=("b",), api="Other"))[1] == "900908"


# --- Internal-Key ---


def internal(token: bytes) -> tuple[bytes, bytes]:
    return b"internal-key", token


async def test_j16_an_internal_key_opens_the_api_it_names_without_scopes(world: World) -> None:
    # Signed by the publisher's key; its claim about the issuer does not matter.
    token = world.token(
        SELF,
        signer=PUBLISHER,
        token_type="InternalKey",
        subscribedAPIs=[CHAT],
        keytype="SANDBOX",
        application={"name": "mine", "tier": "Gold"},
    )
    caller = await world.ask(internal(token), scopes=("any",))
    assert (caller.subject, caller.scheme, caller.key_type) == ("bob", "internal-key", "SANDBOX")
    assert caller.application == Application("internal-key-app", tier="Unlimited")
    assert caller.subscription == Subscription("Unlimited")


async def test_j15_a_tampered_internal_key_before_and_after_a_valid_one(world: World) -> None:
    token = world.token(PUBLISHER, token_type="InternalKey", subscribedAPIs=[CHAT])
    row = (401, "900901", f"Invalid Credentials. {HINT}")
    assert await world.refused(internal(token[:-4])) == row
    await world.ask(internal(token))
    assert await world.refused(internal(token[:-4])) == row


async def test_j17_what_is_no_internal_key(world: World) -> None:
    row_a = (401, "900901", HINT)
    token = world.token(PUBLISHER, subscribedAPIs=[CHAT])
    assert await world.refused(internal(token)) == row_a
    other = world.token(PUBLISHER, token_type="apiKey", subscribedAPIs=[CHAT])
    assert await world.refused(internal(other)) == row_a
    unlike = (401, "900901", f"Internal key authentication failed.. {HINT}")
    assert await world.refused(internal(b"aaa.bbb.ccc")) == unlike
    for value in (b"", b"abc", b"a.b", b"a.b.", b"a.b.c.d"):
        assert await world.refused(internal(value)) == row_a


async def test_j18_an_expired_internal_key(world: World) -> None:
    claims: dict[str, Any] = {
        "token_type": "InternalKey",
        "subscribedAPIs": [CHAT],
        "exp": int(NOW) - 6,
    }
    row = (401, "900901", f"Invalid Credentials. {HINT}")
    assert await world.refused(internal(world.token(PUBLISHER, **claims))) == row
    endless = world.token(PUBLISHER, drop="exp", **claims)
    assert await world.refused(internal(endless)) == row


async def test_an_internal_key_by_another_key(world: World) -> None:
    token = world.token(PUBLISHER, signer=SELF, token_type="InternalKey", subscribedAPIs=[CHAT])
    row = (401, "900901", f"Invalid Credentials. {HINT}")
    assert await world.refused(internal(token)) == row


@pytest.mark.parametrize(
    "listed",
    [
        None,
        [],
        [{**CHAT, "context": "/chat"}],
        [{**CHAT, "version": "2"}],
        [{"name": "Chat", "version": "1.0.0"}],
    ],
    ids=str,
)
async def test_row_f_an_internal_key_for_another_api(world: World, listed: object) -> None:
    token = world.token(PUBLISHER, token_type="InternalKey", subscribedAPIs=listed)
    assert await world.refused(internal(token)) == (403, "900908", FORBIDDEN)


async def test_after_an_internal_key_that_fails_a_bearer_token_may_succeed(world: World) -> None:
    token = world.token(SELF, subscribedAPIs=[CHAT])
    caller = await world.ask(internal(b"aaa.bbb.ccc"), bearer(token))
    assert (caller.subject, caller.scheme) == ("bob", "oauth2")


async def test_of_two_failures_the_first_is_told(world: World) -> None:
    headers = (internal(b"aaa.bbb.ccc"), bearer(b"aaa.bbb.ccc"))
    assert (await world.refused(*headers))[2].startswith("Internal key authentication failed..")
    assert (await world.refused(*headers, guard=world.off))[2].startswith("Not a JWT token.")


async def test_internal_keys_are_off_unless_asked_for(world: World) -> None:
    token = world.token(PUBLISHER, token_type="InternalKey", subscribedAPIs=[CHAT])
    assert await world.refused(internal(token), guard=world.off) == (401, "900901", HINT)


async def test_no_kind_of_token_passes_for_another(world: World) -> None:
    claims: dict[str, Any] = {"subscribedAPIs": [CHAT], "scope": "s"}
    invalid = (401, "900901", f"Invalid Credentials. {HINT}")
    key = world.token(KEYS, token_type="apiKey", **claims)
    console = world.token(PUBLISHER, token_type="InternalKey", **claims)
    access = world.token(KEYS, **claims)
    for _ in range(2):  # a verified credential of the same kind changes nothing
        await world.ask((b"apikey", key))
        await world.ask(internal(console))
        await world.ask(bearer(access))
        assert await world.refused(bearer(key)) == invalid
        assert await world.refused(bearer(console)) == invalid
        assert await world.refused((b"apikey", access)) == (401, "900901", HINT)
        assert await world.refused((b"apikey", console)) == (401, "900901", HINT)


# --- API keys ---


async def test_an_api_key_opens_a_topic_that_names_such_a_scheme(world: World) -> None:
    token = world.token(
        "whoever",
        signer=KEYS,
        drop="exp",
        token_type="apiKey",
        subscribedAPIs=[CHAT],
        application={"name": "App", "id": 3, "tier": "Gold"},
    )
    for options in ({}, {"scopes": ("any",), "oauth2": False}):
        caller = await world.ask((b"apikey", token), **options)
        assert (caller.subject, caller.scheme, caller.expires_at) == ("bob", "api-key", None)
        assert (caller.application.name, caller.subscription.tier) == ("App", "Gold")
    caller = await world.ask(query=f"a=1&apikey={token.decode()}&b=2")
    assert caller.scheme == "api-key"


async def test_an_api_key_is_nothing_where_none_is_asked_for(world: World) -> None:
    token = world.token(KEYS, token_type="apiKey", subscribedAPIs=[CHAT])
    row = (401, "900901", HINT)
    assert await world.refused((b"apikey", token), api_key=False) == row
    assert await world.refused((b"apikey", token), guard=world.off) == row


@pytest.mark.parametrize("value", [b"", b"x", b"a.b", b"a.b.c.d", b"a.b.%s" % (b"c" * 16_400)])
async def test_what_is_no_api_key(world: World, value: bytes) -> None:
    assert await world.refused((b"apikey", value)) == (401, "900901", HINT)


async def test_api_keys_that_are_not_good(world: World) -> None:
    claims: dict[str, Any] = {"token_type": "apiKey", "subscribedAPIs": [CHAT]}
    invalid = (401, "900901", f"Invalid Credentials. {HINT}")
    late = world.token(KEYS, **claims, exp=int(NOW) - 6)
    assert await world.refused((b"apikey", late)) == invalid
    for exp in ("1", 1e300, True, None):
        strange = _sign(world, {"iss": KEYS, "exp": exp, **claims})
        assert await world.refused((b"apikey", strange)) == invalid
    other = world.token(KEYS, signer=SELF, **claims)
    assert await world.refused((b"apikey", other)) == invalid
    elsewhere = world.token(KEYS, **claims)
    assert await world.refused((b"apikey", elsewhere), api="X") == (403, "900908", FORBIDDEN)


def _sign(world: World, claims: dict[str, Any]) -> bytes:
    """Sign claims that the library refuses to encode."""
    signer = jwt.api_jws.PyJWS()
    payload = json.dumps(claims).encode()
    return signer.encode(payload, world.signers[KEYS], algorithm="RS256").encode()


@pytest.mark.parametrize(
    ("permitted", "address", "fits"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("198.51.100.7, 192.0.2.0/24", "192.0.2.200", True),
        ("192.0.2.0/24", "192.0.3.1", False),
        ("192.0.2.9/24", "192.0.2.1", True),
        ("2001:db8::/32", "2001:db8::7", True),
        ("2001:db8::/32", "2001:db9::7", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("192.0.2.0/24", "2001:db8::7", False),
        ("nonsense", "192.0.2.1", False),
        ("nonsense,192.0.2.1", "192.0.2.1", True),
        ("192.0.2.0/33", "192.0.2.1", False),
        (["192.0.2.1"], "192.0.2.1", False),
        (5, "192.0.2.1", False),
        (" ", "192.0.2.1", False),
        ("", "192.0.2.1", True),
        (None, "192.0.2.1", True),
        ("0.0.0.0/0", "", False),
    ],
)
async def test_an_api_key_bound_to_addresses(
    world: World, permitted: object, address: str, fits: bool
) -> None:
    claims: dict[str, Any] = {"token_type": "apiKey", "subscribedAPIs": [CHAT]}
    token = world.token(KEYS, permittedIP=permitted, **claims)
    if fits:
        assert (await world.ask((b"apikey", token), address=address)).scheme == "api-key"
    else:
        row = await world.refused((b"apikey", token), address=address)
        assert row == (403, "900908", FORBIDDEN)


@pytest.mark.parametrize(
    ("permitted", "referers", "fits"),
    [
        ("https://a.example/x", (b"https://a.example/x",), True),
        ("https://a.example/x", (b"https://a.example/xy",), False),
        ("https://a.example/*", (b"https://a.example/any/thing?q=1",), True),
        ("https://a.example/*", (b"https://a.example.evil/",), False),
        ("*.example/*", (b"https://a.example/",), True),
        ("x.test, *a*b*c*", (b"1a2b3c4",), True),
        ("*a*b*c*", (b"1c2b3a4",), False),
        ("ab*ba", (b"aba",), False),
        ("ab*ba", (b"abba",), True),
        ("*", (b"anything",), True),
        ("*", (b"has a blank",), False),
        ("*", (), False),
        ("*", (b"one", b"two"), False),
        ("a.c", (b"abc",), False),
        (["*"], (b"x",), False),
        ("", (), True),
        (None, (), True),
        ("*a" * 2000, (b"a" * 8000,), True),
        ("*a" * 2000 + "b", (b"a" * 8000,), False),  # immediately, for any credential
    ],
)
async def test_an_api_key_bound_to_pages(
    world: World, permitted: object, referers: tuple[bytes, ...], fits: bool
) -> None:
    claims: dict[str, Any] = {"token_type": "apiKey", "subscribedAPIs": [CHAT]}
    token = world.token(KEYS, permittedReferer=permitted, **claims)
    if fits:
        assert (await world.ask((b"apikey", token), referers=referers)).scheme == "api-key"
    else:
        row = await world.refused((b"apikey", token), referers=referers)
        assert row == (403, "900908", FORBIDDEN)


# --- credentials from a browser ---


async def test_a_token_among_the_subprotocols_or_in_the_query(world: World) -> None:
    token = world.token(SELF, subscribedAPIs=[CHAT]).decode()
    assert (await world.ask(protocols=("bearer", token))).subject == "bob"
    assert (await world.ask(query=f"access_token={token}")).subject == "bob"


async def test_two_credentials_are_refused(world: World) -> None:
    token = world.token(SELF, subscribedAPIs=[CHAT])
    text = token.decode()
    for headers, options in (
        ([bearer(token)], {"protocols": ("bearer", text)}),
        ([bearer(token)], {"query": f"access_token={text}"}),
        ([], {"protocols": ("bearer", text), "query": f"access_token={text}"}),
        ([], {"query": f"access_token={text}&access_token={text}"}),
    ):
        status, code, description = await world.refused(*headers, **options)
        assert (status, code) == (400, "400")
        assert description == (
            "The request holds more than one access token: send the credential once, in one place"
        )
