"""Binding and accepting: every address of a name, clear errors, no leaked descriptor."""

from __future__ import annotations

import errno
import logging
import resource
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from trio_gw.errors import UnusableError
from trio_gw.proxy.listener import accept_all, bind

if TYPE_CHECKING:
    from trio_gw.relay.plain import PlainStream


def names(sockets: list[socket.socket]) -> list[tuple[str, int]]:
    return [sock.getsockname()[:2] for sock in sockets]


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


async def test_localhost_binds_every_loopback_address_to_one_port() -> None:
    sockets = bind("http", "localhost", 0)
    bound = names(sockets)
    port = bound[0][1]
    assert port > 0
    assert bound == [("127.0.0.1", port), ("::1", port)][: len(bound)]
    assert len(bound) == 2 or not socket.has_ipv6
    close(sockets)


async def test_no_host_is_every_interface() -> None:
    sockets = bind("http", "", 0)
    assert {address for address, _ in names(sockets)} <= {"0.0.0.0", "::"}
    assert len({port for _, port in names(sockets)}) == 1
    close(sockets)


async def test_port_in_use_is_said_and_nothing_stays_bound() -> None:
    taken = bind("http", "127.0.0.1", 0)
    port = taken[0].getsockname()[1]
    with pytest.raises(UnusableError) as refused:
        bind("https", "localhost", port)
    (problem,) = refused.value.problems
    assert problem.file == "listen.https"
    assert problem.what == f"cannot listen on localhost:{port}: Address already in use"
    assert problem.hint.startswith("stop the program that holds the port")
    close(taken)
    close(bind("http", "localhost", port))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
async def test_address_of_another_machine(host: str) -> None:
    with pytest.raises(UnusableError) as refused:
        bind("http", host, 0)
    (problem,) = refused.value.problems
    assert host in problem.what
    assert problem.hint


async def test_ipv4_only_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", without_ipv6)
        sockets = bind("http", "localhost", 0)
    assert [address for address, _ in names(sockets)] == ["127.0.0.1"]
    close(sockets)


async def test_accepts_with_the_peers_address(nursery: trio.Nursery) -> None:
    (sock,) = bind("http", "127.0.0.1", 0)
    peers: list[str] = []
    seen = trio.Event()

    async def handler(stream: PlainStream, peer: str) -> None:
        async with stream:
            peers.append(peer)
            assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            seen.set()

    nursery.start_soon(accept_all, sock, handler, nursery)
    async with await trio.open_tcp_stream(*sock.getsockname()) as client:
        with trio.fail_after(5):
            await seen.wait()
            assert await client.receive_some() == b""
    assert peers == ["127.0.0.1"]


async def test_stops_listening_when_cancelled() -> None:
    async def unused(stream: PlainStream, peer: str) -> None:
        raise AssertionError((stream, peer))

    (sock,) = bind("http", "127.0.0.1", 0)
    address = sock.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all, sock, unused, nursery)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert sock.fileno() == -1
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(*address)


async def test_out_of_descriptors_pauses_and_recovers(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    (sock,) = bind("http", "127.0.0.1", 0)
    served = trio.Event()

    async def handler(stream: PlainStream, _peer: str) -> None:
        await stream.aclose()
        served.set()

    client = await trio.open_tcp_stream(*sock.getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with caplog.at_level(logging.WARNING, "trio_gw.listener"):
        # As many as are open now, so that accepting needs one too many.
        with socket.socket() as lowest_free:
            limit = lowest_free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            nursery.start_soon(accept_all, sock, handler, nursery)
            with trio.fail_after(5):
                while "cannot accept" not in caplog.text:
                    await trio.lowlevel.checkpoint()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with trio.fail_after(5):
            await served.wait()
    # Told once, and once more when it is over.
    assert caplog.text.count("cannot accept") == 1
    assert caplog.text.count("accepting again") == 1
    await client.aclose()
