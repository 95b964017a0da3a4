"""Several backends for one API: turns, failover, checks, retries, trust, credentials."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from websockets.exceptions import ConnectionClosed

from support.backends import Backend, read_head, start_backend, start_echo, start_raw
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.trio.server import ServerConnection

PATH = "/c/1.0.0/t"
OPEN = {"publish": {}, "x-auth-type": "None"}


def project(base: Path, endpoints: dict[str, Any], topic: Any = OPEN) -> None:
    """Write an API with this endpointConfig."""
    meta = api("C", "/c", None)
    meta["data"]["endpointConfig"].update(endpoints)
    write(base / "apis", "c", meta, asyncapi({"/t": topic}))


async def named(
    nursery: trio.Nursery, name: str, port: int = 0
) -> tuple[Backend, trio.CancelScope]:
    """Start a backend that says its name; the scope kills it, connections and all."""
    scope = trio.CancelScope()

    async def handler(connection: ServerConnection) -> None:
        await connection.send(name)
        with pytest.raises(ConnectionClosed):
            await connection.recv()

    async def run(task_status: trio.TaskStatus[Backend]) -> None:
        with scope:
            async with trio.open_nursery() as own:
                task_status.started(await start_backend(own, handler, port=port))
                await trio.sleep_forever()

    return await nursery.start(run), scope


async def who(gateway: RunningGateway, token: str | None = None) -> str:
    """Connect; return the name of the backend that answered."""
    async with gateway.connect(PATH, token) as client:
        with trio.fail_after(5):
            return str(await client.recv())


async def test_turns(nursery: trio.Nursery, base: Path) -> None:
    backends = [(await named(nursery, name))[0] for name in "abc"]
    project(base, {"production_endpoints": [{"url": backend.url} for backend in backends]})
    gateway = await start_gateway(nursery, base)
    assert "".join([await who(gateway) for _ in range(6)]) in ("abcabc", "bcabca", "cabcab")


async def test_failover_under_traffic_and_back(nursery: trio.Nursery, base: Path) -> None:
    """The first is killed and brought back: nobody is refused, and it gets its work back."""
    first, kill = await named(nursery, "first")
    second, _ = await named(nursery, "second")
    project(
        base,
        {
            "endpoint_type": "failover",
            "production_endpoints": {"url": first.url},
            "production_failovers": [{"url": second.url}],
        },
    )
    gateway = await start_gateway(nursery, base, health={"interval": 0.2, "timeout": 0.5})
    assert [await who(gateway) for _ in range(5)] == ["first"] * 5
    kill.cancel()
    assert [await who(gateway) for _ in range(20)] == ["second"] * 20
    await named(nursery, "first", port=first.port)
    with trio.fail_after(5):
        while await who(gateway) == "second":
            pass
    assert [await who(gateway) for _ in range(5)] == ["first"] * 5


async def test_none_of_them(nursery: trio.Nursery, base: Path) -> None:
    first, kill_first = await named(nursery, "first")
    second, kill_second = await named(nursery, "second")
    project(base, {"production_endpoints": [{"url": first.url}, {"url": second.url}]})
    gateway = await start_gateway(nursery, base)
    for kill in (kill_first, kill_second):
        kill.cancel()
    codes = []
    for _ in range(3):
        answer = await gateway.ask(gateway.handshake(PATH))
        assert answer.status == 503
        codes.append(answer.json()["code"])
    # Not reachable; and after two failures each, known to be down.
    assert codes == ["102503", "102503", "102508"]
    await named(nursery, "first", port=first.port)
    assert await who(gateway) == "first", "a guess that all are down keeps nobody out"


async def test_a_black_hole_does_not_take_all_the_time(nursery: trio.Nursery, base: Path) -> None:
    """A backend that accepts nothing costs its share of the time, then the next one is asked."""
    sock = trio.socket.socket()
    with sock:
        await sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        # A full backlog: further connections get no answer at all.
        plugs = [trio.socket.socket() for _ in range(8)]
        with trio.move_on_after(0.3):
            async with trio.open_nursery() as connecting:
                for plug in plugs:
                    connecting.start_soon(plug.connect, ("127.0.0.1", port))
        second, _ = await named(nursery, "second")
        endpoints = [{"url": f"ws://127.0.0.1:{port}"}, {"url": second.url}]
        project(base, {"production_endpoints": endpoints[0], "production_failovers": endpoints[1:]})
        gateway = await start_gateway(nursery, base, timeouts={"connect": 1})
        with trio.fail_after(3):
            assert await who(gateway) == "second"
        for plug in plugs:
            plug.close()


@pytest.mark.parametrize(("retries", "status"), [(0, 504), (1, 504), (2, 101), (9, 101)])
async def test_retries(nursery: trio.Nursery, base: Path, retries: int, status: int) -> None:
    asked = 0
    echo = await start_echo(nursery)

    async def moody(stream: trio.SocketStream) -> None:
        nonlocal asked
        head = await read_head(stream)
        asked += 1
        if asked < 3:
            await stream.send_all(b"HTTP/1.1 504 Later\r\nContent-Length: 0\r\n\r\n")
            return
        async with await trio.open_tcp_stream("127.0.0.1", echo.port) as behind:
            await behind.send_all(head)
            await stream.send_all(await behind.receive_some())
            await stream.receive_some()

    backend = await start_raw(nursery, moody)
    config = {"actionDuration": "30000", "retryTimeOut": str(retries)}
    project(base, {"production_endpoints": {"url": backend.url, "config": config}})
    gateway = await start_gateway(nursery, base, retry={"limit": 5, "backoff": 0.001})
    # The client's own wish has no say (reference test E10).
    handshake = gateway.handshake(PATH, extra=b"x-envoy-max-retries: 10\r\n")
    stream = await gateway.open()
    await stream.send_all(handshake)
    with trio.fail_after(5):
        answer = bytes(await stream.receive_some())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert asked == min(retries, 2) + 1


async def test_timeout_of_the_api(nursery: trio.Nursery, base: Path) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.receive_some()

    backend = await start_raw(nursery, silent)
    config = {"actionDuration": "300", "retryTimeOut": "0"}
    project(base, {"production_endpoints": {"url": backend.url, "config": config}})
    gateway = await start_gateway(nursery, base)
    with trio.fail_after(3):
        answer = await gateway.ask(gateway.handshake(PATH))
    assert (answer.status, answer.json()["code"]) == (504, "102504")


async def test_trust_of_one_endpoint(nursery: trio.Nursery, base: Path) -> None:
    """A backend's own CA, in the project's Endpoint-certificates; host name and SNI are checked."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    seen: list[str | None] = []
    context.sni_callback = lambda _, name, __: seen.append(name)
    backend = await start_echo(nursery, ssl=context)
    url = f"wss://localhost:{backend.port}"
    project(base, {"production_endpoints": {"url": url}})
    gateway = await start_gateway(nursery, base)
    assert (await gateway.ask(gateway.handshake(PATH))).status == 503
    folder = base / "apis" / "c" / "Endpoint-certificates"
    folder.mkdir()
    (folder / "backend.crt").write_bytes(authority.cert_pem.bytes())
    with trio.fail_after(3):
        await gateway.running.live.wait_changed()
    async with gateway.connect(PATH) as client:
        await client.send("trusted")
        assert await client.recv() == "trusted"
    assert seen[-1] == "localhost"
    # The same certificate for another name is not good enough.
    wrong = f"wss://127.0.0.1:{backend.port}"
    project(base, {"production_endpoints": {"url": wrong}})
    with trio.fail_after(3):
        await gateway.running.live.wait_changed()
    assert (await gateway.ask(gateway.handshake(PATH))).status == 503


