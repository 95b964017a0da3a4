"""What only `tunnel` can get wrong: many pairs in one epoll set, all over real sockets.

`test_drivers` tests for all drivers how relays end.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from support.conversation import KEY, close, frame
from support.relays import Relay, fast_path, fast_path_tls, relaying, tcp
from trio_gw.relay import tunnel as tunnel_module
from trio_gw.relay.epoll_loop import Poller
from trio_gw.relay.lane import Lane
from trio_gw.relay.pair import Pair
from trio_gw.relay.plain import PlainStream
from trio_gw.relay.pump import Relayed
from trio_gw.relay.secure import SecureStream
from trio_gw.relay.sizes import CHUNK
from trio_gw.relay.tunnel import AT_ONCE, Tunnels
from trio_gw.wire.frames import BINARY, PING, TEXT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.relays import MakePair, Peer

NEVER = 3600


@contextlib.asynccontextmanager
async def shared_tunnels(pairs: int) -> AsyncIterator[list[Relay]]:
    """Run several relays in one epoll set; they are cancelled at the end."""
    tunnels = Tunnels()
    relays = [Relay(await tcp(), await tcp()) for _ in range(pairs)]
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(tunnels.run)
            for relay in relays:
                relay.tunnels = tunnels
                nursery.start_soon(relay.run, (b"", b""), NEVER)
            while len(tunnels) < pairs:
                await trio.testing.wait_all_tasks_blocked()
            yield relays
            nursery.cancel_scope.cancel()
    for relay in relays:
        for stream in (relay.client.stream, relay.backend.stream):
            await trio.aclose_forcefully(stream)


async def receive_exactly(peer: Peer, octets: int) -> bytes:
    received = bytearray()
    while len(received) < octets:
        data = await peer.stream.receive_some(octets - len(received))
        assert data
        received += data
    return bytes(received)


# --- bytes ----------------------------------------------------------------------------------


mixtures = pytest.mark.parametrize(
    ("client", "backend"),
    [
        (fast_path, fast_path),
        (fast_path_tls, fast_path),
        (fast_path, fast_path_tls),
        (fast_path_tls, fast_path_tls),
    ],
    ids=["plain", "tls client", "tls backend", "tls"],
)


@mixtures
async def test_ten_thousand_messages_each_way(client: MakePair, backend: MakePair) -> None:
    dice = random.Random(1)
    payloads = [dice.randbytes(dice.randrange(200)) for _ in range(10_000)]

    async def talks(peer: Peer) -> None:
        stream = b"".join(frame(BINARY, payload, key=peer.key) for payload in payloads)
        at = 0
        while at < len(stream):
            size = dice.choice((1, 13, 1000, 30_000))
            await peer.sends(stream[at : at + size])
            at += size

    async def listens(peer: Peer, key: bytes | None) -> None:
        expected = b"".join(frame(BINARY, payload, key=key) for payload in payloads)
        assert await receive_exactly(peer, len(expected)) == expected

    async with relaying(client, backend, close_timeout=NEVER) as relay:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talks, relay.client)
            nursery.start_soon(talks, relay.backend)
            nursery.start_soon(listens, relay.client, None)
            nursery.start_soon(listens, relay.backend, KEY)
        assert len(relay.tunnels or ()) == 1
        assert (relay.publish.messages, relay.subscribe.messages) == (10_000, 10_000)
        relay.scope.cancel()


@mixtures
async def test_frames_cut_at_every_place(client: MakePair, backend: MakePair) -> None:
    """Header and payload arrive apart, in every possible way: what is held back is not lost."""
    async with relaying(client, backend, close_timeout=NEVER) as relay:
        for one, other in ((relay.client, relay.backend), (relay.backend, relay.client)):
            stream = b"".join(
                (
                    frame(TEXT, b"", key=one.key),
                    frame(PING, b"p" * 125, key=one.key),
                    frame(BINARY, b"x" * 126, key=one.key),
                    frame(BINARY, b"y" * 3, key=one.key),
                )
            )
            lane = relay.publish if one is relay.client else relay.subscribe
            for place in range(1, len(stream)):
                before = lane.octets
                await one.sends(stream[:place])
                await relay.took(one, before + place)
                await one.sends(stream[place:])
                assert await receive_exactly(other, len(stream)) == stream
        relay.scope.cancel()


@mixtures
async def test_frames_of_every_length_that_matters(client: MakePair, backend: MakePair) -> None:
    async with relaying(client, backend, close_timeout=NEVER) as relay:
        for size in (0, 125, 126, 65535, 65536, CHUNK - 14, CHUNK, 3 * CHUNK + 1):
            payload = random.Random(size).randbytes(size)
            # Heard while it is said: what sockets hold for nobody has bounds of the kernel's own.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay.client.says, payload)
                await relay.backend.hears(payload)
                nursery.start_soon(relay.backend.says, payload)
                await relay.client.hears(payload)
        relay.scope.cancel()


# --- backpressure ---------------------------------------------------------------------------


def small_buffers(relay: Relay) -> None:
    for stream in (relay.near, relay.far, relay.client.stream, relay.backend.stream):
        if isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        assert isinstance(stream, trio.SocketStream | PlainStream | SecureStream)
        sock = stream.tls if isinstance(stream, SecureStream) else stream.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)


async def fill(relay: Relay, *peers: Peer) -> None:
    """Send from these peers until nothing moves any more."""
    async with trio.open_nursery() as nursery:
        for peer in peers:
            bulk = frame(BINARY, bytes(1 << 25), key=peer.key)
            nursery.start_soon(peer.sends, bulk)
        before = -1
        while (moved := relay.publish.octets + relay.subscribe.octets) != before:
            before = moved
            await trio.testing.wait_all_tasks_blocked(0.3)
        nursery.cancel_scope.cancel()


@mixtures
async def test_full_buffers_in_both_directions(client: MakePair, backend: MakePair) -> None:
    """Nobody reads; then both do, and every byte is there in its place."""
    async with relaying(client, backend, close_timeout=NEVER) as relay:
        small_buffers(relay)
        size = 4 << 20
        payload = random.Random(2).randbytes(size)
        masked, bare = frame(BINARY, payload, key=KEY), frame(BINARY, payload)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.client.sends, masked)
            nursery.start_soon(relay.backend.sends, bare)
            before = -1
            while (moved := relay.publish.octets + relay.subscribe.octets) != before:
                before = moved
                await trio.testing.wait_all_tasks_blocked(0.3)
            assert 0 < moved < len(masked) + len(bare)
            assert len(relay.tunnels or ()) == 1
            async with trio.open_nursery() as readers:

                async def reads(peer: Peer, expected: bytes) -> None:
                    assert await receive_exactly(peer, len(expected)) == expected

                readers.start_soon(reads, relay.client, bare)
                readers.start_soon(reads, relay.backend, masked)
        relay.scope.cancel()


async def test_a_stalled_peer_costs_one_chunk_and_no_processor_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs: list[Pair] = []

    class Seen(tunnel_module._Tunnel):
        async def run(self, poller: Poller) -> tuple[bytes, bytes]:
            pairs.append(self)
            return await super().run(poller)

    monkeypatch.setattr(tunnel_module, "_Tunnel", Seen)
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        small_buffers(relay)
        await fill(relay, relay.client, relay.backend)
        (pair,) = pairs
        assert relay.tunnels is not None
        assert relay.tunnels._poller is not None
        # Nothing can be done, so nothing is ready, and the fast path sleeps. The kernel may still
        # move what it holds, but not for ever.
        while relay.tunnels._poller.poll_once(AT_ONCE):
            await trio.lowlevel.checkpoint()
        for end in (pair.client, pair.backend):
            assert 0 < len(end.unsent) <= CHUNK
            assert end.interest == select.EPOLLOUT
        relay.scope.cancel()


async def test_reset_while_both_directions_are_full() -> None:
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        small_buffers(relay)
        await fill(relay, relay.client, relay.backend)
        await relay.client.resets()
        await relay.backend.resets()
        await relay.over.wait()
        assert relay.ending is not None
        assert relay.ending.code == 1006


@mixtures
async def test_what_was_not_yet_sent_comes_before_the_goodbye(
    client: MakePair, backend: MakePair
) -> None:
    """The pump takes over with a chunk in hand, and the Close behind it."""
    async with relaying(client, backend, close_timeout=NEVER) as relay:
        small_buffers(relay)
        payload = random.Random(3).randbytes(1 << 21)
        stream = frame(BINARY, payload) + close(1000, b"done")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.backend.sends, stream)
            while relay.subscribe.octets < CHUNK:
                await trio.testing.wait_all_tasks_blocked(0.01)
            relay.publish.end(1001, "while full")
            assert len(relay.tunnels or ()) == 0
            await relay.client.hears(payload)
        await relay.client.is_told(1000, "done")
        await relay.client.closes(1000)
        await relay.backend.is_told(1001)
        await relay.backend.hangs_up()
        await relay.ends("gateway", 1001, "while full")


# --- sharing the fast path -----------------------------------------------------------------------


async def test_bulk_does_not_starve_the_others() -> None:
    """While some pairs move all they can, each round trip of another waits for a few rounds."""
    async with shared_tunnels(9) as (*bulky, small):
        moved = trio.Event()

        async def floods(peer: Peer) -> None:
            bulk = frame(BINARY, bytes(1 << 22), key=peer.key)
            while True:
                await peer.sends(bulk)

        async def drains(peer: Peer) -> None:
            while await peer.stream.receive_some(1 << 18):
                moved.set()

        async with trio.open_nursery() as nursery:
            for relay in bulky:
                nursery.start_soon(floods, relay.client)
                nursery.start_soon(drains, relay.backend)
            await moved.wait()
            before = sum(relay.publish.octets for relay in bulky)
            trips = 50
            for _ in range(trips):
                await small.client.says(b"ping")
                await small.backend.hears(b"ping")
                await small.backend.says(b"pong")
                await small.client.hears(b"pong")
            # A trip is two messages, each of which waits for two rounds of the epoll set at most.
            passed = sum(relay.publish.octets for relay in bulky) - before
            assert passed / trips <= 4 * AT_ONCE * CHUNK
            assert passed > 0
            nursery.cancel_scope.cancel()


async def test_the_rest_of_trio_runs_while_the_fast_path_is_busy() -> None:
    """A task that does nothing but yield is never more than two rounds of the epoll set behind."""
    async with shared_tunnels(8) as relays, trio.open_nursery() as nursery:

        async def floods(peer: Peer) -> None:
            bulk = frame(BINARY, bytes(1 << 22), key=peer.key)
            while True:
                await peer.sends(bulk)

        async def drains(peer: Peer) -> None:
            while await peer.stream.receive_some(1 << 18):
                pass

        for relay in relays:
            nursery.start_soon(floods, relay.client)
            nursery.start_soon(drains, relay.backend)
        while not relays[0].publish.octets:
            await trio.lowlevel.checkpoint()
        worst = 0
        for _ in range(100):
            before = sum(relay.publish.octets for relay in relays)
            await trio.lowlevel.checkpoint()
            worst = max(worst, sum(relay.publish.octets for relay in relays) - before)
        assert 0 < worst <= 2 * AT_ONCE * CHUNK
        nursery.cancel_scope.cancel()


async def test_pairs_end_without_the_others() -> None:
    async with shared_tunnels(6) as relays:
        await relays[0].client.hangs_up()
        await relays[0].backend.is_told(1001)
        await relays[1].backend.resets()
        await relays[1].client.is_told(1011)
        await relays[2].client.sends(b"\xff\xff")
        await relays[2].client.is_told(1002)
        relays[3].scope.cancel()
        await relays[3].over.wait()
        relays[4].end(1012)
        await relays[4].client.is_told(1012)
        await relays[5].client.says(b"still")
        await relays[5].backend.hears(b"still")
        assert len(relays[5].tunnels or ()) == 1


async def test_descriptors_are_used_again() -> None:
    """The numbers of closed sockets come back at once, as sockets of other pairs."""
    tunnels = Tunnels()
    numbers: set[int] = set()
    async with trio.open_nursery() as nursery:
        await nursery.start(tunnels.run)
        for turn in range(60):
            relay = Relay(await tcp(), await tcp())
            relay.tunnels = tunnels
            assert isinstance(relay.near, trio.SocketStream | PlainStream)
            numbers.add(relay.near.socket.fileno())
            nursery.start_soon(relay.run, (b"", b""), NEVER)
            await relay.client.says(b"%d" % turn)
            await relay.backend.hears(b"%d" % turn)
            await relay.backend.says(b"back")
            await relay.client.hears(b"back")
            if turn % 3 == 0:
                relay.scope.cancel()
            elif turn % 3 == 1:
                await relay.client.closes()
                await relay.backend.closes()
                await relay.backend.hangs_up()
            else:
                await relay.client.resets()
                await relay.backend.hangs_up()
            await relay.over.wait()
            for peer in (relay.client, relay.backend):
                await trio.aclose_forcefully(peer.stream)
            assert len(tunnels) == 0
        nursery.cancel_scope.cancel()
    assert len(numbers) < 60, "no number was ever used again"


class Kept(Pair):
    """A pair that counts how often it is released."""

    released = 0

    def on_release(self) -> None:
        self.released += 1


def plain_pair() -> tuple[Kept, list[socket.socket]]:
    """Make a pair on two socket pairs: the gateway's ends first, then client and backend."""
    (near, client), (far, backend) = socket.socketpair(), socket.socketpair()
    for sock in (near, client, far, backend):
        sock.setblocking(False)
    lanes = Lane(masked=True), Lane(masked=False)
    pair = Kept((near.fileno(), far.fileno()), lanes, (b"", b""))
    return pair, [near, far, client, backend]


