"""Attacks on authentication, against a running gateway: none gets in, none is told too much."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from support.backends import Backend, read_head, start_backend, start_raw
from support.gateway import Answer, RunningGateway, start_gateway
from support.issuers import HttpServer, compact, key_set, sign, start_http
from support.projects import api, asyncapi, write
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.trio.server import ServerConnection

ISSUER = "https://issuer.example/token"
OTHER = "https://other.example/token"
PATH = "/a/1.0.0/any"


class World:
    """A gateway with two issuers, a backend, and a server that nobody must ask for anything."""

    def __init__(self, gateway: RunningGateway, backend: Backend, bait: HttpServer) -> None:
        self.gateway = gateway
        self.backend = backend
        self.bait = bait

    async def ask(self, token: str, path: str = PATH) -> Answer:
        """Try a token; it must be refused, nobody asked, and nothing of it repeated."""
        answer = await self.gateway.ask(self.gateway.handshake(path, token))
        assert answer.status in (401, 403)
        assert json.loads(answer.body)["code"].startswith("9009")
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert self.backend.requests == []
        assert self.bait.requests == []
        return answer


@pytest.fixture(scope="module")
def keys() -> dict[str, rsa.RSAPrivateKey]:
    return {name: rsa.generate_private_key(65537, 2048) for name in ("one", "two", "evil")}


@pytest.fixture
async def world(nursery: trio.Nursery, base: Path, keys: dict[str, rsa.RSAPrivateKey]) -> World:
    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()

    backend = await start_backend(nursery, handler)
    bait = await start_http(nursery, lambda *_: (200, key_set(evil=keys["evil"])))
    write(base / "apis", "a", api("A", "/a", backend.url), asyncapi({"/any": {"publish": {}}}))
    (base / "certs" / "one.json").write_bytes(key_set(one=keys["one"]))
    (base / "certs" / "two.json").write_bytes(key_set(two=keys["two"]))
    gateway = await start_gateway(
        nursery,
        base,
        issuers=[
            {"issuer": ISSUER, "jwks": "certs/one.json", "algorithms": ["RS256", "ES256"]},
            {"issuer": OTHER, "jwks": "certs/two.json"},
        ],
    )
    return World(gateway, backend, bait)


def claims(**more: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "sub": "mallory", "exp": int(time.time()) + 600} | more


def raw(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, key: Any) -> str:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return compact(head, body, key)


HEADER = {"alg": "RS256", "kid": "one"}


async def test_the_right_key_opens(world: World, keys: dict[str, rsa.RSAPrivateKey]) -> None:
    """Without this nothing below would mean anything."""
    await world.gateway.upgrade(PATH, raw(HEADER, claims(), keys["one"]))
    assert len(world.backend.requests) == 1


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "NoNe", "", " none", "none\x00"])
@pytest.mark.parametrize("signature", ["", "AA", "right"])
async def test_alg_none(
    world: World, keys: dict[str, rsa.RSAPrivateKey], alg: str, signature: str
) -> None:
    token = raw({"alg": alg, "kid": "one"}, claims(), keys["one"])
    if signature != "right":
        token = token[: token.rindex(".") + 1] + signature
    await world.ask(token)


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
async def test_the_public_key_as_a_shared_secret(
    world: World, keys: dict[str, rsa.RSAPrivateKey], alg: str
) -> None:
    public = keys["one"].public_key()
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    jwk = RSAAlgorithm.to_jwk(public)
    for shared in (public.public_bytes(*pem), public.public_bytes(*der), jwk.encode(), b""):
        signed = compact(json.dumps({"alg": alg, "kid": "one"}).encode(),
                         json.dumps(claims()).encode()).rpartition(".")[0]  # fmt: skip
        digest = hmac.digest(shared, signed.encode(), alg.replace("HS", "sha"))
        mac = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        await world.ask(secret(f"{signed}.{mac}"))


async def test_a_zero_signature_on_a_curve(world: World) -> None:
    signed = compact(b'{"alg":"ES256","kid":"one"}', json.dumps(claims()).encode())
    zeros = base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()
    await world.ask(f"{signed.rpartition('.')[0]}.{zeros}")


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "certs/one.json",
        "file:///etc/passwd",
        "one' OR '1'='1",
        "one'; DROP TABLE keys; --",
        "one\x00",
        "\x00",
        "one\r\nX-Injected: 1",
        "$(id)",
        "{{7*7}}",
        "ONE",
        "one ",
        "k" * 10_240,
        "",
    ],
    ids=lambda kid: repr(kid[:20]),
)
async def test_a_key_id_is_only_compared(
    world: World, keys: dict[str, rsa.RSAPrivateKey], kid: str
) -> None:
    for key in ("evil", "one"):
        answer = await world.ask(raw({"alg": "RS256", "kid": kid}, claims(), keys[key]))
        assert answer.json()["code"] == "900900"
        assert "x-injected" not in answer.headers


@pytest.mark.parametrize("kid", [5, ["one"], {"one": 1}, True], ids=str)
async def test_a_key_id_that_is_no_text(
    world: World, keys: dict[str, rsa.RSAPrivateKey], kid: Any
) -> None:
    await world.ask(raw({"alg": "RS256", "kid": kid}, claims(), keys["one"]))


async def test_keys_and_addresses_of_keys_in_a_token_are_ignored(
    world: World, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    url = world.bait.url("/keys")
    jwk = RSAAlgorithm.to_jwk(keys["evil"].public_key(), as_dict=True)
    for extra in (
        {"jku": url},
        {"x5u": url},
        {"jwk": jwk},
        {"x5c": ["MIIB"]},
        {"jku": url, "x5u": url, "jwk": jwk, "kid": url},
        {"kid": url},
    ):
        await world.ask(raw({**HEADER, **extra}, claims(), keys["evil"]))
        await world.ask(raw({**HEADER, **extra}, claims(iss=url), keys["evil"]))
    # That server would have been asked if anybody had tried.
    async with await trio.open_tcp_stream("127.0.0.1", world.bait.port) as stream:
        await stream.send_all(b"GET /keys HTTP/1.1\r\n\r\n")
        assert b"200" in await stream.receive_some()
    assert len(world.bait.requests) == 1


async def test_an_issuer_and_a_key_that_do_not_belong_together(
    world: World, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    for issuer, kid, key in (
        (ISSUER, "two", "two"),
        (ISSUER, "one", "two"),
        (OTHER, "one", "one"),
        (OTHER, "two", "one"),
        (ISSUER + "/", "one", "one"),
        (ISSUER.upper(), "one", "one"),
        ("", "one", "one"),
    ):
        token = raw({"alg": "RS256", "kid": kid}, claims(iss=issuer), keys[key])
        await world.ask(token)


@pytest.mark.parametrize("issuer", [None, 5, [ISSUER], {ISSUER: 1}], ids=str)
async def test_an_issuer_that_is_no_text(
    world: World, keys: dict[str, rsa.RSAPrivateKey], issuer: Any
) -> None:
    await world.ask(raw(HEADER, claims(iss=issuer), keys["one"]))


@pytest.mark.parametrize(
    "exp",
    ["1e400", "1e308", "-1e308", "99999999999999999999999999", '"1900000000"', "true", "null",
     "[]", "{}", "-1", "0", "253402300800", "NaN", "Infinity"],
)  # fmt: skip
async def test_an_expiry_time_of_any_shape(
    world: World, keys: dict[str, rsa.RSAPrivateKey], exp: str
) -> None:
    payload = f'{{"iss":"{ISSUER}","sub":"m","exp":{exp}}}'.encode()
    await world.ask(raw(HEADER, payload, keys["one"]))


async def test_an_expiry_time_may_have_a_fraction(
    world: World, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    """RFC 7519 §2 allows it."""
    await world.gateway.upgrade(PATH, raw(HEADER, claims(exp=time.time() + 60.5), keys["one"]))
    del world.backend.requests[:]
    late = await world.ask(raw(HEADER, claims(exp=time.time() - 5.5), keys["one"]))
    assert late.json()["code"] == "900903"


async def test_of_a_name_given_twice_the_last_counts_everywhere(
    world: World, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    late = int(time.time()) + 600
    twice = f'{{"iss":"{ISSUER}","iss":"x","exp":{late}}}'.encode()
    await world.ask(raw(HEADER, twice, keys["one"]))
    twice = f'{{"iss":"{ISSUER}","exp":{late},"exp":1}}'.encode()
    await world.ask(raw(HEADER, twice, keys["one"]))
    await world.ask(raw(b'{"alg":"RS256","alg":"none","kid":"one"}', claims(), keys["one"]))
    await world.ask(raw(b'{"alg":"RS256","kid":"one","kid":"x"}', claims(), keys["one"]))


@pytest.mark.parametrize(("size", "status"), [(16_400, 401), (40_000, 401), (100_000, 431)])
async def test_a_token_that_is_too_large(
    world: World, keys: dict[str, rsa.RSAPrivateKey], size: int, status: int
) -> None:
    token = raw(HEADER, claims(x="x" * size), keys["one"])
    answer = await world.gateway.ask(world.gateway.handshake(PATH, token))
    assert answer.status == status
    assert token.encode()[:60] not in answer.raw


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
async def test_a_token_that_is_nested_deeply(
    world: World, keys: dict[str, rsa.RSAPrivateKey], opening: bytes
) -> None:
    deep = opening * (9000 // len(opening))
    for header in (b"{}", json.dumps(HEADER).encode()):
        await world.ask(compact(header, deep, keys["one"]))
        await world.ask(compact(deep[:3000], header, keys["one"]))
    closing = b"]" * 4000
    nested = json.dumps(claims()).encode()[:-1] + b',"x":' + b"[" * 4000 + closing + b"}"
    answer = await world.gateway.ask(
        world.gateway.handshake(PATH, raw(HEADER, nested, keys["one"]))
    )
    assert answer.status == 401


@pytest.mark.parametrize(
    "value",
    [
        "Bearer\u00a0{}",
        "Bearer\u2003{}",
        "Be\u00e4rer {}",
        "Bearer {}\u200b",
        "Bearer {}\u00e9",
        "Bearer \ufeff{}",
        "Bearer {} {}",
        "Bearer {},{}",
        "Bearer : {}",
        "Bearer={}",
        '"Bearer {}"',
        "Bearer '{}'",
        "{} Bearer",
        "Basic {}",
    ],
)
async def test_unicode_and_white_space_in_the_header(
    world: World, keys: dict[str, rsa.RSAPrivateKey], value: str
) -> None:
    token = raw(HEADER, claims(), keys["one"])
    line = b"Authorization: " + value.replace("{}", token).encode() + b"\r\n"
    answer = await world.gateway.ask(world.gateway.handshake(PATH, extra=line))
    assert answer.status in (400, 401)
    assert token.encode() not in answer.raw
    assert world.backend.requests == []


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("inserted", ["+", "/", "=", "%3D", "~", "!", "\u00e9"])
async def test_letters_that_base64url_does_not_have(
    world: World, keys: dict[str, rsa.RSAPrivateKey], part: int, inserted: str
) -> None:
    parts = raw(HEADER, claims(), keys["one"]).split(".")
    parts[part] = parts[part][:8] + inserted + parts[part][8:]
    line = f"Authorization: Bearer {'.'.join(parts)}\r\n".encode()
    answer = await world.gateway.ask(world.gateway.handshake(PATH, extra=line))
    assert answer.status in (400, 401)
    assert world.backend.requests == []


async def test_two_headers_are_no_credential_even_if_both_are_good(
    world: World, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    token = raw(HEADER, claims(), keys["one"])
    for other in (token, "x", ""):
        lines = f"Authorization: Bearer {token}\r\nauthorization: Bearer {other}\r\n".encode()
        answer = await world.gateway.ask(world.gateway.handshake(PATH, extra=lines))
        assert (answer.status, answer.json()["code"]) == (401, "900901")
    assert world.backend.requests == []


@pytest.mark.parametrize("text", ["a\r\nX-Injected: 1", "a\nX-Injected: 1", "a\x00b", "\u2028"])
async def test_nothing_is_injected_through_claims(
    world: World, keys: dict[str, rsa.RSAPrivateKey], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("sub", "jti", "azp", "aud", "keytype", "scope", "nbf", "x\r\nX-Injected: 2")
    good = claims(**dict.fromkeys(("sub", "jti", "azp", "aud", "scope"), text))
    await world.gateway.upgrade(PATH, raw(HEADER, good, keys["one"]))
    assert "x-injected" not in world.backend.requests[-1].headers
    del world.backend.requests[:]
    for name in names:
        token = (
            raw(HEADER, claims(keytype="X", **{name: text}), keys["one"])
            if (name != "keytype")
            else raw(HEADER, claims(keytype=text), keys["one"])
        )
        answer = await world.ask(token)
        assert "x-injected" not in answer.headers
        assert b"X-Injected" not in answer.raw
    assert "X-Injected" not in caplog.text


@pytest.mark.parametrize(
    "alg", ["RS384", "RS512", "PS256", "ES384", "EdDSA", "RS1", "dir", "ES256"]
)
async def test_algorithms_that_the_issuer_does_not_use(
    world: World, keys: dict[str, rsa.RSAPrivateKey], alg: str
) -> None:
    key: Any = keys["one"]
    if alg in ("RS384", "RS512", "PS256"):
        await world.ask(sign(key, claims(), alg, kid="one"))
    elif alg == "ES256":
        await world.ask(sign(ec.generate_private_key(ec.SECP256R1()), claims(), alg, kid="one"))
    else:
        await world.ask(raw({"alg": alg, "kid": "one"}, claims(), key))


async def test_critical_extensions_and_nested_tokens(
    world: World, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    await world.ask(raw({**HEADER, "crit": ["b64"], "b64": False}, claims(), keys["one"]))
    inner = raw(HEADER, claims(), keys["one"])
    await world.ask(raw({**HEADER, "cty": "JWT"}, inner.encode(), keys["one"]))


@pytest.mark.parametrize("status", [200, 400, 426])
@pytest.mark.parametrize("length", [True, False], ids=["length", "until close"])
async def test_nothing_follows_an_upgrade_that_was_refused(
    nursery: trio.Nursery, base: Path, status: int, length: bool
) -> None:
    """The backend refuses and keeps its connection; the client acts as if it had been upgraded."""
    seen = bytearray()
    done = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        seen.extend(await read_head(stream))
        line = b"Content-Length: 2\r\n" if length else b""
        await stream.send_all(b"HTTP/1.1 %d X\r\n%s\r\nok" % (status, line))
        if not length:
            await stream.send_eof()
        while data := await stream.receive_some():
            seen.extend(data)
        done.set()

    backend = await start_raw(nursery, handler)
    topic = {"publish": {}, "x-auth-type": "None"}
    write(base / "apis", "b", api("B", "/b", backend.url), asyncapi({"/t": topic}))
    gateway = await start_gateway(nursery, base)
    smuggled = b"GET /admin HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: yes\r\n\r\n"
    stream = await gateway.open()
    async with stream:
        await stream.send_all(gateway.handshake("/b/1.0.0/t"))
        head = await read_head(stream)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in head.lower()
        try:
            for _ in range(3):
                await stream.send_all(smuggled)
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    with trio.fail_after(5):
        await done.wait()
    assert seen.count(b"HTTP/1.1\r\n") == 1
    assert b"smuggled" not in seen.lower()
