"""Clients that disconnect while a backend is waited for, in every way a connection can end."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_gw.proxy.client_disconnect import ClientGoneError, ClientWatch
from trio_gw.relay.plain import PlainStream
from trio_gw.relay.tunnel import Tunnels
from trio_gw.relay.waits import Waits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

Watched = tuple[
    ClientWatch, socket.socket, PlainStream, socket.socket
]  # who asks, and who is asked


def pair() -> tuple[socket.socket, PlainStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return client, PlainStream(accepted)


@pytest.fixture
async def waiting() -> AsyncIterator[Watched]:
    async with trio.open_nursery() as nursery:
        tunnels = Tunnels()
        waits = tunnels.waits
        await nursery.start(tunnels.run)
        await nursery.start(waits.run)
        far, stream = pair()
        backend, asked = pair()
        with far, backend:
            async with stream, asked:
                yield ClientWatch(stream, waits), far, asked, backend
        nursery.cancel_scope.cancel()


def finish(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def speak_and_close(client: socket.socket) -> None:
    client.sendall(b"frames that nobody reads")
    client.close()


async def for_an_answer(client: ClientWatch, backend: PlainStream) -> None:
    await client.receive(backend, trio.current_time() + 3600)


async def for_whatever(client: ClientWatch, _: PlainStream) -> None:
    with client.cancel_on_disconnect():
        await trio.sleep(3600)


@pytest.mark.parametrize("wait", [for_an_answer, for_whatever])
@pytest.mark.parametrize("depart", [finish, reset, socket.socket.close, speak_and_close])
async def test_a_disconnect_ends_the_wait(
    waiting: Watched,
    depart: Callable[[socket.socket], None],
    wait: Callable[[ClientWatch, PlainStream], Awaitable[None]],
) -> None:
    client, far, asked, _ = waiting
    told: list[int] = []

    async def until_told() -> None:
        with pytest.raises(ClientGoneError):
            await wait(client, asked)
        told.append(1)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_told)
            await trio.testing.wait_all_tasks_blocked()
            assert not told
            depart(far)
    assert told == [1]


async def test_early_frames_are_no_disconnect_and_stay_unread(waiting: Watched) -> None:
    client, far, asked, backend = waiting
    got: list[bytes | None] = []

    async def receive() -> None:
        with client.cancel_on_disconnect():
            await trio.testing.wait_all_tasks_blocked()
        got.append(await client.receive(asked, trio.current_time() + 3600))

    far.sendall(b"early")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not got
            backend.sendall(b"answer")
    assert got == [b"answer"]


async def test_an_answer_that_does_not_come(waiting: Watched) -> None:
    client, _, asked, _ = waiting
    with trio.fail_after(5):
        assert await client.receive(asked, trio.current_time()) is None


async def test_a_disconnect_outside_a_wait_raises_at_the_next_one(waiting: Watched) -> None:
    client, far, asked, backend = waiting
    with client.cancel_on_disconnect():
        await trio.lowlevel.checkpoint()
    far.close()
    backend.sendall(b"answer")
    with client.cancel_on_disconnect():  # what is done without waiting is done
        pass
    with trio.fail_after(5), pytest.raises(ClientGoneError):
        await for_whatever(client, asked)


async def test_a_broken_backend_is_no_disconnect(waiting: Watched) -> None:
    client, _, asked, backend = waiting
    reset(backend)
    with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
        await client.receive(asked, trio.current_time() + 3600)


async def test_what_cannot_be_watched_is_left_alone() -> None:
    memory, _ = trio.testing.memory_stream_pair()
    far, stream = pair()
    async with stream:
        far.close()
        for client in (
            ClientWatch(memory, Waits()),
            ClientWatch(stream, Waits()),
        ):  # not running
            with client.cancel_on_disconnect():
                await trio.testing.wait_all_tasks_blocked()