async def test_basic_credentials(nursery: trio.Nursery, base: Path) -> None:
    """Reference test E6."""
    backend = await start_echo(nursery)
    secret = {"enabled": True, "type": "basic", "username": "admin", "password": "admin"}
    project(
        base,
        {
            "production_endpoints": {"url": backend.url},
            "endpoint_security": {"production": secret},
        },
        {"publish": {}},
    )
    gateway = await start_gateway(nursery, base, forward_credentials=True)
    async with gateway.connect(PATH, gateway.token()):
        pass
    assert backend.requests[-1].headers.get_all("Authorization") == ["Basic YWRtaW46YWRtaW4="]


async def test_ipv6_backend(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery, host="::1")
    project(base, {"production_endpoints": {"url": f"ws://[::1]:{backend.port}/v2"}})
    gateway = await start_gateway(nursery, base)
    async with gateway.connect(PATH) as client:
        await client.send("six")
        assert await client.recv() == "six"
    assert backend.requests[-1].headers["Host"] == f"[::1]:{backend.port}"


async def test_name_with_a_dead_address_first(
    nursery: trio.Nursery, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name has two addresses; a backend on either of them is found (RFC 8305)."""
    real = socket.getaddrinfo

    def both(host: Any, port: Any, *more: Any) -> Any:
        if host != b"both.example" or more[3] & socket.AI_NUMERICHOST:
            return real(host, port, *more)
        return real("::1", port, *more) + real("127.0.0.1", port, *more)

    monkeypatch.setattr(socket, "getaddrinfo", both)  # no DNS is there to be asked
    for host in ("127.0.0.1", "::1"):
        backend = await start_echo(nursery, host=host)
        project(base, {"production_endpoints": {"url": f"ws://both.example:{backend.port}"}})
        async with trio.open_nursery() as own:
            gateway = await start_gateway(own, base)
            async with gateway.connect(PATH) as client:
                await client.send("found")
                assert await client.recv() == "found"
            own.cancel_scope.cancel()


async def test_cors_on_the_wire(nursery: trio.Nursery, base: Path) -> None:
    """Spec: security §9; reference tests E12 to E16."""
    backend = await start_echo(nursery)
    project(base, {"production_endpoints": {"url": backend.url}})
    cors = {"allow_origins": ["http://ok.example"], "expose_headers": ["X-Custom"]}
    gateway = await start_gateway(nursery, base, cors=cors)
    ok, foreign = b"Origin: http://ok.example\r\n", b"Origin: http://foreign.example\r\n"
    asks = b"Access-Control-Request-Method: GET\r\n"
    answer = await gateway.get(PATH, method="OPTIONS", headers=ok + asks)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://ok.example"
    assert "access-control-allow-methods" in answer.headers
    for headers in (foreign + asks, foreign, b""):
        answer = await gateway.get(PATH, method="OPTIONS", headers=headers)
        assert (answer.status, answer.headers["allow"]) == (204, "OPTIONS, GET")
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    async with gateway.connect(PATH, origin="http://ok.example") as client:
        assert client.response is not None
        assert client.response.headers["Access-Control-Allow-Origin"] == "http://ok.example"
        assert client.response.headers["Access-Control-Expose-Headers"] == "X-Custom"
    refused = await gateway.ask(gateway.handshake(PATH, extra=foreign))
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers
    plain = await gateway.get(PATH, headers=ok)
    assert plain.status == 426
    assert plain.headers["access-control-allow-origin"] == "http://ok.example"
