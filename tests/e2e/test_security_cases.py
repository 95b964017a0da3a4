"""The reference's token cases on WebSocket handshakes, and the
exact answers of the rows A to C, E to H, K and N (spec: security §6)."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from support import issuers
from support.backends import start_echo
from support.gateway import Answer, RunningGateway, start_gateway
from support.projects import OAUTH2, api, asyncapi, write
from trio_gw.guard.certificates import load_pair
from trio_gw.proxy import admission

if TYPE_CHECKING:
    from pathlib import Path

HINT = "Make sure you have provided the correct security credentials"
CHALLENGE = (
    'Bearer realm="Choreo Connect", error="invalid_token",'
    ' error_description="The provided token is invalid"'
)
ISSUER = "https://localhost:9443/oauth2/token"
SELF = "https://self.example/token"
PUBLISHER = "https://localhost:9443/publisher"
BASIC = b"Authorization: Basic YWRtaW46YWRtaW4=\r\n"


def body(message: str, code: str, description: str) -> bytes:
    """Write an error body as the policy component does."""
    fields = {"error_message": message, "code": code, "error_description": description}
    return json.dumps(fields, separators=(",", ":")).encode()


A = 401, body("Invalid Credentials", "900901", HINT)
B = (
    401,
    body(
        "Invalid Credentials",
        "900901",
        f"Not a JWT token. Failed to decode the token header. {HINT}",
    ),
)
C = 401, body("Invalid Credentials", "900901", f"Invalid Credentials. {HINT}")
EXPIRED = (
    401,
    body(
        "Access Token Expired",
        "900903",
        "Access Token Expired. Renew the access token and try again",
    ),
)
E = (
    401,
    body("Unclassified Authentication Failure", "900900", "Unclassified Authentication Failure"),
)
H = (
    403,
    body(
        "The access token does not allow you to access the requested resource",
        "900910",
        "User is NOT authorized to access the Resource: /scoped. Scope validation failed.",
    ),
)
FORBIDDEN = "Resource forbidden "
F = 403, body(FORBIDDEN, "900908", FORBIDDEN)
G = (
    403,
    body(
        FORBIDDEN,
        "900908",
        "User is NOT authorized to access the Resource. API Subscription validation failed.",
    ),
)
S_API = {"name": "S", "version": "1.0.0", "context": "/s/1.0.0", "subscriptionTier": "Gold"}


@pytest.fixture(scope="module")
def signer() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path, signer: rsa.RSAPrivateKey) -> RunningGateway:
    """Topics of every kind; a second issuer whose keys are a JWKS file."""
    backend = await start_echo(nursery)
    channels: dict[str, Any] = {
        "/any": {"publish": {}},
        "/scoped": {"publish": {"x-scopes": ["write:pets", "read:pets"]}},
        "/open": {"publish": {}, "x-auth-type": "None"},
        "/priced": {"publish": {"security": [{"key": []}]}},
        "/asked": {"publish": {"security": [{"parameter": []}]}},
    }
    apis = base / "apis"
    schemes = {
        **OAUTH2["securitySchemes"],
        "key": {"type": "httpApiKey", "in": "header", "name": "X-Api-Key"},
        "parameter": {"type": "httpApiKey", "in": "query", "name": "key"},
    }
    definition = asyncapi(channels, asyncapi="2.6.0", components={"securitySchemes": schemes})
    write(apis, "s", api("S", "/s", backend.url), definition)
    meta = api("H", "/h", backend.url, authorizationHeader="authHeader")
    write(apis, "h", meta, asyncapi(channels))
    proto = api("P", "/p", backend.url, lifeCycleStatus="prototyped")
    write(apis, "p", proto, asyncapi(channels))
    sandbox = api("X", "/x", None)
    sandbox["data"]["endpointConfig"]["sandbox_endpoints"] = {"url": backend.url}
    write(apis, "x", sandbox, asyncapi(channels))
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(signer.public_key()))
    (base / "certs" / "jwks.json").write_text(json.dumps({"keys": [{**key, "kid": "k1"}]}))
    return await start_gateway(
        nursery,
        base,
        issuers=[
            {"issuer": "https://localhost:9095/testkey", "certificate": "certs/mg.pem"},
            {"issuer": ISSUER, "jwks": "certs/jwks.json"},
            {"issuer": SELF, "jwks": "certs/jwks.json", "validate_subscription": True},
            {"issuer": PUBLISHER, "name": "Publisher", "jwks": "certs/jwks.json"},
        ],
        internal_key={"issuer": "Publisher"},
        api_key={"issuer": ISSUER},
    )


def sign(signer: rsa.RSAPrivateKey, kid: str = "k1", **claims: Any) -> str:
    """Sign a token of the second issuer, with `iat` in milliseconds as the reference's tests do."""
    now = int(time.time())
    payload = {"iss": ISSUER, "sub": "admin", "exp": now + 600, "iat": now * 1000, "jti": "1"}
    return issuers.sign(signer, payload | claims, kid=kid)


