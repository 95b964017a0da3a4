"""The backend JWT: every claim, the key set that verifies it, and when it is used again."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from support.assertions import verify
from trio_gw.config.api import ApiProject
from trio_gw.config.settings import BackendJwt
from trio_gw.guard.assertion import RENEWED, Assertions
from trio_gw.guard.caller import Application, Caller, Subscription, anonymous
from trio_gw.guard.certificates import KeyPair, load_pair

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_900_000_000.75
DIALECT = "http://wso2.org/claims"
API = ApiProject("Chat", "id", "Chat", "1.0.0", "/chat", ())
TOLD = {
    "iss": "https://issuer.example",
    "sub": "alice",
    "aud": "someone",
    "exp": 1_900_000_100,
    "nbf": 1,
    "iat": 2,
    "jti": "token-1",
    "application": {"id": 7},
    "tierInfo": {"Gold": {}},
    "subscribedAPIs": [{"name": "Chat"}],
    "scope": "read write",
    "realm": {"signing_tenant": "carbon.super"},
    "azp": "key",
    "name": "Zoë ☃",
}
CALLER = Caller(
    "alice",
    issuer="https://issuer.example",
    token_id="token-1",
    application=Application("App", "7", "uuid-7", "Gold", owner="bob"),
    subscription=Subscription("Silver"),
    payload=msgspec.json.encode(TOLD),
)


@pytest.fixture(scope="module")
def pair(own_certs: Path) -> KeyPair:
    return load_pair(own_certs / "mg.pem", own_certs / "mg.key")


def made(assertions: Assertions, caller: Caller = CALLER, now: float = NOW, **api: Any) -> str:
    header = assertions.header(caller, msgspec.structs.replace(API, **api), now)
    assert header is not None
    assert header[0] == b"x-jwt-assertion"
    return header[1].decode("ascii")


def verified(assertions: Assertions, token: str) -> dict[str, Any]:
    return verify(token, assertions.jwks).claims


def head_of(assertions: Assertions) -> dict[str, Any]:
    return verify(made(assertions), assertions.jwks).head


def test_e17_every_claim(pair: KeyPair) -> None:
    assertions = Assertions(BackendJwt(), pair)
    claims = verified(assertions, made(assertions))
    assert len(claims.pop("jti")) == 36
    assert claims == {
        "iss": "wso2.org/products/am",
        "iat": 1_900_000_000,
        "exp": 1_900_003_600,
        f"{DIALECT}/subscriber": "bob",
        f"{DIALECT}/applicationid": "7",
        f"{DIALECT}/applicationname": "App",
        f"{DIALECT}/applicationtier": "Gold",
        f"{DIALECT}/applicationUUId": "uuid-7",
        f"{DIALECT}/apiname": "Chat",
        f"{DIALECT}/apicontext": "/chat/1.0.0",
        f"{DIALECT}/version": "1.0.0",
        f"{DIALECT}/tier": "Silver",
        f"{DIALECT}/keytype": "PRODUCTION",
        f"{DIALECT}/usertype": "Application_User",
        f"{DIALECT}/enduser": "alice",
        f"{DIALECT}/enduserTenantId": "-1234",
        "scope": "read write",
        "realm": {"signing_tenant": "carbon.super"},
        "azp": "key",
        "name": "Zoë ☃",
    }


def test_claims_that_a_key_manager_renames(pair: KeyPair) -> None:
    assertions = Assertions(BackendJwt(), pair)
    renamed = (("azp", "iss"), ("name", "http://wso2.org/claims/givenname"), ("unknown", "x"))
    application = msgspec.structs.replace(CALLER.application, attributes=(("team", "a"),))
    caller = msgspec.structs.replace(CALLER, renamed=renamed, application=application)
    claims = verified(assertions, made(assertions, caller))
    assert claims["http://wso2.org/claims/givenname"] == "Zoë ☃"
    assert "name" not in claims
    assert claims["iss"] == "wso2.org/products/am", "never the caller's"
    assert claims[f"{DIALECT}/applicationAttributes"] == {"team": "a"}


def test_e18_the_key_set(pair: KeyPair) -> None:
    assertions = Assertions(BackendJwt(), pair)
    (key,) = json.loads(assertions.jwks)["keys"]
    der = pair.certificate.public_bytes(serialization.Encoding.DER)
    kid = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
    assert set(key) == {"kty", "n", "e", "use", "alg", "kid", "x5t"}
    assert (key["kty"], key["use"], key["alg"], key["kid"]) == ("RSA", "sig", "RS256", kid)
    head = head_of(assertions)
    assert head == {"typ": "JWT", "alg": "RS256", "kid": kid}
    named = Assertions(BackendJwt(key_id="x5t"), pair)
    head = head_of(named)
    assert head == {"typ": "JWT", "alg": "RS256", "x5t": key["x5t"]}


@pytest.mark.parametrize("encoding", ["base64", "base64url"])
def test_the_alphabets(pair: KeyPair, encoding: str) -> None:
    assertions = Assertions(BackendJwt(encoding=encoding), pair, cache_size=1)
    seen = ""
    for number in range(40):  # a signature of 256 random bytes almost always has both
        caller = msgspec.structs.replace(CALLER, subject=f"{number}?>~")
        token = made(assertions, caller)
        assert verified(assertions, token)[f"{DIALECT}/enduser"] == f"{number}?>~"
        seen += token
    assert "=" not in seen
    urlsafe = encoding == "base64url"
    assert ({"-", "_"} <= set(seen), {"+", "/"} <= set(seen)) == (urlsafe, not urlsafe)
    assert not (set("+/") if urlsafe else set("-_")) & set(seen)


@pytest.mark.parametrize(("dialect", "name"), [("", "enduser"), ("x/", "x/enduser")])
def test_dialect_issuer_and_validity(pair: KeyPair, dialect: str, name: str) -> None:
    settings = BackendJwt(dialect=dialect, issuer="me", validity=60)
    assertions = Assertions(settings, pair)
    claims = verified(assertions, made(assertions))
    assert (claims["iss"], claims["exp"] - claims["iat"], claims[name]) == ("me", 60, "alice")


def test_a_caller_cannot_claim_what_the_gateway_says(pair: KeyPair) -> None:
    """A claim of the token does not replace a claim of the gateway that has the same name."""
    spoof = {f"{DIALECT}/enduser": "root", f"{DIALECT}/apiname": "Other", "sub": "alice"}
    caller = msgspec.structs.replace(CALLER, payload=msgspec.json.encode(spoof))
    assertions = Assertions(BackendJwt(), pair)
    claims = verified(assertions, made(assertions, caller))
    assert (claims[f"{DIALECT}/enduser"], claims[f"{DIALECT}/apiname"]) == ("alice", "Chat")
    plain = Assertions(BackendJwt(dialect=""), pair)
    spoof = {"enduser": "root", "version": "9", "sub": "alice"}
    caller = msgspec.structs.replace(CALLER, payload=msgspec.json.encode(spoof))
    claims = verified(plain, made(plain, caller))
    assert (claims["enduser"], claims["version"]) == ("alice", "1.0.0")


def test_nothing_can_break_out_of_the_header(pair: KeyPair) -> None:
    odd = "x\r\nX-Admin: yes\r\n\r\n\0"
    caller = msgspec.structs.replace(
        CALLER, subject=odd, payload=msgspec.json.encode({"name": odd, odd: odd})
    )
    assertions = Assertions(BackendJwt(), pair)
    token = made(assertions, caller)
    assert token.isascii()
    assert token.isprintable()
    assert " " not in token
    assert verified(assertions, token)["name"] == odd


def test_nobody_vouches_for_an_anonymous_caller(pair: KeyPair) -> None:
    assert Assertions(BackendJwt(), pair).header(anonymous("192.0.2.1"), API, NOW) is None


def test_a_caller_without_more_claims(pair: KeyPair) -> None:
    assertions = Assertions(BackendJwt(), pair)
    claims = verified(assertions, made(assertions, Caller("alice")))
    assert claims[f"{DIALECT}/subscriber"] == "alice"
    assert f"{DIALECT}/tier" not in claims


def test_it_is_used_again_until_shortly_before_it_expires(pair: KeyPair) -> None:
    assertions = Assertions(BackendJwt(validity=60), pair)
    first = made(assertions, now=1000.0)
    assert made(assertions, now=1060.0 - RENEWED - 0.01) == first
    second = made(assertions, now=1060.0 - RENEWED)
    assert second != first
    assert made(assertions, now=1100.0) == second
    assert made(Assertions(BackendJwt(validity=1), pair), now=1000.0) != first


def test_no_other_caller_or_api_gets_it(pair: KeyPair) -> None:
    """The token id is not sufficient: another issuer or a renewed token may repeat it."""
    assertions = Assertions(BackendJwt(), pair)
    tokens = [
        made(assertions),
        made(assertions, version="2.0.0"),
        made(assertions, context="/other"),
        made(assertions, name="Other"),
        *(
            made(assertions, msgspec.structs.replace(CALLER, **change))
            for change in (
                {"token_id": "token-2"},
                {"issuer": "https://other.example"},
                {"payload": msgspec.json.encode({**TOLD, "scope": "admin"})},
                {"subscription": Subscription("Gold")},
                {"key_type": "SANDBOX"},
            )
        ),
    ]
    assert len(set(tokens)) == len(tokens)
    assert made(assertions) == tokens[0]


def test_what_is_kept_is_bounded(pair: KeyPair) -> None:
    assertions = Assertions(BackendJwt(), pair, cache_size=2)
    callers = [msgspec.structs.replace(CALLER, token_id=str(number)) for number in range(3)]
    first, second = made(assertions, callers[0]), made(assertions, callers[1])
    assert made(assertions, callers[0]) == first  # used most recently, so the other one is evicted
    made(assertions, callers[2])
    assert made(assertions, callers[0]) == first
    assert made(assertions, callers[1]) != second


@pytest.mark.parametrize(
    ("key", "alg", "kty"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256", "EC"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA", "OKP"),
    ],
)
def test_a_key_that_is_not_rsa_signs_as_it_can(
    pair: KeyPair,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    alg: str,
    kty: str,
) -> None:
    assertions = Assertions(BackendJwt(), KeyPair(pair.certificate, key))
    (public,) = json.loads(assertions.jwks)["keys"]
    assert (public["alg"], public["kty"]) == (alg, kty)
    assert "d" not in public
    assert verified(assertions, made(assertions))[f"{DIALECT}/enduser"] == "alice"


def test_the_key_set_holds_nothing_private(pair: KeyPair) -> None:
    (key,) = json.loads(Assertions(BackendJwt(), pair).jwks)["keys"]
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)
