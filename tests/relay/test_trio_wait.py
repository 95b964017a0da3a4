"""The road inside Trio's own wait: messages pass without Trio, and Trio misses nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from support.conversation import KEY, frame
from support.relays import Relay, fast_path, relaying, tcp
from trio_gw.relay import trio_wait
from trio_gw.relay.epoll_loop import Poller
from trio_gw.relay.tunnel import Tunnels
from trio_gw.wire.frames import BINARY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from support.relays import Peer

NEVER = 3600
PING, PONG = frame(BINARY, b"ping", key=KEY), frame(BINARY, b"pong")


@pytest.fixture(autouse=True, params=[False, True], ids=["shared", "exclusive"])
def exclusive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all roads for processes that have what Trio waits for to themselves, or do not."""
    monkeypatch.setattr(Tunnels.__init__, "__kwdefaults__", {"exclusive": request.param})


@contextlib.contextmanager
def outside(peer: Peer) -> Iterator[socket.socket]:
    """Take a peer's socket for use in a thread, which Trio does not hear of."""
    assert isinstance(peer.stream, trio.SocketStream)
    with socket.fromfd(peer.stream.socket.fileno(), socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        yield sock


def talk(relay: Relay, trips: int | None, stop: threading.Event | None = None) -> int:
    """Send to and fro, in a thread; returns how often."""
    done = 0
    with outside(relay.client) as client, outside(relay.backend) as backend:
        while done != trips and not (stop and stop.is_set()):
            client.sendall(PING)
            assert len(backend.recv(len(PING), socket.MSG_WAITALL)) == len(PING)
            backend.sendall(PONG)
            assert len(client.recv(len(PONG), socket.MSG_WAITALL)) == len(PONG)
            done += 1
    return done


@contextlib.asynccontextmanager
async def talking(relay: Relay) -> AsyncIterator[None]:
    """Keep the road busy from outside until the context ends."""
    stop = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, talk, relay, None, stop)
        while not relay.subscribe.messages:
            await trio.lowlevel.checkpoint()
        try:
            yield
        finally:
            stop.set()


class Passes(trio.abc.Instrument):
    """Counts how often Trio went round."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


# --- messages without Trio ------------------------------------------------------------------


async def test_messages_pass_while_trio_waits() -> None:
    passes = Passes()
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await trio.to_thread.run_sync(talk, relay, 10)
        trio.lowlevel.add_instrument(passes)
        await trio.to_thread.run_sync(talk, relay, 500)
        trio.lowlevel.remove_instrument(passes)
        assert relay.publish.messages == relay.subscribe.messages == 510
        relay.scope.cancel()
    assert passes.count < 50


async def test_what_trio_has_to_do_is_done_meanwhile() -> None:
    """Tasks, other sockets and threads get on while messages go to and fro without a pause."""
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        async with talking(relay):
            one, other = trio.socket.socketpair()
            with one, other:
                for _ in range(50):
                    await one.send(b"x")
                    assert await other.recv(10) == b"x"
                    await trio.to_thread.run_sync(trio.from_thread.run_sync, lambda: None)
                    await trio.lowlevel.checkpoint()
            before = relay.publish.messages
            while relay.publish.messages < before + 50:
                await trio.lowlevel.checkpoint()  # someone is always runnable: a round each time
        relay.scope.cancel()


# --- Trio's deadlines, and its idleness -------------------------------------------------------


async def lateness(seconds: float) -> float:
    """Sleep; returns how much too long that was."""
    began = trio.current_time()
    await trio.sleep(seconds)
    return trio.current_time() - began - seconds


# If Trio were left to wait again, these would be late by their own length.


async def test_deadlines_are_kept_beside_traffic() -> None:
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        async with talking(relay):
            assert min([await lateness(0.1) for _ in range(5)]) < 0.05
        relay.scope.cancel()


async def test_deadlines_are_kept_in_silence() -> None:
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        assert min([await lateness(0.1) for _ in range(5)]) < 0.05
        relay.scope.cancel()


async def test_a_pair_is_let_go_while_trio_waits() -> None:
    """Its task runs at once, not when something else happens."""
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        with trio.fail_after(20):  # the next deadline; the one of the relay is later
            await trio.to_thread.run_sync(talk, relay, 1)
            with outside(relay.client) as client:
                client.shutdown(socket.SHUT_WR)
            await relay.backend.is_told(1001)
        relay.scope.cancel()


async def test_clocks_still_jump(autojump_clock: MockClock) -> None:
    """Nothing happens on the road, so virtual time may pass."""
    async with relaying(fast_path, close_timeout=NEVER, limit=NEVER) as relay:
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        began = trio.current_time()
        await trio.sleep(1000)
        assert trio.current_time() - began == 1000
        relay.scope.cancel()


async def test_idleness_is_still_noticed() -> None:
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await relay.client.says(b"one")
        await relay.backend.hears(b"one")
        for cushion in (0, 0.001, 0.02):
            await trio.testing.wait_all_tasks_blocked(cushion)
        relay.scope.cancel()


@pytest.mark.parametrize("exclusive", [False], indirect=True)
async def test_what_called_trio_may_be_gone_when_it_looks() -> None:
    """As when another process has accepted a connection: the road is served all the same."""

    class Takes(trio.abc.Instrument):
        """Takes, between the road's wait and Trio's, what called Trio."""

        taken = 0

        def before_io_wait(self, timeout: float) -> None:
            with contextlib.suppress(BlockingIOError):
                self.taken += len(mine.recv(1))

    mine, other = socket.socketpair()
    with mine, other:
        mine.setblocking(False)
        async with (
            relaying(fast_path, close_timeout=NEVER) as relay,
            trio.open_nursery() as nursery,
        ):
            await trio.to_thread.run_sync(talk, relay, 1)
            takes = Takes()
            trio.lowlevel.add_instrument(takes)  # it comes behind the road's
            nursery.start_soon(trio.lowlevel.wait_readable, mine)
            await trio.testing.wait_all_tasks_blocked()

            def disturb() -> None:
                for _ in range(50):
                    other.send(b"x")
                    talk(relay, 1)

            await trio.to_thread.run_sync(disturb)
            assert takes.taken > 1
            assert relay.publish.messages == 51
            trio.lowlevel.remove_instrument(takes)
            nursery.cancel_scope.cancel()
            relay.scope.cancel()


# --- where it cannot be done ------------------------------------------------------------------


async def relays_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The road works, through Trio."""
    ran: list[bool] = []

    class Seen(trio_wait.TrioWait):
        async def run(self) -> None:
            await super().run()
            ran.append(bool(self._found))

    monkeypatch.setattr("trio_gw.relay.tunnel.TrioWait", Seen)
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await trio.to_thread.run_sync(talk, relay, 20)
        assert len(relay.tunnels or ()) == 1
        assert ran == [False]
        relay.scope.cancel()


