"""Workers side by side: whose turn it is, and when all of them are ready."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_gw.counters import Counters, Slot
from trio_gw.proxy.fleet import HASTE, HASTY, PATIENCE, SETTLE, Fleet, State, bury
from trio_gw.proxy.listener import accept_all, bind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio.testing import MockClock

    from trio_gw.relay.plain import PlainStream

A, B = "a" * 64, "b" * 64


def fleets(count: int, state: State = State.READY, *opened: int) -> tuple[Counters, list[Fleet]]:
    counters = Counters(count)
    all_of_them = [Fleet(counters, index) for index in range(count)]
    for index, fleet in enumerate(all_of_them):
        fleet.state = state
        fleet.serves(A)
        counters.column(index)[Slot.OPEN] = opened[index] if opened else 0
    return counters, all_of_them


@pytest.fixture
def waiting() -> Iterator[socket.socket]:
    """A listening socket at which somebody waits."""
    sock = socket.create_server(("127.0.0.1", 0))
    with sock, socket.create_connection(sock.getsockname()):
        sock.setblocking(False)
        yield sock


async def waits(fleet: Fleet, sock: socket.socket) -> float:
    """Say how long it takes until it is this worker's turn."""
    began = trio.current_time()
    await fleet.turn(sock)
    return trio.current_time() - began


def test_connections_are_counted() -> None:
    counters, (one, _) = fleets(2)
    with one.connection(), one.connection():
        assert counters.row(Slot.OPEN) == [2, 0]
    with pytest.raises(KeyError), one.connection():
        raise KeyError
    assert counters.row(Slot.OPEN) == [0, 0]
    assert counters.row(Slot.ACCEPTED) == [3, 0]


async def test_alone_it_is_always_its_turn(
    autojump_clock: MockClock, waiting: socket.socket
) -> None:
    _, (one,) = fleets(1, State.READY, 1000)
    assert await waits(one, waiting) == 0


@pytest.mark.parametrize(("ahead", "least"), [(0, 0), (2, 0), (12, 10), (1020, 1000)])
async def test_as_few_as_the_others(
    autojump_clock: MockClock, waiting: socket.socket, ahead: int, least: int
) -> None:
    _, all_of_them = fleets(3, State.READY, ahead, least, 5000)
    assert await waits(all_of_them[0], waiting) == 0
    assert await waits(all_of_them[1], waiting) == 0


@pytest.mark.parametrize(("ahead", "least"), [(3, 0), (13, 10), (1021, 1000)])
async def test_more_than_the_others_but_they_do_not_take_it(
    autojump_clock: MockClock, waiting: socket.socket, ahead: int, least: int
) -> None:
    _, (one, two) = fleets(2, State.READY, ahead, least)
    assert await waits(one, waiting) == pytest.approx(PATIENCE)
    # They must be busy; others have no reason to wait as long.
    assert await waits(one, waiting) == pytest.approx(HASTY)
    await trio.sleep(HASTE)
    assert await waits(one, waiting) == pytest.approx(PATIENCE)
    assert await waits(two, waiting) == 0


async def test_the_others_catch_up(autojump_clock: MockClock, waiting: socket.socket) -> None:
    counters, (one, _) = fleets(2, State.READY, 3, 0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.turn, waiting)
        await trio.testing.wait_all_tasks_blocked()
        counters.column(1)[Slot.OPEN] = 1
    assert trio.current_time() - began < PATIENCE / 2


async def test_the_others_take_it(autojump_clock: MockClock, waiting: socket.socket) -> None:
    """That was not in vain, however far they are behind."""
    _, (one, _) = fleets(2, State.READY, 100, 0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.turn, waiting)
        await trio.testing.wait_all_tasks_blocked()
        waiting.accept()[0].close()
    assert trio.current_time() - began < PATIENCE / 2
    with socket.create_connection(waiting.getsockname()):
        assert await waits(one, waiting) == pytest.approx(PATIENCE)


@pytest.mark.parametrize("state", [State.ABSENT, State.MISSING, State.DRAINING])
async def test_who_does_not_accept_is_not_waited_for(
    autojump_clock: MockClock, waiting: socket.socket, state: State
) -> None:
    _, (one, two) = fleets(2, State.READY, 50, 0)
    two.state = state
    assert await waits(one, waiting) == 0


@pytest.mark.parametrize("state", [State.STARTING, State.READY])
async def test_who_does_not_respond_is_not_waited_for(
    autojump_clock: MockClock, waiting: socket.socket, state: State
) -> None:
    counters, (one, two) = fleets(2, State.READY, 50, 0)
    two.state = state
    two.serves(B)
    assert await waits(one, waiting) > 0
    counters.column(1)[Slot.SILENT] = 3
    assert await waits(one, waiting) == 0
    with trio.fail_after(0):
        await one.agreed()
    assert one.unresponsive() == [2]
    assert two.unresponsive() == []  # it responds to whoever asks it
    # As with one that has ended: whether it had been ready decides.
    assert await one.settled() == (state is State.READY)
    counters.column(1)[Slot.SILENT] = 0
    assert await waits(one, waiting) > 0


