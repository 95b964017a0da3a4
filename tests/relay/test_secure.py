"""TLS as a stream: whole bytes both ways, honest ends, sessions taken up again, keys renewed."""

from __future__ import annotations

import ssl
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from support.conversation import KEY, frame, text
from support.relays import Relay, tcp, tls_contexts
from trio_gw.relay.lane import Lane
from trio_gw.relay.pump import Relayed
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.sizes import RECORD
from trio_gw.relay.tunnel import Tunnels

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 64 * 1024


async def both(
    server_context: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None
) -> tuple[SecureStream, SecureStream]:
    """Make a connection between two streams of this kind, handshake done."""
    near, far = await tcp()
    server, client = tls_contexts()
    one = SecureStream(near, client, server_hostname="localhost", session=session)
    other = SecureStream(far, server_context or server, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.do_handshake)
        nursery.start_soon(other.do_handshake)
    return one, other


async def test_it_is_a_stream() -> None:
    async def send(stream: SecureStream, data: bytes) -> None:
        await stream.send_all(data)

    one, other = await both()
    async with one, other:
        big = bytes(range(256)) * 20_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, one, big)
            nursery.start_soon(send, other, big)
            for stream in (one, other):
                received = bytearray()
                while len(received) < len(big):
                    received += await stream.receive_some(CHUNK)
                assert received == big
        await one.send_all(b"")
        await one.wait_send_all_might_not_block()
        await one.aclose()
        assert await other.receive_some(CHUNK) == b""
        assert await other.receive_some(CHUNK) == b""


async def test_a_read_with_room_for_a_record_leaves_nothing_where_epoll_cannot_see_it() -> None:
    one, other = await both()
    async with one, other:
        await one.send_all(bytes(5 * RECORD))
        left = 5 * RECORD
        while left:
            left -= len(await other.receive_some(RECORD))
            assert other.tls.pending() == 0


async def test_closed_while_receiving() -> None:
    one, other = await both()
    async with one, other:
        with pytest.RaisesGroup(trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.receive_some)
                await trio.testing.wait_all_tasks_blocked()
                await one.aclose()
        for touch in (one.receive_some, one.receive_raw, one.send_eof):
            with pytest.raises(trio.ClosedResourceError):
                await touch()
        with pytest.raises(trio.ClosedResourceError):
            await one.send_all(b"x")


async def test_cancelled_while_sending_and_closed_all_the_same() -> None:
    one, other = await both()
    with trio.move_on_after(0) as scope:
        await one.send_all(b"x")
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send_all, bytes(1 << 25))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(one)
    assert one.tls.fileno() == -1
    await trio.aclose_forcefully(other)


async def test_a_certificate_that_is_not_trusted() -> None:
    near, far = await tcp()
    server, _ = tls_contexts()
    one = SecureStream(near, ssl.create_default_context(), server_hostname="localhost")
    other = SecureStream(far, server, server_side=True)
    outcomes = []

    async def shakes_hands(stream: SecureStream) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.do_handshake()
        outcomes.append(type(caught.value.__cause__))

    async with one, other, trio.open_nursery() as nursery:
        nursery.start_soon(shakes_hands, one)
        nursery.start_soon(shakes_hands, other)
    assert set(outcomes) == {ssl.SSLCertVerificationError, ssl.SSLError}


async def test_no_tls_at_all() -> None:
    near, far = await tcp()
    server, _ = tls_contexts()
    async with near, SecureStream(far, server, server_side=True) as other:
        await near.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await other.do_handshake()


async def test_gone_before_it_began() -> None:
    client, gateway = await tcp()
    relay = Relay((client, gateway), await tcp())
    await relay.client.resets()
    await trio.testing.wait_all_tasks_blocked()
    server, _ = tls_contexts()
    with pytest.raises(OSError):
        SecureStream(gateway, server, server_side=True)
    for stream in (gateway, relay.near, relay.far, relay.backend.stream):
        await trio.aclose_forcefully(stream)


async def test_the_end_of_the_connection_without_the_end_of_tls() -> None:
    one, other = await both()
    async with one, other:
        await one.send_all(b"last")
        await one.send_eof()
        assert await other.receive_some(CHUNK) == b"last"
        assert await other.receive_some(CHUNK) == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_taken_up_again(version: ssl.TLSVersion) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.maximum_version = version
    authority, _ = trustme.CA(), None
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    session = None
    for turn in range(3):
        near, far = await tcp()
        one = SecureStream(near, client, server_hostname="localhost", session=session)
        other = SecureStream(far, server, server_side=True)
        async with one, other:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.do_handshake)
                nursery.start_soon(other.do_handshake)
            await other.send_all(b"the tickets come before this")
            assert await one.receive_some(CHUNK)
            assert one.tls.session_reused is (turn > 0)
            session = one.tls.session


async def test_who_the_peer_is_stays_readable() -> None:
    one, other = await both()
    async with one, other:
        certificate = one.tls.getpeercert()
        assert certificate is not None
        assert certificate["subjectAltName"] == (("DNS", "localhost"),)


async def test_keys_are_renewed_on_the_fast_path(tmp_path: Path) -> None:
    """TLS 1.3 KeyUpdate, asked for by a peer that is not Python: bytes go on flowing."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    message = text(b"hello", key=KEY) + frame(2, b"x" * 200, key=KEY)
    backend, far = await tcp()
    tunnels = Tunnels()

    async def hears() -> None:
        received = b""
        while len(received) < len(message):
            received += await backend.receive_some(len(message) - len(received))
        assert received == message

    async def stays_open(near: SecureStream) -> None:
        lanes = Lane(masked=True), Lane(masked=False)
        await tunnels.carry(Relayed(near, far, *lanes), close_timeout=3600)

    command = ["openssl", "s_client", "-tls1_3", "-connect", f"127.0.0.1:{port}"]
    said = tmp_path / "said"
    with trio.fail_after(30), said.open("wb") as stderr:
        async with trio.open_nursery() as nursery:
            await nursery.start(tunnels.run)
            options = {"stdout": subprocess.DEVNULL, "stderr": stderr, "check": False}
            run = partial(trio.run_process, command, stdin=subprocess.PIPE, **options)
            peer: trio.Process = await nursery.start(run)
            assert peer.stdin is not None
            near = SecureStream(await listeners[0].accept(), server, server_side=True)
            await near.do_handshake()
            nursery.start_soon(stays_open, near)
            await peer.stdin.send_all(message)
            await hears()
            for order in (b"K", b"k", b"K"):  # renew both keys, or its own
                # What it reads in one piece is an order; the frames behind it are not.
                await peer.stdin.send_all(order)
                await backend.send_all(text(b"back"))
                await trio.testing.wait_all_tasks_blocked(0.05)
                await peer.stdin.send_all(message)
                await hears()
            assert len(tunnels) == 1
            nursery.cancel_scope.cancel()
    assert said.read_bytes().count(b"KEYUPDATE") == 3
    await backend.aclose()
    await listeners[0].aclose()