def test_both_ends_ready_in_the_round_in_which_the_pair_is_dropped() -> None:
    """The second event of such a round is about a pair that is no longer there."""
    pair, socks = plain_pair()
    table = Poller()
    table.register(pair)
    socks[2].close()
    socks[3].close()
    assert table.poll_once(AT_ONCE) == 2
    assert pair.released == 1
    assert len(table) == 0
    assert table.poll_once(AT_ONCE) == 0
    table.unregister(pair)
    assert pair.released == 1
    table.close()
    for sock in socks:
        sock.close()


def test_a_round_serves_no_more_than_it_is_asked_to_and_comes_back_for_the_rest() -> None:
    table = Poller()
    made = [plain_pair() for _ in range(5)]
    for pair, socks in made:
        table.register(pair)
        socks[2].send(frame(BINARY, b"hello", key=KEY))
    served = []
    while count := table.poll_once(2):
        served.append(count)
    assert served == [2, 2, 1]
    for pair, socks in made:
        assert socks[3].recv(100) == frame(BINARY, b"hello", key=KEY)
        table.unregister(pair)
        for sock in socks:
            sock.close()
    table.close()


# --- cancellation and faults ----------------------------------------------------------------


async def test_cancelled_before_it_begins() -> None:
    async with shared_tunnels(0):
        relay = Relay(await tcp(), await tcp())
        relay.tunnels = Tunnels()
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.tunnels.run)
            relay.scope.cancel()
            await relay.run((b"", b""), NEVER)
            assert len(relay.tunnels) == 0
            nursery.cancel_scope.cancel()
        await relay.client.is_left()
        await relay.backend.is_left()
        await relay.client.hangs_up()
        await relay.backend.hangs_up()