def test_how_many_were_killed_is_kept() -> None:
    counters, (one, _) = fleets(2)
    column = counters.column(1)
    column[Slot.KILLED], column[Slot.SILENT] = 3, 30
    assert one.silence() == [(0, 0), (30, 3)]
    bury(counters, 1)
    assert one.silence() == [(0, 0), (0, 3)]
    assert one.states() == [State.READY, State.MISSING]


async def test_who_only_starts_accepts_too(
    autojump_clock: MockClock, waiting: socket.socket
) -> None:
    _, (one, two) = fleets(2, State.READY, 50, 0)
    two.state = State.STARTING
    assert await waits(one, waiting) > 0


async def test_connections_are_spread() -> None:
    """Four workers at one socket, in one process: after every wave none is 10 % off the mean."""
    counters, all_of_them = fleets(4)
    (sock,) = bind("http", "127.0.0.1", 0)
    clients: list[socket.socket] = []

    def handler(fleet: Fleet) -> Callable[[PlainStream, str], Awaitable[None]]:
        async def serve(stream: PlainStream, _peer: str) -> None:
            with fleet.connection():
                async with stream:
                    await stream.receive_some()

        return serve

    async def settle() -> list[int]:
        with trio.fail_after(20):
            while sum(counters.row(Slot.OPEN)) != len(clients):
                await trio.lowlevel.checkpoint()
        return counters.row(Slot.OPEN)

    async with trio.open_nursery() as nursery:
        for fleet in all_of_them:
            nursery.start_soon(accept_all, sock.dup(), handler(fleet), nursery, fleet.turn)
        shuffled = random.Random(3)
        for arriving, staying in ((100, 100), (300, 200), (200, 60), (100, 100), (300, 300)):
            for _ in range(arriving):
                client = socket.socket()
                client.setblocking(False)
                clients.append(client)
                with contextlib.suppress(BlockingIOError):
                    client.connect(sock.getsockname())
            row = await settle()
            mean = sum(row) / 4
            assert max(abs(count - mean) for count in row) <= mean / 10, row
            shuffled.shuffle(clients)
            for client in clients[staying:]:
                client.close()
            del clients[staying:]
            await settle()
        nursery.cancel_scope.cancel()
    for client in clients:
        client.close()
    sock.close()


# --- readiness ------------------------------------------------------------------------------


async def test_ready_means_all(autojump_clock: MockClock) -> None:
    _, all_of_them = fleets(3, State.STARTING)
    for fleet in all_of_them:
        assert not await all_of_them[0].settled()
        fleet.state = State.READY
    assert await all_of_them[0].settled()
    assert await all_of_them[2].settled()


async def test_a_table_on_its_way_is_waited_for(autojump_clock: MockClock) -> None:
    _, (one, two) = fleets(2)
    one.serves(B)
    async with trio.open_nursery() as nursery:
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await one.settled())

        nursery.start_soon(ask)
        await trio.sleep(SETTLE / 2)
        assert answers == []
        two.serves(B)
    assert answers == [True]


async def test_different_tables_are_not_ready(autojump_clock: MockClock) -> None:
    _, (one, two) = fleets(2)
    two.serves(B)
    began = trio.current_time()
    assert not await one.settled()
    assert trio.current_time() - began == pytest.approx(SETTLE)


async def test_a_worker_that_died_does_not_fail_the_others(autojump_clock: MockClock) -> None:
    counters, (one, two) = fleets(2)
    counters.column(1)[Slot.OPEN] = 7
    bury(counters, 1)
    assert await one.settled()
    assert counters.row(Slot.OPEN) == [0, 0]
    replacement = Fleet(counters, 1)
    assert replacement.replaces
    replacement.serves(A)
    replacement.state = State.READY
    assert await one.settled()
    assert await replacement.settled()
    assert two.state == State.READY


async def test_a_worker_that_died_before_it_was_ready_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    counters, (one, two) = fleets(2)
    two.state = State.STARTING
    bury(counters, 1)
    assert not Fleet(counters, 1).replaces
    assert not await one.settled()


async def test_one_that_drains_is_not_ready(autojump_clock: MockClock) -> None:
    _, (one, two) = fleets(2)
    two.state = State.DRAINING
    assert not await one.settled()


async def test_those_who_serve_or_are_about_to_agree(autojump_clock: MockClock) -> None:
    counters, (one, two, three) = fleets(3)
    two.state = State.STARTING
    three.state = State.DRAINING
    three.serves(B)  # it has no new clients
    one.serves(B)
    with trio.move_on_after(60) as waited:
        await one.agreed()
    assert waited.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.agreed)
        await trio.testing.wait_all_tasks_blocked()
        two.serves(B)
    one.serves(A)
    bury(counters, 1)
    with trio.fail_after(1):
        await one.agreed()  # who replaces the second reads what there is
