"""The built-in token issuer: each answer, each claim, and that the gateway accepts its tokens."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import threading
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from support.visits import visit
from trio_gw.config import passwords
from trio_gw.config import settings as config
from trio_gw.errors import Refusal
from trio_gw.guard import accounts, attempts, testkey
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


async def answer(
    minter: testkey.TestKeys,
    authorization: bytes | None,
    body: bytes = b"",
    now: float = NOW,
    *,
    address: str = "192.0.2.1",
    at: float = 0.0,
) -> tuple[int, str]:
    return await minter.answer(authorization, body, now, address=address, at=at)


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return decoded


async def test_t1_the_published_credentials_give_a_token(minter: testkey.TestKeys) -> None:
    status, token = await answer(minter, b"Basic YWRtaW46YWRtaW4=", b"scope=read:pets", NOW)
    assert status == 200
    assert token.count(".") == 2
    assert not token.endswith("\n")
    assert claims(token)["scope"] == "read:pets"


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.username)
async def test_every_user_works(minter: testkey.TestKeys, user: config.User) -> None:
    status, token = await answer(minter, basic(f"{user.username}:{user.password}"), b"", NOW)
    assert status == 200
    assert claims(token)["sub"] == user.username


@pytest.mark.parametrize("scheme", [b"basic ", b"BASIC ", b"Basic   "])
async def test_the_scheme_is_taken_in_any_case(minter: testkey.TestKeys, scheme: bytes) -> None:
    assert (await answer(minter, scheme + b"YWRtaW46YWRtaW4=", b"", NOW))[0] == 200
    assert (await answer(minter, scheme + b"YWRtaW46YWRtaW4", b"", NOW))[0] == 200


async def test_no_header_is_told_to_send_one(minter: testkey.TestKeys) -> None:
    assert await answer(minter, None, b"scope=a", NOW) == (401, NO_HEADER)


@pytest.mark.parametrize(
    "header",
    [
        basic("admin:wrong"),
        basic("admin:"),
        basic(":admin"),
        basic(":"),
        basic("nobody:admin"),
        basic("Admin:admin"),
        basic("admin:pässword"),  # the token of another user
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
async def test_wrong_credentials_and_other_schemes_are_refused(
    minter: testkey.TestKeys, header: bytes
) -> None:
    assert await answer(minter, header, b"", NOW) == (401, WRONG)


@pytest.mark.parametrize(
    "credentials", [b"", b"****", b"YWRtaW4=", b"YWRt aW46", b"YWRtaW46YWRtaW4\xff", b"A"]
)
async def test_malformed_basic_credentials_are_an_error(
    minter: testkey.TestKeys, credentials: bytes
) -> None:
    assert await answer(minter, b"Basic " + credentials, b"", NOW) == (400, MALFORMED)


async def test_nothing_is_remembered_from_one_request_to_the_next(minter: testkey.TestKeys) -> None:
    assert (await answer(minter, basic("admin:admin"), b"scope=a", NOW))[0] == 200
    assert await answer(minter, b"Bearer x", b"", NOW) == (401, WRONG)
    assert await answer(minter, b"Basic ****", b"", NOW) == (400, MALFORMED)
    assert await answer(minter, None, b"", NOW) == (401, NO_HEADER)
    status, token = await answer(minter, basic("admin:admin"), b"", NOW)
    assert status == 200
    assert "scope" not in claims(token)


async def test_every_user_is_compared_on_every_attempt(
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
        await answer(minter, basic(text), b"", NOW)
        seen.append(list(compared))
        compared.clear()
    assert seen == [[(32, 32)] * 3 * len(USERS)] * 5


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
async def test_the_scope_is_read_as_received(
    minter: testkey.TestKeys, body: bytes, scope: str | None
) -> None:
    status, token = await answer(minter, basic("admin:admin"), body, NOW)
    assert status == 200
    assert claims(token).get("scope") == scope
    assert ("scope" in claims(token)) == (scope is not None)


MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nno\r\n'
    b'--x\r\nContent-Disposition: form-data; name="scope"\r\n\r\nread:pets a\r\n--x--\r\n'
)
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("kind", "body", "scope"),
    [
        (FORM, b"scope=read%3Apets", "read:pets"),
        (FORM, b"scope=read%3Apets+x%20y", "read:pets x y"),
        (FORM, b"scope=read:pets", "read:pets"),
        (FORM, b"a=%26scope%3Db&scope=c&scope=d", "d"),
        (FORM, b"sc%6Fpe=a", "a"),
        (FORM, b"scope=", None),
        (FORM, b"", None),
        (FORM, b"scope=%ff", "\N{REPLACEMENT CHARACTER}"),
        (FORM.upper() + "; charset=UTF-8", b"scope=a%2Fb", "a/b"),
        ("text/plain", b"scope=a%2Fb", "a%2Fb"),
        ("multipart/form-data; boundary=x", MULTIPART, "read:pets a"),
        ('multipart/form-data; boundary="x"', MULTIPART, "read:pets a"),
        ("multipart/form-data", MULTIPART, None),
        ("multipart/form-data; boundary=y", MULTIPART, None),
        ("multipart/form-data; boundary=x", b"", None),
    ],
)
async def test_a_form_is_read_as_a_form(
    minter: testkey.TestKeys, kind: str, body: bytes, scope: str | None
) -> None:
    _, token = await minter.answer(
        basic("admin:admin"), body, NOW, address="127.0.0.1", at=0.0, content_type=kind
    )
    assert claims(token).get("scope") == scope


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

    _, token = await answer(minter, basic("admin:admin"), b"scope=read:pets", NOW)
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


CHEAP = passwords.Cost(10, 8, 1)
DEARER = passwords.Cost(11, 8, 1)


def hashed(password: str, cost: passwords.Cost = CHEAP) -> str:
    salt = hashlib.sha256(password.encode()).digest()[:16]
    return str(passwords.ScryptHash(cost, salt, cost.derive(password.encode(), salt)))


MIXED = (
    config.User("plain", "one"),
    config.User("hashed", hashed("zwö")),
    config.User("dearer", hashed("three", DEARER)),
    config.User("again", hashed("four")),
)


@pytest.fixture
def mixed(pair: KeyPair) -> testkey.TestKeys:
    return testkey.TestKeys(config.TestKey(users=MIXED), pair)


async def test_hashed_and_plain_users_work_side_by_side(mixed: testkey.TestKeys) -> None:
    for text in ("plain:one", "hashed:zwö", "dearer:three", "again:four"):
        status, token = await answer(mixed, basic(text))
        assert (status, claims(token)["sub"]) == (200, text.partition(":")[0])
    for text in ("plain:zwö", "hashed:one", "dearer:four", "again:zwö", "nobody:one"):
        assert await answer(mixed, basic(text), address=text) == (401, WRONG)


async def test_the_hash_itself_is_no_password(mixed: testkey.TestKeys) -> None:
    for user in MIXED[1:]:
        assert await answer(mixed, basic(f"{user.username}:{user.password}")) == (401, WRONG)


async def test_every_attempt_derives_and_compares_as_much(
    mixed: testkey.TestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each user name and password, exactly one key per cost is derived."""
    derived: list[tuple[int, int, int, int]] = []
    compared: list[int] = []
    real = hashlib.scrypt

    def derive(password: bytes, *, salt: bytes, n: int, r: int, p: int, **rest: int) -> bytes:
        derived.append((len(salt), n, r, p))
        return real(password, salt=salt, n=n, r=r, p=p, **rest)

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return one == other

    monkeypatch.setattr(hashlib, "scrypt", derive)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    seen = []
    for text in ("nobody:x", "plain:x", "plain:one", "hashed:x", "hashed:zwö", "dearer:three"):
        await answer(mixed, basic(text), address=text)
        seen.append((sorted(derived), list(compared)))
        derived.clear()
        compared.clear()
    costs = [(16, 1024, 8, 1), (16, 2048, 8, 1)]
    assert seen == [(costs, [32] * (2 * len(MIXED) + len(MIXED)))] * 6


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(pair: KeyPair) -> None:
    """A coarse bound: if no key were derived, the factor would be in the hundreds."""
    cost = passwords.Cost(14, 8, 2)
    users = (config.User("hashed", hashed("right", cost)), config.User("plain", "right"))
    keys = testkey.TestKeys(config.TestKey(users=users), pair)
    best = {}
    for name in ("hashed", "plain", "nobody"):
        taken = []
        for number in range(4):
            begun = time.perf_counter()
            assert await answer(keys, basic(f"{name}:x"), address=f"{name}{number}") == (401, WRONG)
            taken.append(time.perf_counter() - begun)
        best[name] = min(taken)
    assert max(best.values()) < 10 * min(best.values()), best


