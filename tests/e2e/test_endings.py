"""How relayed connections end: closes, violations, vanished sides, shutdown. Real sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed

from support.backends import read_head, start_echo, start_raw
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.wire.frames import apply_mask, close_frame
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both_forms

PATH = "/e/1.0.0/t"


async def before(nursery: trio.Nursery, base: Path, url: str, **settings: Any) -> RunningGateway:
    channels = {"/t": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "e", api("E", "/e", url), asyncapi(channels))
    return await start_gateway(nursery, base, **settings)


async def upgraded(stream: trio.SocketStream) -> None:
    """Answer the upgrade as a backend."""
    head = await read_head(stream)
    key = next(
        line.split(b": ")[1] for line in head.split(b"\r\n") if b"websocket-key" in line.lower()
    )
    await stream.send_all(
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
    )


async def read_to_end(stream: trio.abc.Stream) -> bytes:
    """Read until the peer closes; fails if it does not within 10 s."""
    got = bytearray()
    with trio.fail_after(10):
        while data := await stream.receive_some():
            got += data
    return bytes(got)


def reset(stream: trio.SocketStream) -> None:
    """Make the next close of this socket a reset."""
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger: on, 0 seconds
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def unmasked(frame: bytes) -> bytes:
    """Unmask a short masked frame."""
    assert frame[1] & 0x80
    length = frame[1] & 0x7F
    assert len(frame) == 6 + length
    return bytes((frame[0], length)) + apply_mask(frame[6:], frame[2:6])


class Peer:
    """A raw backend that hands its connection to the test."""

    def __init__(self) -> None:
        self.connected = trio.Event()
        self.released = trio.Event()
        self.stream: trio.SocketStream

    async def __call__(self, stream: trio.SocketStream) -> None:
        await upgraded(stream)
        self.stream = stream
        self.connected.set()
        await self.released.wait()


async def joined(
    nursery: trio.Nursery, base: Path, *, tls: bool = False, **settings: Any
) -> tuple[RunningGateway, trio.abc.Stream, Peer]:
    """Give both bare ends of a relayed connection."""
    peer = Peer()
    backend = await start_raw(nursery, peer)
    # A raw peer answers no Close: what waits for it shall not wait long.
    settings.setdefault("timeouts", {"close": 0.5})
    gateway = await before(nursery, base, backend.url, **settings)
    client = await gateway.upgrade(PATH, tls=tls)
    with trio.fail_after(5):
        await peer.connected.wait()
    return gateway, client, peer


async def all_gone(gateway: RunningGateway) -> None:
    """Wait until the gateway holds no session any more."""
    with trio.fail_after(8):
        while len(gateway.running.sessions):
            await trio.lowlevel.checkpoint()


VIOLATIONS = {
    "reserved opcode 3": b"\x83\x80\x00\x00\x00\x00",
    "reserved opcode 11": b"\x8b\x80\x00\x00\x00\x00",
    "RSV bit that no extension claims": b"\xc1\x80\x00\x00\x00\x00",
    "frame is not masked": b"\x81\x01a",
    "fragmented control frame": b"\x09\x80\x00\x00\x00\x00",
    "control frame longer than 125 bytes": b"\x89\xfe\x00\x7e\x00\x00\x00\x00",
    "continuation without a message to continue": b"\x80\x80\x00\x00\x00\x00",
    "new message inside a fragmented one": b"\x01\x80\x00\x00\x00\x00\x81\x80\x00\x00\x00\x00",
    "close code 1005 must not be sent": b"\x88\x82\x00\x00\x00\x00\x03\xed",
    "close code 1006 must not be sent": b"\x88\x82\x00\x00\x00\x00\x03\xee",
    "close code 1015 must not be sent": b"\x88\x82\x00\x00\x00\x00\x03\xf7",
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("what", VIOLATIONS)
async def test_violation_of_the_client_ends_both_with_1002(
    nursery: trio.Nursery, base: Path, what: str, tls: bool
) -> None:
    gateway, client, peer = await joined(nursery, base, tls=tls)
    good = b"\x82\x83\x00\x00\x00\x00abc"
    await client.send_all(good + VIOLATIONS[what])
    reason = f"client: {what}"
    assert await read_to_end(client) == close_frame(1002, reason, masked=False)
    await client.aclose()
    got = await read_to_end(peer.stream)
    passed = good + (VIOLATIONS[what][:6] if "inside" in what else b"")
    assert got.startswith(passed)
    assert unmasked(got[len(passed) :]) == close_frame(1002, what, masked=False)
    peer.released.set()
    await all_gone(gateway)


async def test_violation_of_the_backend_ends_both_with_1002(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway, client, peer = await joined(nursery, base)
    await peer.stream.send_all(b"\x81\x02ok\x81\x81\x00\x00\x00\x00x")
    got = await read_to_end(client)
    assert got == b"\x81\x02ok" + close_frame(1002, "frame is masked", masked=False)
    told = await read_to_end(peer.stream)
    assert unmasked(told) == close_frame(1002, "backend: frame is masked", masked=False)
    peer.released.set()
    await all_gone(gateway)


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_backend_vanishes(nursery: trio.Nursery, base: Path, how: str) -> None:
    gateway, client, peer = await joined(nursery, base)
    await peer.stream.send_all(b"\x81\x04last")
    got = bytearray()
    with trio.fail_after(5):
        while len(got) < 6:
            got += await client.receive_some()
    if how == "reset":
        reset(peer.stream)
    await peer.stream.aclose()
    peer.released.set()
    got += await read_to_end(client)
    expected = b"\x81\x04last" + close_frame(1011, "backend connection lost", masked=False)
    assert bytes(got) == expected
    await all_gone(gateway)


async def test_backend_vanishes_inside_a_frame(nursery: trio.Nursery, base: Path) -> None:
    gateway, client, peer = await joined(nursery, base)
    await peer.stream.send_all(b"\x81\x0aonly half")
    await peer.stream.aclose()
    peer.released.set()
    # No Close can stand inside a frame: what came is passed, then the connection ends.
    assert await read_to_end(client) == b"\x81\x0aonly half"
    await client.aclose()
    await all_gone(gateway)


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_client_vanishes(nursery: trio.Nursery, base: Path, how: str) -> None:
    gateway, client, peer = await joined(nursery, base)
    if how == "reset":
        assert isinstance(client, trio.SocketStream)
        reset(client)
    await client.aclose()
    got = await read_to_end(peer.stream)
    assert unmasked(got) == close_frame(1001, "client connection lost", masked=False)
    peer.released.set()
    await all_gone(gateway)


async def test_client_that_half_closes_is_told_why(nursery: trio.Nursery, base: Path) -> None:
    gateway, client, peer = await joined(nursery, base)
    assert isinstance(client, trio.SocketStream)
    await client.send_eof()
    why = "connection ended without a Close frame"
    told = b""
    with trio.fail_after(5):
        told = bytes(await client.receive_some())
    assert told == close_frame(1002, why, masked=False)
    got = await read_to_end(peer.stream)
    assert unmasked(got) == close_frame(1001, "client connection lost", masked=False)
    peer.released.set()
    await client.aclose()
    await all_gone(gateway)


async def test_backend_that_does_not_answer_a_close(nursery: trio.Nursery, base: Path) -> None:
    gateway, client, peer = await joined(nursery, base, timeouts={"close": 0.5})
    await client.send_all(close_frame(1000, "bye", masked=True))
    assert await read_to_end(client) == b""
    await all_gone(gateway)
    peer.released.set()


async def test_backend_that_hangs_up_on_a_close(nursery: trio.Nursery, base: Path) -> None:
    gateway, client, peer = await joined(nursery, base)
    await client.send_all(close_frame(4000, "bye", masked=True))
    with trio.fail_after(5):
        assert await peer.stream.receive_some()
    await peer.stream.aclose()
    peer.released.set()
    # The gateway answers in the backend's place, with the client's own code.
    assert await read_to_end(client) == close_frame(4000, "bye", masked=False)
    await client.aclose()
    await all_gone(gateway)


async def test_crossing_closes(nursery: trio.Nursery, base: Path) -> None:
    gateway, client, peer = await joined(nursery, base)
    await client.send_all(close_frame(4001, "mine", masked=True))
    await peer.stream.send_all(close_frame(4002, "yours", masked=False))
    with trio.fail_after(5):
        got = bytes(await peer.stream.receive_some())
    assert unmasked(got) == close_frame(4001, "mine", masked=False)
    await peer.stream.aclose()
    peer.released.set()
    assert await read_to_end(client) == close_frame(4002, "yours", masked=False)
    await all_gone(gateway)


async def test_lifetime(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    gateway = await before(nursery, base, backend.url, timeouts={"lifetime": 1})
    async with gateway.connect(PATH) as client:
        with trio.fail_after(4):
            await client.wait_closed()
    assert (client.close_code, client.close_reason) == (1001, "open for 1 s")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_shutdown_drains(base: Path, tls: bool) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        gateway = await before(nursery, base, backend.url)
        clients = [await gateway.upgrade(PATH, tls=tls) for _ in range(20)]
        half = b"\x82\x84\x00\x00\x00\x00ab"  # a frame under way: its end must come first
        await clients[0].send_all(half)
        gateway.stop.set()
        expected = close_frame(1012, "gateway is shutting down", masked=False)
        with trio.fail_after(5):
            for client in clients[1:]:
                assert bytes(await client.receive_some()) == expected
                await client.send_all(close_frame(1012, "", masked=True))
            await clients[0].send_all(b"cd")
            got = bytes(await clients[0].receive_some())
            assert got in (expected, b"\x82\x04abcd" + expected)
            await clients[0].send_all(close_frame(1012, "", masked=True))
            for client in clients:
                while await client.receive_some():
                    pass
                await client.aclose()
            with pytest.raises(OSError, match=r"refused|failed"):
                await gateway.open()
            while len(gateway.running.sessions):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_shutdown_does_not_wait_for_those_who_do_not_answer(
    nursery: trio.Nursery, base: Path
) -> None:
    timeouts = {"close": 0.5, "drain": 0.5}
    gateway, client, peer = await joined(nursery, base, timeouts=timeouts)
    gateway.stop.set()
    got = await read_to_end(client)
    assert got == close_frame(1012, "gateway is shutting down", masked=False)
    assert unmasked(await read_to_end(peer.stream))[2:4] == (1012).to_bytes(2, "big")
    peer.released.set()
    await all_gone(gateway)


async def test_cancelled_gateway_leaves_no_socket_open(base: Path) -> None:
    async with trio.open_nursery() as outer:
        backend = await start_echo(outer)
        async with trio.open_nursery() as nursery:
            gateway = await before(nursery, base, backend.url)
            clients = [await gateway.upgrade(PATH, tls=bool(n % 2)) for n in range(6)]
            idle = await gateway.open()
            gateway.opened.clear()  # the test looks at them after the gateway is gone
            nursery.cancel_scope.cancel()
        for client in [*clients, idle]:
            with trio.fail_after(5):
                try:
                    while await client.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
            await trio.aclose_forcefully(client)
        outer.cancel_scope.cancel()


async def test_third_party_client_gets_1011(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_raw(nursery, upgraded)
    gateway = await before(nursery, base, backend.url)
    async with gateway.connect(PATH) as client:
        with trio.fail_after(5), pytest.raises(ConnectionClosed):
            await client.recv()
    assert (client.close_code, client.close_reason) == (1011, "backend connection lost")