def padded(token: str) -> str:
    """Return a token with the same parts, base64url with padding; signed anew by the caller."""
    return ".".join(part + "=" * (-len(part) % 4) for part in token.split("."))


async def ask(
    gateway: RunningGateway, path: str, value: str | None, header: str = "Authorization"
) -> Answer:
    """Make a handshake with this header value; for a 101, close it again."""
    extra = b"" if value is None else f"{header}: {value}\r\n".encode()
    stream = await gateway.open()
    raw = bytearray()
    async with stream:
        await stream.send_all(gateway.handshake(path, extra=extra))
        with trio.fail_after(5):
            while data := await stream.receive_some():
                raw += data
                if raw.startswith(b"HTTP/1.1 101"):
                    break
    return Answer(bytes(raw))


def check(answer: Answer, row: tuple[int, bytes]) -> None:
    """Compare status, body and headers with a row of the table."""
    assert (answer.status, answer.body) == row
    assert answer.headers["www-authenticate"] == CHALLENGE
    assert answer.headers["content-type"] == "application/json"


async def test_j1_valid(gateway: RunningGateway) -> None:
    answer = await ask(gateway, "/s/1.0.0/any", f"Bearer {gateway.token()}")
    assert answer.status == 101
    assert "www-authenticate" not in answer.headers


async def test_j2_tampered(gateway: RunningGateway) -> None:
    head, payload, signature = gateway.token().split(".")
    other = gateway.token("more").split(".")[1]
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {head}.{other}.{signature}"), C)
    assert payload != other


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", "Something {}", "Bearer Bearer {}", "Bearer {} x", "{}"],
    ids=str,
)
async def test_row_a(gateway: RunningGateway, value: str | None) -> None:
    filled = None if value is None else value.replace("{}", gateway.token())
    check(await ask(gateway, "/s/1.0.0/any", filled), A)


