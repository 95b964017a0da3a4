"""Workers side by side: which one accepts, and when all of them are ready."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_gw.proxy.listener import accept_all, bind
from trio_gw.supervision.shared_memory import Counters, Slot
from trio_gw.workers.shared_state import (
    ACCEPT_WAIT,
    CONVERGE_TIMEOUT,
    SHORT_WAIT,
    SHORT_WAITS_FOR,
    SharedState,
    WorkerState,
    mark_dead,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio.testing import MockClock

    from trio_gw.relay.plain import PlainStream

A, B = "a" * 64, "b" * 64


def some_workers(
    count: int, state: WorkerState = WorkerState.READY, *opened: int
) -> tuple[Counters, list[SharedState]]:
    counters = Counters(count)
    all_of_them = [SharedState(counters, index) for index in range(count)]
    for index, shared_state in enumerate(all_of_them):
        shared_state.state = state
        shared_state.set_table(A)
        counters.column(index)[Slot.OPEN] = opened[index] if opened else 0
    return counters, all_of_them


@pytest.fixture
def waiting() -> Iterator[socket.socket]:
    """A listening socket at which somebody waits."""
    sock = socket.create_server(("127.0.0.1", 0))
    with sock, socket.create_connection(sock.getsockname()):
        sock.setblocking(False)
        yield sock


async def waits(shared_state: SharedState, sock: socket.socket) -> float:
    """Say how long it takes until it is this worker's turn."""
    began = trio.current_time()
    await shared_state.accept_turn(sock)
    return trio.current_time() - began


def test_connections_are_counted() -> None:
    counters, (one, _) = some_workers(2)
    with one.count_connection(), one.count_connection():
        assert counters.row(Slot.OPEN) == [2, 0]
    with pytest.raises(KeyError), one.count_connection():
        raise KeyError
    assert counters.row(Slot.OPEN) == [0, 0]
    assert counters.row(Slot.ACCEPTED) == [3, 0]


async def test_a_single_worker_always_accepts(
    autojump_clock: MockClock, waiting: socket.socket
) -> None:
    _, (one,) = some_workers(1, WorkerState.READY, 1000)
    assert await waits(one, waiting) == 0


@pytest.mark.parametrize(("ahead", "least"), [(0, 0), (2, 0), (12, 10), (1020, 1000)])
async def test_as_few_as_the_others(
    autojump_clock: MockClock, waiting: socket.socket, ahead: int, least: int
) -> None:
    _, all_of_them = some_workers(3, WorkerState.READY, ahead, least, 5000)
    assert await waits(all_of_them[0], waiting) == 0
    assert await waits(all_of_them[1], waiting) == 0


@pytest.mark.parametrize(("ahead", "least"), [(3, 0), (13, 10), (1021, 1000)])
async def test_more_than_the_others_but_they_do_not_take_it(
    autojump_clock: MockClock, waiting: socket.socket, ahead: int, least: int
) -> None:
    _, (one, two) = some_workers(2, WorkerState.READY, ahead, least)
    assert await waits(one, waiting) == pytest.approx(ACCEPT_WAIT)
    # They must be busy; others have no reason to wait as long.
    assert await waits(one, waiting) == pytest.approx(SHORT_WAIT)
    await trio.sleep(SHORT_WAITS_FOR)
    assert await waits(one, waiting) == pytest.approx(ACCEPT_WAIT)
    assert await waits(two, waiting) == 0


async def test_the_others_catch_up(autojump_clock: MockClock, waiting: socket.socket) -> None:
    counters, (one, _) = some_workers(2, WorkerState.READY, 3, 0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.accept_turn, waiting)
        await trio.testing.wait_all_tasks_blocked()
        counters.column(1)[Slot.OPEN] = 1
    assert trio.current_time() - began < ACCEPT_WAIT / 2


async def test_the_others_take_it(autojump_clock: MockClock, waiting: socket.socket) -> None:
    """That was not in vain, however far they are behind."""
    _, (one, _) = some_workers(2, WorkerState.READY, 100, 0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.accept_turn, waiting)
        await trio.testing.wait_all_tasks_blocked()
        waiting.accept()[0].close()
    assert trio.current_time() - began < ACCEPT_WAIT / 2
    with socket.create_connection(waiting.getsockname()):
        assert await waits(one, waiting) == pytest.approx(ACCEPT_WAIT)


@pytest.mark.parametrize("state", [WorkerState.ABSENT, WorkerState.MISSING, WorkerState.DRAINING])
async def test_workers_that_do_not_accept_are_not_waited_for(
    autojump_clock: MockClock, waiting: socket.socket, state: WorkerState
) -> None:
    _, (one, two) = some_workers(2, WorkerState.READY, 50, 0)
    two.state = state
    assert await waits(one, waiting) == 0


