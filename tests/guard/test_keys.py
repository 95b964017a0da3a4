"""Signing keys: files, JWKS servers, and faults of both.

The servers are real, on loopback sockets. Where time matters the clock is virtual, and only the
test advances it: no test waits or depends on timing.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import signal
import ssl
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio
import trio.testing
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from support.visits import visit
from trio_gw.config.settings import Issuer
from trio_gw.errors import Refusal, UnusableError
from trio_gw.guard import fetch
from trio_gw.guard import keys as keys_module
from trio_gw.guard.jwks import KeySetError, parse_key_set
from trio_gw.guard.keys import KeyRing, NoKeyError, NotTrustedError
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from trio.testing import MockClock

ISSUER = "https://issuer.example/token"
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """End a test that waits forever; the virtual clock alone cannot do this."""

    def expired(*_: object) -> None:
        raise TimeoutError("the test waited for 20 seconds")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def first() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def second() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def jwk(key: rsa.RSAPrivateKey, **members: object) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, days: int = 365) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    start = NOW - datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def numbers(key: object) -> rsa.RSAPublicNumbers:
    assert isinstance(key, rsa.RSAPublicKey)
    return key.public_numbers()


# --- files ---


def test_a_certificate_is_the_only_key_of_its_issuer(
    tmp_path: Path, first: rsa.RSAPrivateKey
) -> None:
    (tmp_path / "issuer.pem").write_bytes(certificate(first))
    ring = KeyRing([Issuer(ISSUER, certificate="issuer.pem")], tmp_path)
    for kid in (None, "", "anything", "../../etc/passwd"):
        assert [numbers(key) for key in ring.find(ISSUER, kid, "RS256")] == [
            numbers(first.public_key())
        ]
    assert ring.issuer(ISSUER) is not None
    assert ring.generation == 0


@pytest.mark.parametrize("issuer", ["", ISSUER + "/", ISSUER.upper(), " " + ISSUER])
def test_an_issuer_matches_by_its_exact_text_only(
    tmp_path: Path, first: rsa.RSAPrivateKey, issuer: str
) -> None:
    (tmp_path / "issuer.pem").write_bytes(certificate(first))
    ring = KeyRing([Issuer(ISSUER, certificate="issuer.pem")], tmp_path)
    assert ring.issuer(issuer) is None
    with pytest.raises(NotTrustedError):
        ring.find(issuer, None, "RS256")


@pytest.mark.parametrize("alg", ["RS384", "PS256", "ES256", "EdDSA", "HS256", "none", "", "rs256"])
def test_only_allowed_algorithms_find_a_key(
    tmp_path: Path, first: rsa.RSAPrivateKey, alg: str
) -> None:
    (tmp_path / "issuer.pem").write_bytes(certificate(first))
    ring = KeyRing([Issuer(ISSUER, certificate="issuer.pem")], tmp_path)
    with pytest.raises(NotTrustedError):
        ring.find(ISSUER, None, alg)


def test_an_allowed_algorithm_of_another_kind_of_key_finds_none(
    tmp_path: Path, first: rsa.RSAPrivateKey
) -> None:
    (tmp_path / "issuer.pem").write_bytes(certificate(first))
    issuer = Issuer(ISSUER, certificate="issuer.pem", algorithms=("RS256", "ES256", "EdDSA"))
    ring = KeyRing([issuer], tmp_path)
    for alg in ("ES256", "EdDSA"):
        with pytest.raises(NotTrustedError):
            ring.find(ISSUER, None, alg)


def test_a_key_set_file_has_keys_by_id(
    tmp_path: Path, first: rsa.RSAPrivateKey, second: rsa.RSAPrivateKey
) -> None:
    (tmp_path / "keys.json").write_bytes(key_set(jwk(first, kid="1"), jwk(second, kid="2")))
    ring = KeyRing([Issuer(ISSUER, jwks="keys.json")], tmp_path)
    assert [numbers(key) for key in ring.find(ISSUER, "2", "RS256")] == [
        numbers(second.public_key())
    ]
    assert len(ring.find(ISSUER, None, "RS256")) == 2
    for kid in ("3", "", "1 ", "' OR 1=1 --"):
        with pytest.raises(NoKeyError):
            ring.find(ISSUER, kid, "RS256")


async def test_a_key_set_file_makes_nobody_wait(
    tmp_path: Path, first: rsa.RSAPrivateKey, autojump_clock: MockClock
) -> None:
    (tmp_path / "keys.json").write_bytes(key_set(jwk(first, kid="1")))
    ring = KeyRing([Issuer(ISSUER, jwks="keys.json")], tmp_path)
    await ring.wait_for(ISSUER, "unknown")
    await ring.wait_for("unknown", None)
    assert trio.current_time() == 0


FILES = [
    ("certificate", None, "cannot be read"),
    ("certificate", b"", "not PEM"),
    ("certificate", b"\x30\x82\x01\x02", "not PEM"),
    (
        "certificate",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "no certificate",
    ),
    (
        "certificate",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "damaged",
    ),
    ("jwks", None, "cannot be read"),
    ("jwks", b"", "not JSON"),
    ("jwks", b"\xff\xfe{}", "not JSON"),
    ("jwks", b"[" * 50_000, "not JSON"),
    ("jwks", b"[]", "not a JWK set"),
    ("jwks", b'{"keys":{}}', "not a JWK set"),
    ("jwks", b'{"keys":[]}', "no usable key"),
    ("jwks", b'{"keys":[' + b"{}," * 100 + b"{}]}", "more than 100 keys"),
    ("jwks", b" " * (1 << 20) + b"{}", "larger than 1 MiB"),
]


@pytest.mark.parametrize(("kind", "data", "what"), FILES, ids=[f"{k}-{w}" for k, _, w in FILES])
def test_a_file_that_cannot_be_used_is_a_problem(
    tmp_path: Path, kind: str, data: bytes | None, what: str
) -> None:
    if data is not None:
        (tmp_path / "file").write_bytes(data)
    with pytest.raises(UnusableError) as caught:
        KeyRing([Issuer(ISSUER, **{kind: "file"})], tmp_path)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / "file")
    assert what in problem.what
    assert problem.hint


def test_all_files_that_cannot_be_used_are_reported_together(tmp_path: Path) -> None:
    issuers = [Issuer("a", certificate="a.pem"), Issuer("b", jwks="b.json")]
    with pytest.raises(UnusableError) as caught:
        KeyRing(issuers, tmp_path)
    assert [problem.file for problem in caught.value.problems] == [
        str(tmp_path / "a.pem"),
        str(tmp_path / "b.json"),
    ]


def test_a_weak_certificate_is_refused(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    (tmp_path / "weak.pem").write_bytes(certificate(weak))
    with pytest.raises(UnusableError, match="1024 bits"):
        KeyRing([Issuer(ISSUER, certificate="weak.pem")], tmp_path)


def test_a_certificate_that_fits_no_allowed_algorithm_says_which_would(tmp_path: Path) -> None:
    curve = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "ec.pem").write_bytes(certificate(curve))
    with pytest.raises(UnusableError, match="add to its algorithms one of ES384"):
        KeyRing([Issuer(ISSUER, certificate="ec.pem")], tmp_path)
    ring = KeyRing([Issuer(ISSUER, certificate="ec.pem", algorithms=("ES384",))], tmp_path)
    assert ring.find(ISSUER, None, "ES384")


def test_an_expired_certificate_still_verifies_but_is_warned_about(
    tmp_path: Path, first: rsa.RSAPrivateKey
) -> None:
    (tmp_path / "old.pem").write_bytes(certificate(first, days=30))
    ring = KeyRing([Issuer(ISSUER, certificate="old.pem")], tmp_path)
    assert ring.find(ISSUER, None, "RS256")
    assert ring.warnings(NOW) == []
    (late,) = ring.warnings(NOW + datetime.timedelta(days=30))
    assert (late.severity, late.file) == ("warning", str(tmp_path / "old.pem"))
    assert "expired on 2030-01-30" in late.what
    (early,) = ring.warnings(NOW - datetime.timedelta(days=2))
    assert "not valid before" in early.what


# --- JWK sets ---


def test_keys_of_every_kind_are_read_for_the_algorithms_that_fit(first: rsa.RSAPrivateKey) -> None:
    allowed = ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
    public = {
        "rsa": RSAAlgorithm.to_jwk(first.public_key(), as_dict=True),
        "p256": ECAlgorithm.to_jwk(
            ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True
        ),
        "p384": ECAlgorithm.to_jwk(
            ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True
        ),
        "p521": ECAlgorithm.to_jwk(
            ec.generate_private_key(ec.SECP521R1()).public_key(), as_dict=True
        ),
        "ed25519": OKPAlgorithm.to_jwk(
            ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True
        ),
        "ed448": OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True),
        "rs256": {**RSAAlgorithm.to_jwk(first.public_key(), as_dict=True), "alg": "RS256"},
    }
    parsed = parse_key_set(key_set(*({**key, "kid": kid} for kid, key in public.items())), allowed)
    assert {key.kid: set(key.algorithms) for key in parsed} == {
        "rsa": {"RS256", "PS512"},
        "p256": {"ES256"},
        "p384": {"ES384"},
        "p521": {"ES512"},
        "ed25519": {"EdDSA"},
        "ed448": {"EdDSA"},
        "rs256": {"RS256"},
    }


USELESS: list[tuple[dict[str, Any], str]] = [
    ({"use": "enc"}, "not for signatures"),
    ({"key_ops": ["encrypt"]}, "not for signatures"),
    ({"kty": "oct", "k": "c2VjcmV0"}, "not an RSA"),
    ({"kty": ["RSA"]}, "not an RSA"),
    ({"kty": "EC"}, "cannot be read"),
    ({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}, "cannot be read"),
    ({"kty": "OKP", "crv": "X25519", "x": "AA"}, "cannot be read"),
    ({"kid": 7}, "kid that is not text"),
    ({"n": 5}, "cannot be read"),
    ({"n": "*"}, "cannot be read"),
    ({"n": ""}, "cannot be read"),
    ({"e": None}, "cannot be read"),
    ({"e": "AA"}, "cannot be read"),
    ({"alg": "HS256"}, "none of the issuer's algorithms"),
    ({"alg": "none"}, "none of the issuer's algorithms"),
    ({"alg": 5}, "none of the issuer's algorithms"),
]


@pytest.mark.parametrize(("members", "why"), USELESS, ids=[str(members) for members, _ in USELESS])
def test_a_useless_key_is_passed_over_and_named(
    first: rsa.RSAPrivateKey, second: rsa.RSAPrivateKey, members: dict[str, Any], why: str
) -> None:
    bad = jwk(first, kid="bad") | members
    good = jwk(second, kid="good")
    assert [key.kid for key in parse_key_set(key_set(bad, good), ["RS256"])] == ["good"]
    with pytest.raises(KeySetError, match=why):
        parse_key_set(key_set(bad), ["RS256"])


def test_a_weak_rsa_key_is_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    with pytest.raises(KeySetError, match="too weak"):
        parse_key_set(key_set(jwk(weak)), ["RS256"])


def test_of_a_private_key_only_the_public_part_is_taken(first: rsa.RSAPrivateKey) -> None:
    (key,) = parse_key_set(
        key_set(RSAAlgorithm.to_jwk(first, as_dict=True) | {"key_ops": None}), ["RS256"]
    )
    assert isinstance(key.public, rsa.RSAPublicKey)


# --- JWKS servers ---


class Server:
    """A JWKS server in the test's nursery. `seen` gets each request before the answer is sent."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status = "200 OK"
        self.extra = ""
        self.count = 0
        self.paths: list[str] = []
        self.gate = trio.Event()
        self.gate.set()
        self._note, self.seen = trio.open_memory_channel[None](1000)
        self.url = ""

    def hold(self) -> trio.Event:
        self.gate = trio.Event()
        return self.gate

    async def handle(self, stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = await stream.receive_some()
                    if not data:
                        return
                    head += data
                self.count += 1
                self.paths.append(head.split(b" ")[1].decode())
                self._note.send_nowait(None)
                await self.gate.wait()
                answer = (
                    f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.body)}\r\n"
                    f"connection: close\r\n{self.extra}\r\n"
                ).encode()
                await stream.send_all(answer + self.body)