async def test_j4_expired(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    token = sign(signer, exp=int(time.time()) - 6)
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {token}"), EXPIRED)


async def test_skew_of_five_seconds(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    token = sign(signer, exp=int(time.time()) - 2)
    assert (await ask(gateway, "/s/1.0.0/any", f"Bearer {token}")).status == 101


async def test_j5_row_b(gateway: RunningGateway) -> None:
    check(await ask(gateway, "/s/1.0.0/any", "Bearer aaa.bbb.ccc"), B)


async def test_row_c_unknown_issuer(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {sign(signer, iss='x')}"), C)


async def test_row_e_unknown_key(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {sign(signer, kid='nope')}"), E)


async def test_key_of_one_issuer_does_not_sign_for_the_other(
    gateway: RunningGateway, signer: rsa.RSAPrivateKey
) -> None:
    token = sign(signer, iss="https://localhost:9095/testkey")
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {token}"), C)


async def test_j7_object_claim(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    token = sign(signer, realm={"signing_tenant": "carbon.super"})
    assert (await ask(gateway, "/s/1.0.0/any", f"bEaReR  {token}")).status == 101


async def test_padded_token(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    head, payload, _ = padded(sign(signer)).split(".")
    raw = signer.sign(f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
    token = f"{head}.{payload}.{base64.urlsafe_b64encode(raw).decode()}"
    assert "=" in token
    assert (await ask(gateway, "/s/1.0.0/any", f"Bearer {token}")).status == 101


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (None, 403),
        ("write:pets", 101),
        ("write:pets read:pets", 101),
        ("foo bar", 403),
        ([], 403),
        (["write:other"], 403),
        (["foo", "bar"], 403),
        (["write:pets"], 101),
        (["foo", "read:pets"], 101),
        ("write:petsread:pets", 403),
    ],
    ids=str,
)
async def test_j8_to_j14_scopes(
    gateway: RunningGateway, signer: rsa.RSAPrivateKey, scope: Any, status: int
) -> None:
    token = sign(signer) if scope is None else sign(signer, scope=scope)
    answer = await ask(gateway, "/s/1.0.0/scoped", f"Bearer {token}")
    assert answer.status == status
    if status == 403:
        check(answer, H)


async def test_j22_j23_rows_f_and_g_subscriptions(
    gateway: RunningGateway, signer: rsa.RSAPrivateKey
) -> None:
    token = sign(signer, iss=SELF, subscribedAPIs=[S_API])
    assert (await ask(gateway, "/s/1.0.0/any", f"Bearer {token}")).status == 101
    check(await ask(gateway, "/h/1.0.0/any", f"Bearer {token}", "authHeader"), F)
    unsubscribed = sign(signer, iss=SELF, azp="client")  # J28: nobody to look it up
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {unsubscribed}"), G)


async def test_j15_to_j18_internal_keys(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    claims: dict[str, Any] = {"token_type": "InternalKey", "subscribedAPIs": [S_API]}
    token = sign(signer, **claims)
    for _ in range(2):
        check(await ask(gateway, "/s/1.0.0/scoped", token[:-4], "Internal-Key"), C)
        assert (await ask(gateway, "/s/1.0.0/scoped", token, "Internal-Key")).status == 101
    check(await ask(gateway, "/s/1.0.0/any", sign(signer), "Internal-Key"), A)
    expired = sign(signer, exp=int(time.time()) - 6, **claims)
    check(await ask(gateway, "/s/1.0.0/any", expired, "Internal-Key"), C)
    unlike = f"Internal key authentication failed.. {HINT}"
    row = 401, body("Invalid Credentials", "900901", unlike)
    check(await ask(gateway, "/s/1.0.0/any", "aaa.bbb.ccc", "Internal-Key"), row)
    check(await ask(gateway, "/h/1.0.0/any", token, "Internal-Key"), F)
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {token}"), C)


async def test_j31_the_header_of_internal_keys_is_a_setting(
    nursery: trio.Nursery, base: Path
) -> None:
    backend = await start_echo(nursery)
    write(base / "apis", "s", api("S", "/s", backend.url), asyncapi({"/any": {"publish": {}}}))
    pair = load_pair(base / "certs" / "mg.pem", base / "certs" / "mg.key")
    gateway = await start_gateway(
        nursery,
        base,
        internal_key={"issuer": "https://localhost:9095/testkey", "header": "apikey"},
    )
    claims = {"iss": "x", "exp": int(time.time()) + 60, "token_type": "InternalKey"}
    token = issuers.sign(pair.private_key, claims | {"subscribedAPIs": [S_API]})
    assert (await ask(gateway, "/s/1.0.0/any", token, "apikey")).status == 101
    check(await ask(gateway, "/s/1.0.0/any", token, "Internal-Key"), A)
    assert token not in str(backend.requests)
    assert "apikey" not in backend.requests[0].headers


async def test_j24_api_keys(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    claims: dict[str, Any] = {"token_type": "apiKey", "subscribedAPIs": [S_API]}
    key = sign(signer, permittedIP="127.0.0.0/8, ::1", **claims)
    assert (await ask(gateway, "/s/1.0.0/priced", key, "X-Api-Key")).status == 101
    assert (await ask(gateway, f"/s/1.0.0/asked?a=1&key={key}", None)).status == 101
    check(await ask(gateway, f"/s/1.0.0/priced?key={key}", None), A)
    check(await ask(gateway, "/s/1.0.0/asked", key, "X-Api-Key"), A)
    check(await ask(gateway, "/s/1.0.0/any", key, "X-Api-Key"), A)
    check(await ask(gateway, "/s/1.0.0/priced", sign(signer), "X-Api-Key"), A)
    check(await ask(gateway, "/s/1.0.0/priced", key[:-4], "X-Api-Key"), C)
    check(await ask(gateway, "/s/1.0.0/priced", "aaa.bbb.ccc", "X-Api-Key"), B)
    elsewhere = sign(signer, permittedIP="203.0.113.0/24", **claims)
    check(await ask(gateway, "/s/1.0.0/priced", elsewhere, "X-Api-Key"), F)
    page = sign(signer, permittedReferer="https://app.example/*", **claims)
    check(await ask(gateway, "/s/1.0.0/priced", page, "X-Api-Key"), F)
    with_page = f"{page}\r\nReferer: https://app.example/x"
    assert (await ask(gateway, "/s/1.0.0/priced", with_page, "X-Api-Key")).status == 101


async def test_row_n_an_internal_failure(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is known to cause one, so this breaks a part on purpose.
    monkeypatch.setattr(admission, "check_key_type", lambda *_, **__: 1 / 0)
    answer = await ask(gateway, "/s/1.0.0/any", f"Bearer {gateway.token()}")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    description = told.pop("description")
    assert told == {"code": "102500", "message": "Unclassified Validation Failure"}
    assert re.fullmatch(
        r"Error during validating the request\. Error id [0-9a-f]{8}\.", description
    )


async def test_j19_j20_header_of_the_api(gateway: RunningGateway) -> None:
    value = f"Bearer {gateway.token()}"
    assert (await ask(gateway, "/h/1.0.0/any", value, "authHeader")).status == 101
    check(await ask(gateway, "/h/1.0.0/any", value, "auth-header"), A)
    check(await ask(gateway, "/h/1.0.0/any", value), A)


async def test_j25_open_topic_beside_a_secured_one(gateway: RunningGateway) -> None:
    assert (await ask(gateway, "/s/1.0.0/open", None)).status == 101
    check(await ask(gateway, "/s/1.0.0/any", None), A)


async def test_j30_prototyped(gateway: RunningGateway) -> None:
    assert (await ask(gateway, "/p/1.0.0/scoped", None)).status == 101


ROW_K = "{} key offered to an API with no {} endpoint. " + HINT


async def test_e2_row_k_production(gateway: RunningGateway) -> None:
    row = 401, body("Invalid Credentials", "900901", ROW_K.format("Production", "production"))
    check(await ask(gateway, "/x/1.0.0/any", f"Bearer {gateway.token()}"), row)


async def test_e3_t2_row_k_sandbox(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    row = 401, body("Invalid Credentials", "900901", ROW_K.format("Sandbox", "sandbox"))
    token = sign(signer, keytype="sandbox")
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {token}"), row)


async def test_sandbox_key_goes_to_the_sandbox(
    gateway: RunningGateway, signer: rsa.RSAPrivateKey
) -> None:
    token = sign(signer, keytype="SANDBOX")
    assert (await ask(gateway, "/x/1.0.0/any", f"Bearer {token}")).status == 101
    assert (await ask(gateway, "/x/1.0.0/open", None)).status == 101


async def test_strange_key_type(gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
    row = 401, body("Invalid Credentials", "900901", f"Invalid key type.. {HINT}")
    check(await ask(gateway, "/s/1.0.0/any", f"Bearer {sign(signer, keytype='MOON')}"), row)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_t1_t3_testkey(gateway: RunningGateway, tls: bool) -> None:
    answer = await gateway.get(
        "/testkey", method="POST", headers=BASIC, body=b"scope=read:pets", tls=tls
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain"
    token = answer.body.decode()
    assert (await ask(gateway, "/s/1.0.0/scoped", f"Bearer {token}")).status == 101
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["scope"] == "read:pets"
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parametrize(
    ("header", "status", "text"),
    [
        (b"", 401, "User is NOT authorized to generate a token. Please provide a valid"
                   " Authorization header to continue."),
        (b"Authorization: Basic YWRtaW46d3Jvbmc=\r\n", 401, "Wrong username or password."
                   " Please provide valid credentials."),
        (b"Authorization: Basic !!!\r\n", 400, "Error occurred while processing the request."),
        (b"Authorization: Bearer x\r\n", 401, "Wrong username or password."
                   " Please provide valid credentials."),
    ],
    ids=["none", "wrong", "garbage", "bearer"],
)  # fmt: skip
async def test_testkey_refusals(
    gateway: RunningGateway, header: bytes, status: int, text: str
) -> None:
    # After a success too: the reference then lets everybody in.
    assert (await gateway.get("/testkey", method="POST", headers=BASIC)).status == 200
    answer = await gateway.get("/testkey", method="POST", headers=header)
    assert (answer.status, answer.body.decode()) == (status, text)


async def test_trailing_slash_of_a_system_path(gateway: RunningGateway) -> None:
    for path in ("/health/", "/ready/", "/testkey/"):
        answer = await gateway.get(path)
        assert (answer.status, answer.json()["code"]) == (404, "404")


async def test_health_and_ready(gateway: RunningGateway) -> None:
    for tls in (False, True):
        health = await gateway.get("/health", tls=tls)
        assert (health.status, health.body) == (200, b'{"status": "healthy"}')
        ready = await gateway.get("/ready", method="POST", tls=tls)
        assert (ready.status, ready.body) == (200, b'{"status": "ready"}')
