"""Clients that hang up while they are watched, in every way a connection can end."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_gw.proxy.departures import Departures
from trio_gw.relay.plain import PlainStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def pair() -> tuple[socket.socket, PlainStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return client, PlainStream(accepted)


@pytest.fixture
async def departures() -> AsyncIterator[Departures]:
    async with trio.open_nursery() as nursery:
        departures = Departures()
        await nursery.start(departures.run)
        yield departures
        nursery.cancel_scope.cancel()


def finish(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def speak_and_close(client: socket.socket) -> None:
    client.sendall(b"frames that nobody reads")
    client.close()


@pytest.mark.parametrize("depart", [finish, reset, socket.socket.close, speak_and_close])
async def test_a_departure_is_told_once(
    departures: Departures, depart: Callable[[socket.socket], None]
) -> None:
    client, stream = pair()
    told: list[int] = []
    left = trio.Event()
    with client:
        async with stream:

            def leave() -> None:
                told.append(1)
                left.set()

            watched = departures.watch(stream, leave)
            depart(client)
            with trio.fail_after(5):
                await left.wait()
            await trio.testing.wait_all_tasks_blocked()
            departures.forget(watched)
    assert told == [1]


async def test_early_frames_are_no_departure_and_stay_unread(departures: Departures) -> None:
    client, stream = pair()
    told: list[int] = []
    with client:
        async with stream:
            watched = departures.watch(stream, lambda: told.append(1))
            client.sendall(b"early")
            await trio.lowlevel.wait_readable(stream.socket)
            await trio.testing.wait_all_tasks_blocked()
            departures.forget(watched)
            assert stream.receive_now() == b"early"
    assert told == []


async def test_who_is_forgotten_may_leave(departures: Departures) -> None:
    client, stream = pair()
    told: list[int] = []
    async with stream:
        departures.forget(departures.watch(stream, lambda: told.append(1)))
        client.close()
        await trio.lowlevel.wait_readable(stream.socket)
        await trio.testing.wait_all_tasks_blocked()
        # And may be watched again, under the same descriptor.
        left = trio.Event()
        departures.forget(departures.watch(stream, left.set))
    assert told == []


async def test_what_cannot_be_watched_is_left_alone(departures: Departures) -> None:
    told: list[int] = []

    def leave() -> None:
        told.append(1)

    memory, _ = trio.testing.memory_stream_pair()
    departures.forget(departures.watch(memory, leave))
    client, stream = pair()
    with client:
        stream.close()
        departures.forget(departures.watch(stream, leave))
    idle = Departures()  # not running
    client, stream = pair()
    async with stream:
        client.close()
        idle.forget(idle.watch(stream, leave))
    await trio.testing.wait_all_tasks_blocked()
    assert told == []
