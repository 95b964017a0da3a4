"""Key managers of a control plane: which become issuers, and issuers added and removed later."""

from __future__ import annotations

import base64
import datetime
import json
import ssl
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from support.issuers import HttpServer, start_http
from support.secrets import secret
from support.visits import visit
from trio_gw.config.entitlements import KeyManagerRow
from trio_gw.config.settings import Claims, Issuer
from trio_gw.errors import Refusal
from trio_gw.guard.key_managers import MAX_KEY_MANAGERS, given_issuers
from trio_gw.guard.keys import KeyRing, NotTrustedError
from trio_gw.guard.revocations import Revocations
from trio_gw.guard.schemes import Verifiers
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.guard.issuer_keys import GivenIssuer

ISSUER = "https://am.example/oauth2/token"
NOW = 1_900_000_000.0


def generated(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return generated()


@pytest.fixture(scope="module")
def other() -> rsa.RSAPrivateKey:
    return generated()


def pem(key: rsa.RSAPrivateKey) -> str:
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
    return made.public_bytes(serialization.Encoding.PEM).decode()


def of_version(number: int) -> str:
    """Return a certificate of a version that does not exist, as the base64 of DER."""
    data = ssl.PEM_cert_to_DER_cert(pem(generated()))
    version = b"\xa0\x03\x02\x01"
    assert data.count(version) == 1
    return base64.b64encode(data.replace(version + b"\x02", version + bytes([number]))).decode()


def row(key: rsa.RSAPrivateKey, **fields: Any) -> KeyManagerRow:
    return KeyManagerRow(
        **({"name": "Resident", "issuer": ISSUER, "certificate": pem(key)} | fields)
    )


def only(row: KeyManagerRow) -> GivenIssuer:
    (found,), problems = given_issuers([row])
    assert problems == ()
    return found


def token(key: rsa.RSAPrivateKey, **claims: Any) -> bytes:
    every = {"iss": ISSUER, "sub": "bob", "exp": int(NOW) + 600} | claims
    return secret(jwt.encode(every, key, algorithm="RS256")).encode()


class World:
    """A key ring, and handshakes that use it."""

    def __init__(self, folder: Path, *issuers: Issuer) -> None:
        self.ring = KeyRing(issuers, folder)
        self.guard = Verifiers(Tokens(self.ring), Revocations())

    async def code(self, value: bytes) -> str:
        """Return the code of the refusal; empty if the token is accepted."""
        try:
            await visit(self.guard, [(b"authorization", b"Bearer " + value)], NOW)
        except Refusal as refusal:
            return refusal.code
        return ""


# --- rows ---


def test_what_a_key_manager_becomes(key: rsa.RSAPrivateKey) -> None:
    made = only(
        row(
            key,
            consumer_key_claim="client",
            scopes_claim="scp",
            claim_mappings={"b": "http://wso2.org/claims/b", "a": "x", "": "y", "z": "\n"},
        )
    )
    issuer = made.issuer
    assert (issuer.issuer, issuer.name) == (ISSUER, "Resident")
    assert issuer.validate_subscription
    assert issuer.consumer_key_claim == "client"
    assert issuer.claims == Claims(scope="scp")
    assert {"RS256", "RS512", "ES256"} <= set(issuer.algorithms)
    assert made.renamed == (("a", "x"), ("b", "http://wso2.org/claims/b"))
    (public,) = made.keys
    assert public.public == key.public_key()
    assert only(row(key)).issuer.consumer_key_claim == "", "consumerKey, then azp"


def test_a_certificate_in_three_forms(key: rsa.RSAPrivateKey) -> None:
    text = pem(key)
    der = ssl.PEM_cert_to_DER_cert(text)
    lines = base64.encodebytes(der).decode()
    for form in (text, base64.b64encode(text.encode()).decode(), lines, lines.replace("\n", "")):
        assert only(row(key, certificate=form)).keys == only(row(key)).keys


def test_disabled_ones_are_left_out(key: rsa.RSAPrivateKey) -> None:
    assert given_issuers([row(key, enabled=False, issuer="")]) == ((), ())


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"issuer": ""}, "issuer is empty"),
    ({"name": "a\nb"}, "name is empty, too long or not printable"),
    ({"scopes_claim": "x" * 2000}, "scopes claim"),
    ({"consumer_key_claim": "\x00"}, "consumer key claim"),
    ({"certificate": ""}, "no certificate and no JWKS URL"),
    ({"certificate": "!"}, "neither PEM nor base64"),
    ({"certificate": "ü"}, "neither PEM nor base64"),
    ({"certificate": "AAAA"}, "cannot be used"),
    ({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}, "damaged"),
    ({"certificate": pem(generated(1024))}, "1024 bits"),
    ({"certificate": of_version(102)}, "damaged"),
    ({"certificate": "A" * 100_000}, "too long"),
    ({"jwks": "http://am.example/jwks"}, "uses http://"),
    ({"jwks": "file:///etc/passwd"}, "not a URL with a host"),
    ({"jwks": "ftp://am.example/jwks"}, "uses ftp://"),
    ({"jwks": "https://user:secret@am.example/jwks"}, "holds credentials"),
    ({"jwks": "https://am.example/" + "x" * 2000}, "too long"),
    ({"jwks": "https://[am.example/jwks"}, "is not a URL"),
]


@pytest.mark.parametrize(("fields", "what"), FAULTS, ids=[what for _, what in FAULTS])
def test_one_that_cannot_be_used_is_a_problem_and_the_others_count(
    key: rsa.RSAPrivateKey, fields: dict[str, Any], what: str
) -> None:
    good = KeyManagerRow("Good", "https://good.example", certificate=pem(key))
    found, (problem,) = given_issuers([row(key, **fields), good])
    assert [given.issuer.name for given in found] == ["Good"]
    assert what in problem.what
    assert problem.hint
    assert str(problem).isprintable()
    assert "secret" not in str(problem)


