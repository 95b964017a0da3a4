"""The built-in token issuer: every answer, every claim, and that its tokens open the gate."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import uuid
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support.visits import visit
from trio_gw.config import settings as config
from trio_gw.errors import Refusal
from trio_gw.guard import testkey
from trio_gw.guard.caller import Caller, check_key_type
from trio_gw.guard.certificates import KeyPair, ensure_certificate, load_pair
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_900_000_000.75
NO_HEADER = (
    "User is NOT authorized to generate a token."
    " Please provide a valid Authorization header to continue."
)
WRONG = "Wrong username or password. Please provide valid credentials."
MALFORMED = "Error occurred while processing the request."

USERS = (
    config.User("admin", "admin"),
    config.User("zoë", "pass:with:colons"),
    config.User("last", "pässword"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("testkey")
    moment = datetime.datetime.now(datetime.UTC)
    ensure_certificate(folder / "certs/mg.pem", folder / "certs/mg.key", moment)
    return folder


@pytest.fixture(scope="module")
def pair(folder: Path) -> KeyPair:
    return load_pair(folder / "certs/mg.pem", folder / "certs/mg.key")


@pytest.fixture
def minter(pair: KeyPair) -> testkey.TestKeys:
    return testkey.TestKeys(config.TestKey(users=USERS), pair)


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return decoded


def test_t1_the_published_credentials_give_a_token(minter: testkey.TestKeys) -> None:
    status, token = minter.answer(b"Basic YWRtaW46YWRtaW4=", b"scope=read:pets", NOW)
    assert status == 200
    assert token.count(".") == 2
    assert not token.endswith("\n")
    assert claims(token)["scope"] == "read:pets"


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.username)
def test_every_user_works(minter: testkey.TestKeys, user: config.User) -> None:
    status, token = minter.answer(basic(f"{user.username}:{user.password}"), b"", NOW)
    assert status == 200
    assert claims(token)["sub"] == user.username


@pytest.mark.parametrize("scheme", [b"basic ", b"BASIC ", b"Basic   "])
def test_the_scheme_is_taken_in_any_case(minter: testkey.TestKeys, scheme: bytes) -> None:
    assert minter.answer(scheme + b"YWRtaW46YWRtaW4=", b"", NOW)[0] == 200
    assert minter.answer(scheme + b"YWRtaW46YWRtaW4", b"", NOW)[0] == 200


def test_no_header_is_told_to_send_one(minter: testkey.TestKeys) -> None:
    assert minter.answer(None, b"scope=a", NOW) == (401, NO_HEADER)


@pytest.mark.parametrize(
    "header",
    [
        basic("admin:wrong"),
        basic("admin:"),
        basic(":admin"),
        basic(":"),
        basic("nobody:admin"),
        basic("Admin:admin"),
        basic("admin:pässword"),  # another user's
        basic("admin:admin "),
        basic("admin:admin:admin"),
        b"Basic " + base64.b64encode(b"admin:\xff\xfe"),
        b"",
        b" ",
        b"Bearer YWRtaW46YWRtaW4=",
        b"YWRtaW46YWRtaW4=",
        b"BasicYWRtaW46YWRtaW4=",
    ],
)
def test_wrong_credentials_and_other_schemes_are_refused(
    minter: testkey.TestKeys, header: bytes
) -> None:
    assert minter.answer(header, b"", NOW) == (401, WRONG)


@pytest.mark.parametrize(
    "credentials", [b"", b"****", b"YWRtaW4=", b"YWRt aW46", b"YWRtaW46YWRtaW4\xff", b"A"]
)
def test_malformed_basic_credentials_are_an_error(
    minter: testkey.TestKeys, credentials: bytes
) -> None:
    assert minter.answer(b"Basic " + credentials, b"", NOW) == (400, MALFORMED)


def test_nothing_is_remembered_from_one_request_to_the_next(minter: testkey.TestKeys) -> None:
    assert minter.answer(basic("admin:admin"), b"scope=a", NOW)[0] == 200
    assert minter.answer(b"Bearer x", b"", NOW) == (401, WRONG)
    assert minter.answer(b"Basic ****", b"", NOW) == (400, MALFORMED)
    assert minter.answer(None, b"", NOW) == (401, NO_HEADER)
    status, token = minter.answer(basic("admin:admin"), b"", NOW)
    assert status == 200
    assert "scope" not in claims(token)


def test_every_user_is_compared_on_every_attempt(
    minter: testkey.TestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown user, a wrong password and a right one cost the same comparisons."""
    compared: list[tuple[int, int]] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", counting)
    seen = []
    for text in ("nobody:x", "admin:x", "admin:admin", "last:pässword", "x" * 5000 + ":y"):
        minter.answer(basic(text), b"", NOW)
        seen.append(list(compared))
        compared.clear()
    assert seen == [[(32, 32)] * 2 * len(USERS)] * 5


