"""`/testkey` over real sockets: the reference's cases, what it refuses,
and what an attacker finds."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from support.backends import start_echo
from support.gateway import Answer, RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from support.secrets import secret
from trio_gw.config import passwords
from trio_gw.guard.attempts import FREE

if TYPE_CHECKING:
    from pathlib import Path

    import trio

WRONG = b"Wrong username or password. Please provide valid credentials."
MALFORMED = b"Error occurred while processing the request."
SECRET = secret("correct horse battery staple")
COST = passwords.Cost(10, 8, 1)
SALT = bytes(range(16))
HASH = str(passwords.ScryptHash(COST, SALT, COST.derive(SECRET.encode(), SALT)))


def basic(text: str) -> bytes:
    pair = base64.b64encode(text.encode())
    if text.endswith(SECRET):
        secret(pair.decode())
    return b"Authorization: Basic " + pair + b"\r\n"


async def serve(nursery: trio.Nursery, base: Path, **settings: Any) -> RunningGateway:
    """Serve one API with a scope, for users with a hash and without."""
    backend = await start_echo(nursery)
    topics = {"/pets": {"subscribe": {"x-scopes": ["read:pets"]}}}
    write(base / "apis", "Pets", api("Pets", "/pets", backend.url), asyncapi(topics))
    only = api("Sand", "/sand", None)
    only["data"]["endpointConfig"]["sandbox_endpoints"] = {"url": backend.url}
    write(base / "apis", "Sand", only, asyncapi({"/any": {"subscribe": {}}}))
    users = [
        {"username": "admin", "password": "admin"},
        {"username": "alice", "password": HASH},
    ]
    return await start_gateway(nursery, base, testkey={"users": users}, **settings)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await serve(nursery, base)


async def post(gateway: RunningGateway, header: bytes, body: bytes = b"", **more: Any) -> Answer:
    return await gateway.get("/testkey", method="POST", headers=header, body=body, **more)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("user", ["admin:admin", f"alice:{SECRET}"], ids=["plain", "hashed"])
async def test_t1_t3_the_token_opens_the_api(gateway: RunningGateway, user: str, tls: bool) -> None:
    answer = await post(gateway, basic(user), b"scope=read:pets", tls=tls)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-length"] == str(len(answer.body))
    token = answer.body.decode()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == user.partition(":")[0]
    async with gateway.connect("/pets/1.0.0/pets", token, tls=tls) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    # Without the scope it opens nothing.
    token = (await post(gateway, basic(user), tls=tls)).body.decode()
    refused = await gateway.ask(gateway.handshake("/pets/1.0.0/pets", token), tls=tls)
    assert (refused.status, refused.json()["code"]) == (403, "900910")


async def test_t2_a_sandbox_key_opens_no_production(gateway: RunningGateway) -> None:
    good = (await post(gateway, basic("admin:admin"), b"scope=read:pets")).body.decode()
    claims = jwt.decode(good, options={"verify_signature": False})
    key = (gateway.base / "certs" / "mg.key").read_text()
    token = jwt.encode({**claims, "keytype": "SANDBOX"}, key, algorithm="RS256")
    refused = await gateway.ask(gateway.handshake("/pets/1.0.0/pets", token))
    assert refused.status == 401
    assert b"Sandbox key offered to an API with no sandbox endpoint" in refused.body


async def test_the_token_opens_no_sandbox(gateway: RunningGateway) -> None:
    token = (await post(gateway, basic("admin:admin"))).body.decode()
    refused = await gateway.ask(gateway.handshake("/sand/1.0.0/any", token))
    assert refused.status == 401
    assert b"Production key offered to an API with no production endpoint" in refused.body


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_any_method_will_do(gateway: RunningGateway, method: str) -> None:
    answer = await gateway.get("/testkey", method=method, headers=basic("admin:admin"))
    assert (answer.status, answer.body.count(b".")) == (200, 2)


async def test_scopes_with_spaces_and_no_query(gateway: RunningGateway) -> None:
    answer = await gateway.get(
        "/testkey?scope=x",
        method="POST",
        headers=basic("admin:admin") + b"Content-Type: application/json\r\n",
        body=b"a=1&scope=read:pets write:pets",
    )
    claims = jwt.decode(answer.body, options={"verify_signature": False})
    assert claims["scope"] == "read:pets write:pets"


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        (basic("admin:wrong"), 401, WRONG),
        (basic("nobody:admin"), 401, WRONG),
        (basic("alice:admin"), 401, WRONG),
        (basic(f"alice:{HASH}"), 401, WRONG),
        (basic("admin:"), 401, WRONG),
        (basic(":"), 401, WRONG),
        (basic("admin:" + "x" * 6000), 401, WRONG),
        (basic("x" * 6000 + ":admin"), 401, WRONG),
        (basic("admin\0:admin"), 401, WRONG),
        (b"Authorization: Digest username=admin\r\n", 401, WRONG),
        (b"Authorization:\r\n", 401, WRONG),
        (b"Authorization: Basic\r\n", 400, MALFORMED),
        (basic("admin"), 400, MALFORMED),
        (b"Authorization: Basic YWRtaW46YWRtaW4=, x\r\n", 400, MALFORMED),
        (b"Authorization: Basic \xff\xfe\r\n", 400, MALFORMED),
    ],
)
async def test_what_is_refused(
    gateway: RunningGateway, header: bytes, status: int, body: bytes
) -> None:
    answer = await post(gateway, header)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers["content-type"] == "text/plain"
    assert (await post(gateway, basic("admin:admin"))).status == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (basic("admin:admin") * 2, 400),
        (basic("admin:wrong") + basic("admin:admin"), 400),
        (basic("admin:" + "x" * 60_000), 431),
        (b"Authorization: Basic\r\n YWRtaW46YWRtaW4=\r\n", 400),
        (b"Authorization : Basic YWRtaW46YWRtaW4=\r\n", 400),
    ],
    ids=["twice", "two", "huge", "folded", "space"],
)
async def test_heads_that_never_get_there(
    gateway: RunningGateway, header: bytes, status: int
) -> None:
    answer = await post(gateway, header)
    assert answer.status == status
    assert b"YWRtaW4" not in answer.raw


async def test_no_key_where_it_is_turned_off(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start_gateway(nursery, base, testkey={"enabled": False})
    answer = await post(gateway, basic("admin:admin"))
    assert (answer.status, answer.json()["code"]) == (404, "404")


async def test_guessing_is_slowed(gateway: RunningGateway) -> None:
    for number in range(FREE):
        assert (await post(gateway, basic(f"admin:{number}"))).status == 401
    answer = await post(gateway, basic("admin:admin"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.headers["content-type"] == "text/plain"
    # Whoever has a token is not kept from using it.
    token = gateway.token("read:pets")
    async with gateway.connect("/pets/1.0.0/pets", token) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


async def test_behind_a_proxy_each_client_is_slowed_by_itself(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway = await serve(nursery, base, trusted_proxies=["127.0.0.0/8"])
    bad = basic("admin:guess") + b"X-Forwarded-For: 192.0.2.9, 203.0.113.1\r\n"
    for _ in range(FREE):
        assert (await post(gateway, bad)).status == 401
    assert (await post(gateway, bad)).status == 429
    # Making up another beginning of the chain does not help, being somebody else does.
    bad = basic("admin:guess") + b"X-Forwarded-For: 198.51.100.7, 203.0.113.1\r\n"
    assert (await post(gateway, bad)).status == 429
    good = basic("admin:admin") + b"X-Forwarded-For: 203.0.113.2\r\n"
    assert (await post(gateway, good)).status == 200


async def test_a_stranger_cannot_blame_another_address(gateway: RunningGateway) -> None:
    for number in range(FREE):
        header = basic("admin:guess") + b"X-Forwarded-For: 192.0.2.%d\r\n" % number
        assert (await post(gateway, header)).status == 401
    header = basic("admin:guess") + b"X-Forwarded-For: 192.0.2.99\r\n"
    assert (await post(gateway, header)).status == 429


async def test_no_password_is_told_to_anyone(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    guess = "a guess that nobody makes"
    answers = [
        await post(gateway, basic(f"alice:{SECRET}")),
        await post(gateway, basic(f"alice:{guess}")),
        await post(gateway, basic(f"{guess}:{guess}")),
        await post(gateway, b"Authorization: Basic " + guess.encode() + b"\r\n"),
        await post(gateway, b"Authorization: " + guess.encode() + b"\r\n"),
    ]
    assert [answer.status for answer in answers] == [200, 401, 401, 400, 401]
    # The line of a connection is written when it is over, the last one's perhaps after this.
    assert caplog.text.count("/testkey") >= len(answers) - 1
    said = caplog.text + repr(vars(gateway.running.testkeys)) + repr(gateway.running)
    said += "".join(answer.raw.decode() for answer in answers)
    for hidden in (SECRET, guess, HASH):
        assert hidden not in said
        assert base64.b64encode(f"alice:{hidden}".encode()).decode() not in said
    assert answers[0].body.decode() not in caplog.text
