"""Built-in endpoints over HTTP/1.0, as load balancers ask for them, and topics that need more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=[False, True], ids=["", "strict"])
async def gateway(
    request: pytest.FixtureRequest, nursery: trio.Nursery, base: Path
) -> RunningGateway:
    backend = await start_echo(nursery)
    write(base / "apis", "B", api("B", "/b", backend.url), asyncapi({"/t": {"publish": {}}}))
    strict: bool = request.param
    return await start_gateway(
        nursery,
        base,
        strict_vhosts=strict,
        backend_jwt={"enabled": True},
        metrics={"listen": "localhost:0"},
    )


HOSTS = [b"", b"Host: localhost\r\n"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /health", 200),
        (b"HEAD /health", 200),
        (b"OPTIONS /health", 200),
        (b"GET /ready", 200),
        (b"GET /.wellknown/jwks", 200),
        (b"POST /testkey", 401),
        (b"GET /none", 404),
        (b"GET http://localhost/health", 200),
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_built_in_endpoints(
    gateway: RunningGateway, asked: bytes, status: int, host: bytes, tls: bool
) -> None:
    answer = await gateway.ask(asked + b" HTTP/1.0\r\n" + host + b"\r\n", tls=tls)
    assert answer.status == status


@pytest.mark.parametrize("host", HOSTS)
async def test_a_test_key(gateway: RunningGateway, host: bytes) -> None:
    answer = await gateway.ask(
        b"POST /testkey HTTP/1.0\r\nAuthorization: Basic YWRtaW46YWRtaW4=\r\n"
        b"Content-Length: 7\r\n" + host + b"\r\nscope=a"
    )
    assert answer.status == 200
    assert answer.body.count(b".") == 2


@pytest.mark.parametrize("host", HOSTS)
async def test_metrics(gateway: RunningGateway, host: bytes) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.metrics_port)
    async with stream:
        await stream.send_all(b"GET /metrics HTTP/1.0\r\n" + host + b"\r\n")
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_a_topic_says_what_nginx_needs(gateway: RunningGateway) -> None:
    for fields in (b"", b"Upgrade: websocket\r\nConnection: upgrade\r\n"):
        answer = await gateway.ask(
            b"GET /b/1.0.0/t HTTP/1.0\r\nHost: localhost\r\n" + fields + b"\r\n"
        )
        assert answer.status == 505
        for line in (
            "proxy_http_version 1.1;",
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection upgrade;",
        ):
            assert line in answer.json()["description"]
