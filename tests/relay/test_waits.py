"""Tasks that wait for sockets: woken once, for the right reason, and not forgotten."""

from __future__ import annotations

import math
import select
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_gw.relay import waits as waits_module
from trio_gw.relay.tunnel import Tunnels
from trio_gw.relay.waits import Waits, Woken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trio.testing import MockClock

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


@pytest.fixture
def other() -> Iterator[Pair]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


@pytest.fixture
async def waits() -> AsyncIterator[Waits]:
    async with trio.open_nursery() as nursery:
        tunnels = Tunnels()
        waits = tunnels.waits
        await nursery.start(tunnels.run)
        await nursery.start(waits.run)
        yield waits
        nursery.cancel_scope.cancel()


async def test_what_is_there_already(waits: Waits, pair: Pair) -> None:
    near, far = pair
    far.sendall(b"x")
    with trio.fail_after(5):
        assert await waits.readable(near.fileno()) is Woken.READY
        assert near.recv(9) == b"x"
        far.close()
        assert await waits.readable(near.fileno()) is Woken.READY
    assert near.recv(9) == b""


async def test_what_comes_while_it_is_waited_for(waits: Waits, pair: Pair) -> None:
    near, far = pair
    woken = []

    async def wait() -> None:
        woken.append(await waits.readable(near.fileno(), trio.current_time() + 3600))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not woken
            far.sendall(b"x")
    assert woken == [Woken.READY]


async def test_nobody_waits_longer_than_is_due(
    waits: Waits, pair: Pair, autojump_clock: MockClock
) -> None:
    near, _ = pair
    started = trio.current_time()
    for seconds in (5, 1, 3):
        before = trio.current_time()
        assert await waits.readable(near.fileno(), before + seconds) is Woken.TIMED_OUT
        assert trio.current_time() - before == pytest.approx(seconds)
    assert await waits.readable(near.fileno(), started) is Woken.TIMED_OUT


async def test_deadlines_of_many(waits: Waits, autojump_clock: MockClock) -> None:
    """The nearest counts, in whatever order they come, and what is over counts no more."""
    ended: list[tuple[float, Woken]] = []
    pairs = [socket.socketpair() for _ in range(20)]
    started = trio.current_time()

    async def wait(index: int) -> None:
        due = started + (index * 7) % 20 + 1
        woken = await waits.readable(pairs[index][0].fileno(), due)
        ended.append((trio.current_time() - started, woken))
        if woken is Woken.TIMED_OUT:
            assert trio.current_time() == pytest.approx(due)

    try:
        async with trio.open_nursery() as nursery:
            for index in range(20):
                nursery.start_soon(wait, index)
            await trio.sleep(3.5)
            pairs[0][1].send(b"x")  # due at 1, so late already
            pairs[2][1].send(b"x")  # due at 15
    finally:
        for one in pairs:
            for sock in one:
                sock.close()
    assert [woken for _, woken in ended].count(Woken.READY) == 1
    assert ended == sorted(ended, key=lambda one: one[0])


async def test_a_peer_that_leaves_ends_a_wait_and_its_words_do_not(
    waits: Waits, pair: Pair, other: Pair
) -> None:
    near, _ = pair
    peer, far = other
    far.sendall(b"too early")
    woken = []

    async def wait() -> None:
        woken.append(await waits.readable(near.fileno(), math.inf, peer.fileno()))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not woken
            far.close()
    assert woken == [Woken.HUNG_UP]
    assert peer.recv(99) == b"too early"


async def test_both_at_once_wake_once(waits: Waits, pair: Pair, other: Pair) -> None:
    near, near_far = pair
    peer, far = other
    near_far.sendall(b"x")
    far.close()
    with trio.fail_after(5):
        woken = await waits.readable(near.fileno(), math.inf, peer.fileno())
        assert woken in (Woken.READY, Woken.HUNG_UP)
        await trio.testing.wait_all_tasks_blocked()
        # And both may be waited for again.
        assert await waits.readable(near.fileno()) is Woken.READY
        assert await waits.readable(peer.fileno()) is Woken.READY


async def test_a_cancelled_wait_is_forgotten(
    waits: Waits, pair: Pair, other: Pair, autojump_clock: MockClock
) -> None:
    (near, far), (peer, _) = pair, other
    with trio.move_on_after(1) as scope:
        await waits.readable(near.fileno(), trio.current_time() + 2, peer.fileno())
    assert scope.cancelled_caught
    far.sendall(b"x")
    await trio.sleep(5)  # past the deadline of the wait that is no more
    assert await waits.readable(near.fileno()) is Woken.READY


async def test_deadlines_that_are_over_are_not_kept(
    waits: Waits, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    monkeypatch.setattr(waits_module, "STALE", 10)
    far.sendall(b"x")
    due = trio.current_time() + 3600
    with trio.fail_after(20):
        for _ in range(100):
            assert await waits.readable(near.fileno(), due) is Woken.READY
    assert len(waits._due) <= 13


async def test_without_anyone_who_serves_there_are_the_waits_of_trio(pair: Pair) -> None:
    near, far = pair
    idle = Waits()
    assert not idle.watch(near.fileno(), select.EPOLLIN, lambda: None)
    assert await idle.readable(near.fileno(), trio.current_time()) is Woken.TIMED_OUT
    far.sendall(b"x")
    with trio.fail_after(5):
        assert await idle.readable(near.fileno(), math.inf) is Woken.READY


async def test_who_waits_goes_on_when_run_ends(pair: Pair, other: Pair) -> None:
    near, peer = pair[0].fileno(), other[0].fileno()
    tunnels = Tunnels()
    ending = tunnels.waits
    woken = []

    async def wait() -> None:
        woken.append(await ending.readable(near, peer=peer))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            running = trio.CancelScope()

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                with running:
                    await tunnels.run(task_status)

            await nursery.start(serve)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            running.cancel()
    assert woken == [Woken.READY]