@pytest.mark.parametrize("state", [WorkerState.STARTING, WorkerState.READY])
async def test_unresponsive_workers_are_not_waited_for(
    autojump_clock: MockClock, waiting: socket.socket, state: WorkerState
) -> None:
    counters, (one, two) = some_workers(2, WorkerState.READY, 50, 0)
    two.state = state
    two.set_table(B)
    assert await waits(one, waiting) > 0
    counters.column(1)[Slot.SILENT] = 3
    assert await waits(one, waiting) == 0
    with trio.fail_after(0):
        await one.wait_converged()
    assert one.unresponsive() == [2]
    assert two.unresponsive() == []  # it responds to whoever asks it
    # As with one that has ended: whether it had been ready decides.
    assert await one.is_converged() == (state is WorkerState.READY)
    counters.column(1)[Slot.SILENT] = 0
    assert await waits(one, waiting) > 0


def test_how_many_were_killed_is_kept() -> None:
    counters, (one, _) = some_workers(2)
    column = counters.column(1)
    column[Slot.KILLED], column[Slot.SILENT] = 3, 30
    assert one.silent_seconds() == [(0, 0), (30, 3)]
    mark_dead(counters, 1)
    assert one.silent_seconds() == [(0, 0), (0, 3)]
    assert one.states() == [WorkerState.READY, WorkerState.MISSING]


async def test_starting_workers_accept_too(
    autojump_clock: MockClock, waiting: socket.socket
) -> None:
    _, (one, two) = some_workers(2, WorkerState.READY, 50, 0)
    two.state = WorkerState.STARTING
    assert await waits(one, waiting) > 0


async def test_connections_are_spread() -> None:
    """Four workers at one socket, in one process: after every wave none is 10 % off the mean."""
    counters, all_of_them = some_workers(4)
    (sock,) = bind("http", "127.0.0.1", 0)
    clients: list[socket.socket] = []

    def handler(shared_state: SharedState) -> Callable[[PlainStream, str], Awaitable[None]]:
        async def serve(stream: PlainStream, _peer: str) -> None:
            with shared_state.count_connection():
                async with stream:
                    await stream.receive_some()

        return serve

    async def settle() -> list[int]:
        with trio.fail_after(20):
            while sum(counters.row(Slot.OPEN)) != len(clients):
                await trio.lowlevel.checkpoint()
        return counters.row(Slot.OPEN)

    async with trio.open_nursery() as nursery:
        for shared_state in all_of_them:
            nursery.start_soon(
                accept_all, sock.dup(), handler(shared_state), nursery, shared_state.accept_turn
            )
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
    _, all_of_them = some_workers(3, WorkerState.STARTING)
    for shared_state in all_of_them:
        assert not await all_of_them[0].is_converged()
        shared_state.state = WorkerState.READY
    assert await all_of_them[0].is_converged()
    assert await all_of_them[2].is_converged()


async def test_a_table_on_its_way_is_waited_for(autojump_clock: MockClock) -> None:
    _, (one, two) = some_workers(2)
    one.set_table(B)
    async with trio.open_nursery() as nursery:
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await one.is_converged())

        nursery.start_soon(ask)
        await trio.sleep(CONVERGE_TIMEOUT / 2)
        assert answers == []
        two.set_table(B)
    assert answers == [True]


async def test_different_tables_are_not_ready(autojump_clock: MockClock) -> None:
    _, (one, two) = some_workers(2)
    two.set_table(B)
    began = trio.current_time()
    assert not await one.is_converged()
    assert trio.current_time() - began == pytest.approx(CONVERGE_TIMEOUT)


async def test_a_worker_that_died_does_not_fail_the_others(autojump_clock: MockClock) -> None:
    counters, (one, two) = some_workers(2)
    counters.column(1)[Slot.OPEN] = 7
    mark_dead(counters, 1)
    assert await one.is_converged()
    assert counters.row(Slot.OPEN) == [0, 0]
    replacement = SharedState(counters, 1)
    assert replacement.is_replacement
    replacement.set_table(A)
    replacement.state = WorkerState.READY
    assert await one.is_converged()
    assert await replacement.is_converged()
    assert two.state == WorkerState.READY


async def test_a_worker_that_died_before_it_was_ready_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    counters, (one, two) = some_workers(2)
    two.state = WorkerState.STARTING
    mark_dead(counters, 1)
    assert not SharedState(counters, 1).is_replacement
    assert not await one.is_converged()


async def test_one_that_drains_is_not_ready(autojump_clock: MockClock) -> None:
    _, (one, two) = some_workers(2)
    two.state = WorkerState.DRAINING
    assert not await one.is_converged()


async def test_wait_converged_includes_starting_workers(autojump_clock: MockClock) -> None:
    counters, (one, two, three) = some_workers(3)
    two.state = WorkerState.STARTING
    three.state = WorkerState.DRAINING
    three.set_table(B)  # it has no new clients
    one.set_table(B)
    with trio.move_on_after(60) as waited:
        await one.wait_converged()
    assert waited.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.wait_converged)
        await trio.testing.wait_all_tasks_blocked()
        two.set_table(B)
    one.set_table(A)
    mark_dead(counters, 1)
    with trio.fail_after(1):
        await one.wait_converged()  # who replaces the second reads what there is