async def test_ended_and_cancelled_in_the_same_moment() -> None:
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        relay.end(1012)
        relay.scope.cancel()
        relay.end(1001)
    assert relay.ending is None


async def test_cancelled_and_ended_in_the_same_moment() -> None:
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        relay.scope.cancel()
        relay.end(1012)
    assert relay.ending is None


async def test_without_run_the_pump_does_it() -> None:
    relay = Relay(await tcp(), await tcp())
    relay.tunnels = Tunnels()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.run, (b"", b""), NEVER)
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        relay.scope.cancel()
    await relay.client.hangs_up()
    await relay.backend.hangs_up()


async def test_when_run_ends_the_pump_goes_on() -> None:
    relay = Relay(await tcp(), await tcp())
    relay.tunnels = Tunnels()
    async with trio.open_nursery() as nursery:
        service = await nursery.start(_cancellable, relay.tunnels)
        nursery.start_soon(relay.run, (b"", b""), NEVER)
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        service.cancel()
        await relay.client.says(b"two")
        await relay.backend.hears(b"two")
        relay.scope.cancel()
    await relay.client.hangs_up()
    await relay.backend.hangs_up()


async def _cancellable(tunnels: Tunnels, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(tunnels.run)
            task_status.started(scope)


async def test_a_descriptor_that_cannot_be_watched_is_left_to_the_pump(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the kernel's limit of watches is reached."""

    def refuses(_: Poller, pair: Pair) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tunnel_module, "Poller", type("Full", (Poller,), {"register": refuses}))
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        assert len(relay.tunnels or ()) == 0
        relay.scope.cancel()


async def test_a_bug_in_the_fast_path_is_loud() -> None:
    """Nothing swallows what is not the network's fault."""
    tunnels = Tunnels()
    with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError)):
        async with trio.open_nursery() as nursery:
            await nursery.start(tunnels.run)
            pair, socks = plain_pair()
            with contextlib.ExitStack() as stack:
                for sock in socks:
                    stack.enter_context(sock)
                setattr(pair, "on_release", lambda: 1 // 0)
                assert tunnels._poller is not None
                tunnels._poller.register(pair)
                socks[2].close()
                await trio.sleep_forever()


async def test_without_memory_one_connection_ends_and_the_others_go_on() -> None:
    """Bytes of that one may be lost, so it must not continue."""
    async with shared_tunnels(2) as relays:
        other, tunnels = relays[0], relays[0].tunnels
        assert isinstance(tunnels, Tunnels)
        client, near = await tcp()
        backend, far = await tcp()
        publish, subscribe = Lane(masked=True), Lane(masked=False)
        outcome: list[BaseException] = []

        def tap(_length: int, _last: bool) -> None:
            raise MemoryError

        async def carry() -> None:
            try:
                await tunnels.carry(Relayed(near, far, publish, subscribe), close_timeout=NEVER)
            except MemoryError as error:
                outcome.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry)
            while len(tunnels) < 3:
                await trio.testing.wait_all_tasks_blocked()
            await other.client.says(b"before")
            await other.backend.hears(b"before")
            publish.tap = tap
            await client.send_all(frame(BINARY, b"lost", key=KEY))
        assert len(outcome) == 1
        assert near.socket.fileno() == far.socket.fileno() == -1
        assert await backend.receive_some() == b"", "no part of it was sent"
        assert len(tunnels) == 2
        await other.client.says(b"after")
        await other.backend.hears(b"after")
        for stream in (client, backend):
            await stream.aclose()
