"""The fast path inside Trio's own wait: messages pass without Trio, and Trio misses nothing."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio._core._io_epoll import EpollIOManager

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
    """Make all tunnels for processes that have what Trio waits for to themselves, or do not."""
    monkeypatch.setattr("support.relays.Tunnels", partial(Tunnels, exclusive=request.param))


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
    """Keep the fast path busy from outside until the context ends."""
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


async def test_a_pair_is_released_while_trio_waits() -> None:
    """Its task runs at once, not when something else happens."""
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        with trio.fail_after(20):  # the next deadline; the one of the relay is later
            await trio.to_thread.run_sync(talk, relay, 1)
            with outside(relay.client) as client:
                client.shutdown(socket.SHUT_WR)
            await relay.backend.is_told(1001)
        relay.scope.cancel()


async def test_clocks_still_jump(autojump_clock: MockClock) -> None:
    """Nothing happens on the fast path, so virtual time may pass."""
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
    """As when another process has accepted a connection: the fast path is served all the same."""

    class Takes(trio.abc.Instrument):
        """Takes, between our wait and Trio's, what called Trio."""

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
            trio.lowlevel.add_instrument(takes)  # it is called after ours
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


@pytest.fixture(autouse=True)
def untested() -> Iterator[None]:
    """Let each test here try anew what Trio does, and no other test use the result."""
    trio_wait.self_test.cache_clear()
    yield
    trio_wait.self_test.cache_clear()


async def relays_through_trio(caplog: pytest.LogCaptureFixture, *reasons: str) -> None:
    """Relay messages the slow way; the log says why, once."""
    passes = Passes()
    began = time.monotonic()
    async with relaying(fast_path, close_timeout=NEVER) as relay:
        await trio.to_thread.run_sync(talk, relay, 1)
        assert time.monotonic() - began < 2 * trio_wait.PROBE_SECONDS
        trio.lowlevel.add_instrument(passes)
        await trio.to_thread.run_sync(talk, relay, 20)
        trio.lowlevel.remove_instrument(passes)
        assert len(relay.tunnels or ()) == 1
        relay.scope.cancel()
    assert passes.count >= 20
    assert [message.rpartition(": ")[2] for message in caplog.messages] == list(reasons)


@pytest.mark.parametrize("value", ["0", "1", ""])
async def test_the_environment_can_switch_it_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    monkeypatch.setenv("TRIO_GW_BYPASS", value)
    if value == "0":
        await relays_through_trio(caplog)
    else:
        await test_messages_pass_while_trio_waits()


async def test_the_settings_can_switch_it_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("support.relays.Tunnels", partial(Tunnels, bypass=False))
    await relays_through_trio(caplog)


class _Deaf:
    """A Trio that does not call the hook."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        add, remove = trio.lowlevel.add_instrument, trio.lowlevel.remove_instrument

        def others(do: Any, instrument: trio.abc.Instrument) -> None:
            if not isinstance(instrument, trio_wait.TrioWait):
                do(instrument)

        monkeypatch.setattr(trio.lowlevel, "add_instrument", partial(others, add))
        monkeypatch.setattr(trio.lowlevel, "remove_instrument", partial(others, remove))


async def test_a_trio_that_does_not_call_the_hook(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _Deaf(monkeypatch)
    await relays_through_trio(caplog, trio_wait.NOT_CALLED)


async def test_an_event_loop_that_does_not_call_the_hook(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The self-test has passed: this loop is another kind."""
    assert trio_wait.self_test() == ""
    _Deaf(monkeypatch)
    await relays_through_trio(caplog, trio_wait.NOT_CALLED)


def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Trio insist on knowing each descriptor in its epoll set."""
    process = EpollIOManager.process_events

    def checked(self: EpollIOManager, events: list[tuple[int, int]]) -> None:
        for number, _ in events:
            if number != self._force_wakeup_fd and number not in self._registered:
                raise KeyError(number)
        process(self, events)

    monkeypatch.setattr(EpollIOManager, "process_events", checked)


# What Trio leaves behind when it fails complains when it is collected.
fails = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@fails
async def test_a_trio_that_is_strict_about_its_epoll_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    strict(monkeypatch)
    await relays_through_trio(caplog, trio_wait.NOT_IGNORED)
    gc.collect()


@fails
def test_a_strict_trio_would_end_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is why there is a self-test, in a loop of its own."""
    strict(monkeypatch)
    hook = trio_wait.TrioWait(trio_wait._Rehearsal())
    with pytest.raises(trio.TrioInternalError):
        trio.run(hook.run_untested)
    gc.collect()


async def test_a_trio_that_does_not_wake_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when it looks at its own descriptors only, and waits on."""
    find = trio_wait.TrioWait._find_epoll

    def forgets(self: trio_wait.TrioWait) -> None:
        find(self)
        with select.epoll.fromfd(os.dup(trio_wait.epoll_watching(self._probe_fd) or -1)) as same:
            same.unregister(self._wakeup_fd)

    monkeypatch.setattr(trio_wait.TrioWait, "_find_epoll", forgets)
    await relays_through_trio(caplog, trio_wait.NOT_IGNORED)


async def test_without_proc(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(trio_wait, "FDINFO", tmp_path / "none")
    await relays_through_trio(caplog, trio_wait.NOT_FOUND)


async def test_where_proc_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "3").write_text("pos:\t0\n")
    monkeypatch.setattr(trio_wait, "FDINFO", tmp_path)
    await relays_through_trio(caplog, trio_wait.NOT_FOUND)


async def test_where_trios_set_cannot_be_watched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(Poller):
        def watch_external(self, number: int) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("trio_gw.relay.tunnel.Poller", Full)
    await relays_through_trio(caplog, trio_wait.NOT_FOUND)


def test_only_one_set_may_watch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio_wait, "FDINFO", tmp_path)
    watch = "pos:\t0\ntfd:        7 events:       19 data: 7\ntfd:       70 events: 19\n"
    (tmp_path / "5").write_text(watch)
    assert trio_wait.epoll_watching(7) == trio_wait.epoll_watching(70) == 5
    assert trio_wait.epoll_watching(8) is None
    (tmp_path / "6").write_text(watch)
    assert trio_wait.epoll_watching(7) is None


async def test_two_pollers_in_one_loop() -> None:
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


async def test_a_fault_in_the_wait_ends_the_fast_path_and_is_raised(
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