@pytest.mark.parametrize(
    ("body", "scope"),
    [
        (b"", None),
        (b"scope=a", "a"),
        (b"scope=write:pets read:pets", "write:pets read:pets"),
        (b"scope=read%3Apets+x", "read%3Apets+x"),
        (b"scope=a&scope=b", "b"),
        (b"x=1&scope=a&y=2", "a"),
        (b"scope=a&scope=", "a"),
        (b"scope=", None),
        (b"scope", None),
        (b"scope=a=b", None),
        (b"scope=a=", "a"),
        (b"scope==a", None),
        (b"Scope=a", None),
        (b" scope=a", None),
        (b"=scope=a", None),
        (b"&&&===", None),
        (b"scope=\xc3\xa9", "é"),
        (b"scope=\xff", "\N{REPLACEMENT CHARACTER}"),
        (b'scope="}{\\', '"}{\\'),
    ],
)
def test_the_scope_is_read_as_received(
    minter: testkey.TestKeys, body: bytes, scope: str | None
) -> None:
    status, token = minter.answer(basic("admin:admin"), body, NOW)
    assert status == 200
    assert claims(token).get("scope") == scope
    assert ("scope" in claims(token)) == (scope is not None)


def test_the_token_is_what_the_reference_system_makes(
    minter: testkey.TestKeys, pair: KeyPair
) -> None:
    token = minter.mint("alice", "a b", NOW)
    header, payload, signature = token.split(".")
    der = pair.certificate.public_bytes(serialization.Encoding.DER)
    digest = hashlib.sha1(der, usedforsecurity=False).hexdigest()
    x5t = base64.urlsafe_b64encode(digest.encode()).decode()
    assert len(x5t) == 56
    assert x5t.endswith("==")
    assert base64.urlsafe_b64decode(header + "==").decode() == (
        f'{{"typ":"JWT","alg":"RS256","x5t":"{x5t}"}}'
    )
    found = claims(token)
    assert str(uuid.UUID(found.pop("jti"))) in base64.urlsafe_b64decode(payload + "==").decode()
    assert found == {
        "iss": "https://localhost:9095/testkey",
        "aud": "http://org.wso2.apimgt/gateway",
        "sub": "alice",
        "keytype": "PRODUCTION",
        "scope": "a b",
        "iat": 1_900_000_000,
        "exp": 1_900_003_600,
    }
    assert "=" not in token
    public = pair.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    algorithm = jwt.get_algorithm_by_name("RS256")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert algorithm.verify(f"{header}.{payload}".encode(), public, raw)


def test_no_two_tokens_are_the_same(minter: testkey.TestKeys) -> None:
    assert minter.mint("a", None, NOW) != minter.mint("a", None, NOW)


def test_issuer_and_validity_follow_the_settings(pair: KeyPair) -> None:
    settings = config.TestKey(issuer="https://gw.example/testkey", validity=60)
    found = claims(testkey.TestKeys(settings, pair).mint("a", "", NOW))
    assert found["scope"] == ""
    assert (found["iss"], found["exp"] - found["iat"]) == ("https://gw.example/testkey", 60)


async def test_t1_t2_the_token_opens_the_gate_but_no_sandbox(
    folder: Path, minter: testkey.TestKeys
) -> None:
    tokens = Tokens(KeyRing(config.Settings().issuers, folder))

    async def ask(token: str, now: float = NOW) -> Caller:
        return await visit(
            tokens,
            [(b"authorization", f"Bearer {token}".encode())],
            now,
            scopes=("read:pets", "other"),
        )

    _, token = minter.answer(basic("admin:admin"), b"scope=read:pets", NOW)
    caller = await ask(token)
    assert (caller.subject, caller.issuer_name) == ("admin", "MGW")
    assert check_key_type(caller, True, False) == "production"
    with pytest.raises(Refusal) as caught:
        check_key_type(caller, False, True)
    assert b"no production endpoint" in caught.value.body
    with pytest.raises(Refusal) as caught:
        await ask(token, NOW + 3605)
    assert caught.value.code == "900903"
    with pytest.raises(Refusal) as caught:
        await ask(minter.mint("admin", None, NOW))
    assert caught.value.code == "900910"


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_a_key_that_is_not_rsa_signs_as_it_can(
    pair: KeyPair, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, alg: str
) -> None:
    token = testkey.TestKeys(config.TestKey(), KeyPair(pair.certificate, key)).mint("a", None, NOW)
    header, payload, signature = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == alg
    raw = base64.urlsafe_b64decode(signature + "==")
    signed = f"{header}.{payload}".encode()
    assert jwt.get_algorithm_by_name(alg).verify(signed, key.public_key(), raw)


def test_no_password_is_kept_or_shown(minter: testkey.TestKeys) -> None:
    held = repr(vars(minter)) + repr(USERS) + repr(config.TestKey(users=USERS))
    for user in USERS[1:]:
        assert user.password not in held
        assert user.username in held