class Log(logging.Handler):
    """The log lines of the key ring; a test can wait for a line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._send, self._receive = trio.open_memory_channel[str](1000)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._send.send_nowait(record.getMessage())

    async def until(self, text: str) -> str:
        async for line in self._receive:
            if text in line:
                return line
        raise AssertionError


@pytest.fixture
def log() -> Iterator[Log]:
    handler = Log()
    logger = logging.getLogger("trio_gw.keys")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@contextlib.asynccontextmanager
async def serving(body: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(body)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        listeners: list[Any] = [listener if tls is None else trio.SSLListener(listener, tls)]
        nursery.start_soon(trio.serve_listeners, server.handle, listeners)
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/jwks"
        yield server
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def running(ring: KeyRing) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(ring.run)
        yield
        nursery.cancel_scope.cancel()


def remote(server: Server) -> list[Issuer]:
    return [Issuer(ISSUER, name="Remote", jwks=server.url)]


async def test_keys_are_fetched_at_start_and_early_handshakes_wait_for_them(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        with pytest.raises(NoKeyError):
            ring.find(ISSUER, "1", "RS256")
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            assert ring.find(ISSUER, "1", "RS256")
            assert ring.generation == 1
            assert server.count == 1


async def test_a_refused_algorithm_is_no_reason_to_wait(tmp_path: Path) -> None:
    ring = KeyRing([Issuer(ISSUER, jwks="https://unused.invalid/jwks")], tmp_path)
    for alg in ("none", "HS256", "ES256"):
        with pytest.raises(NotTrustedError):
            ring.find(ISSUER, "1", alg)


async def test_a_token_without_key_id_waits_for_the_first_fetch_too(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    async with serving(key_set(jwk(first))) as server:
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, None)
            assert len(ring.find(ISSUER, None, "RS256")) == 1


async def test_two_hundred_waiting_handshakes_share_one_fetch(
    tmp_path: Path,
    first: rsa.RSAPrivateKey,
    second: rsa.RSAPrivateKey,
    mock_clock: MockClock,
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            server.body = key_set(jwk(first, kid="1"), jwk(second, kid="2"))
            gate = server.hold()
            done = 0

            async def handshake() -> None:
                nonlocal done
                await ring.wait_for(ISSUER, "2")
                assert ring.find(ISSUER, "2", "RS256")
                done += 1

            async with trio.open_nursery() as nursery:
                for _ in range(200):
                    nursery.start_soon(handshake)
                await server.seen.receive()
                await server.seen.receive()
                await trio.testing.wait_all_tasks_blocked()
                assert done == 0
                ring.find(
                    ISSUER, "1", "RS256"
                )  # a known key is available meanwhile, without a wait
                gate.set()
            assert done == 200
            assert server.count == 2


async def test_unknown_ids_cause_one_fetch_per_cool_down(
    tmp_path: Path, first: rsa.RSAPrivateKey, second: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            for number in range(50):
                await ring.wait_for(ISSUER, f"junk-{number}")
            assert server.count == 2
            mock_clock.jump(29.9)
            await ring.wait_for(ISSUER, "junk")
            assert server.count == 2
            mock_clock.jump(0.2)
            server.body = key_set(jwk(second, kid="2"))
            await ring.wait_for(ISSUER, "2")
            assert ring.find(ISSUER, "2", "RS256")
            assert server.count == 3


async def test_keys_are_refreshed_every_five_minutes(
    tmp_path: Path, first: rsa.RSAPrivateKey, second: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            await server.seen.receive()
            server.body = key_set(jwk(second, kid="2"))
            mock_clock.jump(299)
            await trio.testing.wait_all_tasks_blocked()
            assert server.count == 1
            mock_clock.jump(1)
            await server.seen.receive()
            await ring.wait_for(ISSUER, "2")
            assert (server.count, ring.generation) == (2, 2)
            with pytest.raises(NoKeyError):
                ring.find(ISSUER, "1", "RS256")


@pytest.mark.parametrize(
    ("control", "seconds"),
    [
        ("max-age=120", 120),
        ("public, Max-Age=120, must-revalidate", 120),
        ("max-age=1", 60),
        ("max-age=0", 60),
        ("no-store", 300),
        ("max-age=99999", 3600),
        ("max-age=9999999999999999999999", 300),
        ("max-age=-5", 300),
        ("s-maxage=100", 300),
        ("rubbish \x80", 300),
    ],
)
async def test_the_server_says_how_long_its_keys_last_within_bounds(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock, control: str, seconds: float
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        server.extra = f"cache-control: {control}\r\n"
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            await server.seen.receive()
            mock_clock.jump(seconds - 0.5)
            await trio.testing.wait_all_tasks_blocked()
            assert server.count == 1
            mock_clock.jump(0.5)
            await server.seen.receive()
            assert server.count == 2


async def test_the_generation_stays_while_the_keys_do(
    tmp_path: Path, first: rsa.RSAPrivateKey, second: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            await ring.wait_for(ISSUER, "nobody")
            assert (server.count, ring.generation) == (2, 1)
            mock_clock.jump(30)
            server.body = key_set(jwk(first, kid="1"), jwk(second, kid="2"))
            await ring.wait_for(ISSUER, "2")
            assert ring.generation == 2


BAD_ANSWERS: list[tuple[str, str, bytes | None, str]] = [
    ("500 Oops", "", None, "answered 500"),
    ("404 Not Found", "", b"", "answered 404"),
    ("200 OK", "", b"<html>", "not JSON"),
    ("200 OK", "", b'{"keys":[]}', "no usable key"),
    ("200 OK", "", b'{"keys":[{"kty":"oct","k":"AAAA"}]}', "no usable key"),
    ("200 OK", "", b" " * (1 << 20) + b"{}", "larger than 1 MiB"),
    ("200 OK", "content-encoding: gzip\r\n", b"\x1f\x8b", "compressed"),
    ("302 Found", "location: http://127.0.0.1:1/jwks\r\n", b"", "redirects to another server"),
    ("302 Found", "location: https://evil.example/jwks\r\n", b"", "redirects to another server"),
    ("302 Found", "location: file:///etc/passwd\r\n", b"", "redirects to another server"),
    ("302 Found", "location: /again\r\n", b"", "too many redirects"),
]


@pytest.mark.parametrize(
    ("status", "extra", "body", "why"), BAD_ANSWERS, ids=[f"{s}-{w}" for s, _, _, w in BAD_ANSWERS]
)
async def test_a_bad_answer_leaves_the_last_good_keys(
    tmp_path: Path,
    first: rsa.RSAPrivateKey,
    mock_clock: MockClock,
    log: Log,
    status: str,
    extra: str,
    body: bytes | None,
    why: str,
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            server.status, server.extra = status, extra
            server.body = server.body if body is None else body
            mock_clock.jump(300)
            line = await log.until("keys not fetched")
            assert why in line
            assert "keeping the last ones" in line
            assert ring.find(ISSUER, "1", "RS256")
            assert ring.generation == 1


async def test_a_server_that_hangs_is_given_up_after_five_seconds(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock, log: Log
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        server.hold()
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring), trio.open_nursery() as nursery:
            await server.seen.receive()
            nursery.start_soon(ring.wait_for, ISSUER, "1")
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(5)
            assert "no answer within 5 seconds; there are none yet" in await log.until(
                "not fetched"
            )
        assert trio.current_time() == pytest.approx(5)


async def test_waiting_is_bounded_even_if_no_fetch_ends(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    ring = KeyRing([Issuer(ISSUER, jwks="https://unused.invalid/jwks")], tmp_path)
    await ring.wait_for(ISSUER, "1")
    assert trio.current_time() == pytest.approx(5)


async def test_attempts_back_off_while_the_server_is_down_and_recovery_is_noticed(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock, log: Log
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        server.status = "503 Unavailable"
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await server.seen.receive()
            await log.until("not fetched")
            for pause in (1, 2, 4, 8, 16, 32, 60, 60):
                before = server.count
                mock_clock.jump(pause - 0.5)
                await trio.testing.wait_all_tasks_blocked()
                assert server.count == before
                mock_clock.jump(0.5)
                await server.seen.receive()
                await log.until("not fetched")
            with pytest.raises(NoKeyError):
                ring.find(ISSUER, "1", "RS256")
            server.status = "200 OK"
            mock_clock.jump(60)
            await log.until("fetched again")
            assert ring.find(ISSUER, "1", "RS256")


async def test_a_server_that_is_not_there_keeps_nobody_waiting_after_the_first_attempt(
    tmp_path: Path, mock_clock: MockClock, log: Log
) -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/jwks"
        ring = KeyRing([Issuer(ISSUER, name="Down", jwks=url)], tmp_path)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            await ring.wait_for(ISSUER, "1")
            with pytest.raises(NoKeyError):
                ring.find(ISSUER, "1", "RS256")
            assert trio.current_time() == 0
            assert "issuer Down: keys not fetched: ConnectError" in log.lines[0]


async def test_a_redirect_on_the_same_server_is_followed(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        server.status, server.extra = "301 Moved", "location: /new\r\n"
        gate = server.hold()
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            await server.seen.receive()
            gate.set()
            await server.seen.receive()
            server.status, server.extra = "200 OK", ""
            # The second answer may still be the redirect; the third is the document.
            await ring.wait_for(ISSUER, "1")
            assert server.paths[:2] == ["/jwks", "/new"]


async def test_https_servers_are_checked_against_the_trusted_authorities(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock, log: Log
) -> None:
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)

    async with serving(key_set(jwk(first, kid="1")), server_tls) as server:
        ring = KeyRing(remote(server), tmp_path, tls=client_tls)
        async with running(ring):
            await ring.wait_for(ISSUER, "1")
            assert ring.find(ISSUER, "1", "RS256")


async def test_an_https_server_nobody_vouches_for_gives_no_keys(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock, log: Log
) -> None:
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server_tls)
    async with serving(key_set(jwk(first, kid="1")), server_tls) as server:
        ring = KeyRing(remote(server), tmp_path)
        async with running(ring):
            assert "ConnectError" in await log.until("keys not fetched")
            with pytest.raises(NoKeyError):
                ring.find(ISSUER, "1", "RS256")
        assert server.count == 0


# --- with the token cache ---


def token(key: rsa.RSAPrivateKey, kid: str | None) -> bytes:
    claims = {"iss": ISSUER, "sub": "alice", "exp": 4_000_000_000}
    headers = {} if kid is None else {"kid": kid}
    return b"Bearer " + jwt.encode(claims, key, algorithm="RS256", headers=headers).encode()


async def authenticated(tokens: Tokens, value: bytes) -> str:
    try:
        caller = await visit(tokens, [(b"authorization", value)], 1_900_000_000.0, scopes=None)
    except Refusal as refusal:
        return refusal.code
    return caller.subject


async def test_after_a_rotation_new_tokens_are_taken_and_cached_old_ones_refused(
    tmp_path: Path,
    first: rsa.RSAPrivateKey,
    second: rsa.RSAPrivateKey,
    mock_clock: MockClock,
    log: Log,
) -> None:
    old, new = token(first, "old"), token(second, "new")
    async with serving(key_set(jwk(first, kid="old"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        tokens = Tokens(ring)
        async with running(ring):
            assert await authenticated(tokens, old) == "alice"
            server.body = key_set(jwk(first, kid="old"), jwk(second, kid="new"))
            # The unknown key id alone makes the gateway fetch the keys.
            assert await authenticated(tokens, new) == "alice"
            assert await authenticated(tokens, old) == "alice"
            assert server.count == 2
            server.body = key_set(jwk(second, kid="new"))
            mock_clock.jump(300)
            await log.until("2 keys")
            await log.until("1 keys")
            assert await authenticated(tokens, old) == "900900"
            assert await authenticated(tokens, new) == "alice"


async def test_the_same_id_with_another_key_ends_cached_tokens(
    tmp_path: Path, first: rsa.RSAPrivateKey, second: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    value = token(first, "1")
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        tokens = Tokens(ring)
        async with running(ring):
            assert await authenticated(tokens, value) == "alice"
            server.body = key_set(jwk(second, kid="1"))
            await ring.wait_for(ISSUER, "other")
            assert await authenticated(tokens, value) == "900901"


async def test_a_token_that_waits_in_vain_is_refused_for_want_of_a_key(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock
) -> None:
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        tokens = Tokens(ring)
        async with running(ring):
            assert await authenticated(tokens, token(first, "junk")) == "900900"
            assert server.count == 2


async def test_logs_name_the_issuer_and_no_token(
    tmp_path: Path, first: rsa.RSAPrivateKey, mock_clock: MockClock, log: Log
) -> None:
    value = token(first, "s3cret-kid")
    async with serving(key_set(jwk(first, kid="1"))) as server:
        ring = KeyRing(remote(server), tmp_path)
        tokens = Tokens(ring)
        async with running(ring):
            await authenticated(tokens, value)
    text = "\n".join(log.lines)
    assert "issuer Remote: 1 keys" in text
    assert "s3cret-kid" not in text
    assert all(part.decode() not in text for part in value.split(b".")[1:])


def test_the_limits_are_the_documented_ones() -> None:
    assert (keys_module.WAIT_SECONDS, fetch.FETCH_SECONDS, keys_module.COOL_DOWN) == (
        5,
        5,
        30,
    )