def test_of_two_with_one_issuer_the_first_name_counts(key: rsa.RSAPrivateKey) -> None:
    found, (problem,) = given_issuers([row(key, name="B"), row(key, name="A")])
    assert [given.issuer.name for given in found] == ["A"]
    assert problem.file == "key manager B"


def test_their_number_is_bounded(key: rsa.RSAPrivateKey) -> None:
    text = pem(key)
    many = [
        KeyManagerRow(f"{n:04}", f"https://{n}", certificate=text)
        for n in range(MAX_KEY_MANAGERS + 3)
    ]
    found, problems = given_issuers(many)
    assert (len(found), len(problems)) == (MAX_KEY_MANAGERS, 3)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_any_text_is_an_issuer_or_a_problem(a: str, b: str, c: str, url: bool) -> None:
    row = KeyManagerRow(a, b, jwks=c) if url else KeyManagerRow(a, b, certificate=c)
    found, problems = given_issuers([row])
    assert len(found) + len(problems) == 1
    for problem in problems:
        assert str(problem).isprintable()


# --- the key ring ---


async def test_an_issuer_comes_and_goes(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    world, value = World(tmp_path), token(key, subscribedAPIs=[])
    assert await world.code(value) == "900901"
    assert world.ring.replace("plane", [only(row(key))])
    assert await world.code(value) == "900908", "trusted, and asked for a subscription"
    assert not world.ring.replace("plane", [only(row(key))]), "nothing has changed"
    assert world.ring.replace("plane", [])
    assert await world.code(value) == "900901"


async def test_it_takes_the_place_of_the_configured_issuer(
    tmp_path: Path, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    (tmp_path / "own.pem").write_text(pem(key))
    world = World(tmp_path, Issuer(ISSUER, name="Own", certificate="own.pem"))
    own, new = token(key), token(other)
    assert (await world.code(own), await world.code(new)) == ("", "900901")
    world.ring.replace("plane", [only(row(other))])
    assert await world.code(own) == "900901", "also if it was verified before"
    assert await world.code(new) == "900908"
    world.ring.replace("plane", [only(row(key, name="Renamed"))])
    assert await world.code(own) == "900908"
    world.ring.replace("plane", [])
    assert (await world.code(own), await world.code(new)) == ("", "900901")
    assert len(world.ring.files()) == 1


async def test_other_settings_of_the_same_key_count_at_once(
    tmp_path: Path, key: rsa.RSAPrivateKey
) -> None:
    world = World(tmp_path)
    value = token(key, client="c-1", azp="c-2", given_name="Bob")
    world.ring.replace("plane", [only(row(key, consumer_key_claim="client"))])
    tokens = world.guard.tokens
    assert (await tokens.verify(value, NOW)).caller.consumer_key == "c-1"
    mapped = {"given_name": "http://wso2.org/claims/givenname"}
    world.ring.replace("plane", [only(row(key, name="Other", claim_mappings=mapped))])
    caller = (await tokens.verify(value, NOW)).caller
    assert (caller.consumer_key, caller.issuer_name) == ("c-2", "Other")
    assert caller.renamed == tuple(mapped.items())


async def jwks_server(
    nursery: trio.Nursery, *keys: rsa.RSAPrivateKey
) -> tuple[HttpServer, list[dict[str, Any]]]:
    published = [RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) for key in keys]
    body = lambda *_: (200, json.dumps({"keys": published}).encode())  # noqa: E731
    return await start_http(nursery, body), published


async def test_keys_are_fetched_while_their_issuer_is_there(
    tmp_path: Path, key: rsa.RSAPrivateKey, nursery: trio.Nursery
) -> None:
    server, _ = await jwks_server(nursery, key)
    world = World(tmp_path)
    await nursery.start(world.ring.run)
    value = token(key)
    given = only(row(key, jwks=server.url("/jwks")))
    with trio.fail_after(5):
        world.ring.replace("plane", [given])
        assert await world.code(value) == "900908", "the handshake waits for the first fetch"
        assert len(server.requests) == 1
        world.ring.replace("plane", [given, only(row(key, name="X", issuer="https://x"))])
        assert await world.code(value) == "900908"
        assert len(server.requests) == 1, "an unchanged issuer keeps its keys"
        server.gate = trio.Event()
        world.ring.replace("plane", [])
        world.ring.replace("plane", [given])
        await server.arrived.wait()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(refused, world, value)
            await trio.testing.wait_all_tasks_blocked()
            world.ring.replace("plane", [])  # ends the fetch and the tasks that wait for it
    with pytest.raises(NotTrustedError):
        world.ring.find(ISSUER, None, "RS256")
    server.gate.set()


async def refused(world: World, value: bytes) -> None:
    assert await world.code(value) == "900901"


async def test_a_dead_server_of_one_key_manager_does_not_affect_another(
    tmp_path: Path, key: rsa.RSAPrivateKey, nursery: trio.Nursery
) -> None:
    server, _ = await jwks_server(nursery, key)
    world = World(tmp_path)
    await nursery.start(world.ring.run)
    dead = only(row(key, name="Dead", issuer="https://dead", jwks="http://127.0.0.1:1/jwks"))
    world.ring.replace("plane", [dead, only(row(key, jwks=server.url("/jwks")))])
    with trio.fail_after(5):
        assert await world.code(token(key)) == "900908"
        assert await world.code(token(key, iss="https://dead")) == "900900"