async def test_keys_are_derived_away_from_the_loop(
    mixed: testkey.TestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop runs while a key is derived, and only one key is derived at a time."""
    go_on = threading.Event()
    inside: list[int] = []
    most: list[int] = []
    loop = threading.get_ident()
    real = hashlib.scrypt

    def derive(password: bytes, **rest: Any) -> bytes:
        assert threading.get_ident() != loop
        inside.append(1)
        most.append(len(inside))
        assert go_on.wait(20)
        inside.pop()
        return real(password, **rest)

    monkeypatch.setattr(hashlib, "scrypt", derive)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(partial(answer, mixed, basic("hashed:zwö"), address=str(number)))
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()  # by the event loop, which is not blocked
    assert max(most) == 1


async def test_attempts_that_would_queue_without_end_are_refused(
    mixed: testkey.TestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    real = hashlib.scrypt

    def derive(password: bytes, **rest: Any) -> bytes:
        assert go_on.wait(20)
        return real(password, **rest)

    monkeypatch.setattr(hashlib, "scrypt", derive)
    async with trio.open_nursery() as nursery:
        for number in range(accounts.MAX_WAITING + 1):
            nursery.start_soon(partial(answer, mixed, basic("hashed:zwö"), address=str(number)))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Refusal) as caught:
            await answer(mixed, basic("hashed:zwö"), address="last")
        assert caught.value.status == 429
        assert (b"retry-after", b"1") in caught.value.headers
        go_on.set()
    assert (await answer(mixed, basic("hashed:zwö"), address="last"))[0] == 200


async def test_guesses_at_once_are_no_more_than_one_after_another(
    mixed: testkey.TestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    real = hashlib.scrypt
    outcomes: list[int] = []

    def derive(password: bytes, **rest: Any) -> bytes:
        assert go_on.wait(20)
        return real(password, **rest)

    async def guess() -> None:
        try:
            outcomes.append((await answer(mixed, basic("hashed:guess")))[0])
        except Refusal as refusal:
            outcomes.append(refusal.status)

    monkeypatch.setattr(hashlib, "scrypt", derive)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(guess)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert sorted(outcomes) == [401] * attempts.FREE + [429] * (20 - attempts.FREE)


async def test_nobody_waits_for_the_thread_without_end(
    mixed: testkey.TestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    real = hashlib.scrypt

    def derive(password: bytes, **rest: Any) -> bytes:
        assert go_on.wait(20)
        return real(password, **rest)

    monkeypatch.setattr(hashlib, "scrypt", derive)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(answer, mixed, basic("hashed:zwö"), address="first"))
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(accounts, "LONGEST_WAIT", 0.0)
        with pytest.raises(Refusal) as caught:
            await answer(mixed, basic("hashed:zwö"), address="second")
        assert caught.value.status == 429
        go_on.set()


async def test_a_cancelled_attempt_leaves_the_thread_to_the_next(mixed: testkey.TestKeys) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await answer(mixed, basic("hashed:zwö"))
    assert scope.cancelled_caught
    # It does not count as an attempt in progress either.
    for _ in range(2 * attempts.FREE):
        with trio.CancelScope() as scope:
            scope.cancel()
            await answer(mixed, basic("hashed:zwö"))
    assert (await answer(mixed, basic("hashed:zwö")))[0] == 200


async def test_who_fails_often_has_to_wait(minter: testkey.TestKeys) -> None:
    wrong, right = basic("admin:wrong"), basic("admin:admin")
    for _ in range(attempts.FREE):
        assert await answer(minter, wrong) == (401, WRONG)
    for header in (wrong, right):
        with pytest.raises(Refusal) as caught:
            await answer(minter, header)
        assert caught.value.status == 429
        assert caught.value.headers == (
            (b"content-type", b"text/plain"),
            (b"cache-control", b"no-store"),
            (b"retry-after", b"1"),
        )
        assert caught.value.body == b"Too many attempts. Please try again in 1 s."
    # Neither other clients nor those that waited have to wait now.
    assert (await answer(minter, right, address="192.0.2.2"))[0] == 200
    assert (await answer(minter, right, at=1.0))[0] == 200


async def test_only_failed_passwords_are_counted(minter: testkey.TestKeys) -> None:
    for _ in range(3 * attempts.FREE):
        assert await answer(minter, None) == (401, NO_HEADER)
        assert await answer(minter, b"Bearer x") == (401, WRONG)
        assert await answer(minter, b"Basic ****") == (400, MALFORMED)
        assert (await answer(minter, basic("admin:admin")))[0] == 200


@pytest.mark.parametrize(
    "header",
    [
        basic("admin:" + "x" * 100_000),
        basic("x" * 100_000 + ":admin"),
        basic("admin:admin") + b"=" * 64,
        basic("admin\0:admin"),
        basic("admin:admin\0"),
        basic("admin:admin\r\n"),
        basic("a\N{COMBINING ACUTE ACCENT}dmin:admin"),
        b"Basic " + b"A" * 100_001,
        b"Basic YWRtaW46YWRtaW4=, Basic YWRtaW46YWRtaW4=",
        b"Basic \x00\xff" * 50,
        b"Basic\tYWRtaW46YWRtaW4=",
    ],
    ids=range(11),
)
async def test_huge_and_odd_headers_are_refused(
    minter: testkey.TestKeys, mixed: testkey.TestKeys, header: bytes
) -> None:
    for keys in (minter, mixed):
        status, text = await answer(keys, header)
        assert (status, text) in ((401, WRONG), (400, MALFORMED))


def test_no_password_is_kept_or_shown(minter: testkey.TestKeys) -> None:
    held = repr(vars(minter)) + repr(USERS) + repr(config.TestKey(users=USERS))
    for user in USERS[1:]:
        assert user.password not in held
        assert user.username in held