async def test_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trio_wait, "FDINFO", tmp_path / "none")
    await relays_without(monkeypatch)


async def test_where_proc_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "3").write_text("pos:\t0\n")
    monkeypatch.setattr(trio_wait, "FDINFO", tmp_path)
    await relays_without(monkeypatch)


async def test_where_trios_set_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Poller):
        def watch_external(self, number: int) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("trio_gw.relay.tunnel.Poller", Full)
    await relays_without(monkeypatch)


def test_only_one_set_may_watch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio_wait, "FDINFO", tmp_path)
    watch = "pos:\t0\ntfd:        7 events:       19 data: 7\ntfd:       70 events: 19\n"
    (tmp_path / "5").write_text(watch)
    assert trio_wait.epoll_watching(7) == trio_wait.epoll_watching(70) == 5
    assert trio_wait.epoll_watching(8) is None
    (tmp_path / "6").write_text(watch)
    assert trio_wait.epoll_watching(7) is None


async def test_two_roads_in_one_loop() -> None:
    """The second is waited for by Trio; when the first is gone, it still is."""
    async with (
        relaying(fast_path, close_timeout=NEVER) as first,
        relaying(fast_path, close_timeout=NEVER) as second,
    ):
        for relay in (first, second, first):
            await trio.to_thread.run_sync(talk, relay, 20)
        first.scope.cancel()
        await first.over.wait()
        await trio.to_thread.run_sync(talk, second, 20)
        second.scope.cancel()


def test_two_loops_in_one_process() -> None:
    """Each finds its own."""

    async def relays() -> None:
        async with relaying(fast_path, close_timeout=NEVER) as relay:
            await trio.to_thread.run_sync(talk, relay, 100)
            relay.scope.cancel()

    failed: list[BaseException] = []

    def runs() -> None:
        try:
            trio.run(relays)
        except BaseException as failure:
            failed.append(failure)

    threads = [threading.Thread(target=runs) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    trio.run(relays)  # and once more, where numbers of descriptors are used again


async def test_a_fault_in_the_wait_ends_the_road_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trio itself would do without the instrument, and only log it."""

    class Faulty(Poller):
        def run_until(self, seconds: float) -> bool:
            raise ZeroDivisionError

    monkeypatch.setattr("trio_gw.relay.tunnel.Poller", Faulty)
    relay = Relay(await tcp(), await tcp())
    relay.tunnels = Tunnels()
    with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError)):
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.tunnels.run)
            nursery.start_soon(relay.run, (b"", b""), NEVER)
            await trio.sleep_forever()
    assert relay.ending is None
    for peer in (relay.client, relay.backend):
        await trio.aclose_forcefully(peer.stream)
