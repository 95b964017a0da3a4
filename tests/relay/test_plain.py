"""A TCP stream that keeps Trio's promises, and its ways to try without waiting."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_gw.relay.plain import PlainStream, discard, receive, send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def tcp_pair() -> tuple[PlainStream, PlainStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return PlainStream(client), PlainStream(accepted)


async def test_it_is_a_trio_stream() -> None:
    with trio.fail_after(30):
        await trio.testing.check_half_closeable_stream(tcp_pair, None)


async def test_now_means_now() -> None:
    near, far = await tcp_pair()
    async with near, far:
        assert near.receive_now() is None
        assert far.send_now(b"hello") == 5
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(near.socket)
        assert near.receive_now(2) == b"he"
        assert near.receive_now() == b"llo"
        far.close()
        with trio.fail_after(5):
            assert await receive(near) == b""


async def test_send_and_receive_wait_when_they_must() -> None:
    near, far = await tcp_pair()
    data = bytes(range(256)) * 65536  # more than the kernel keeps
    got = bytearray()

    async def drain() -> None:
        while len(got) < len(data):
            got.extend(await receive(far))

    async with near, far:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain)
                await send(near, data)
    assert got == data


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.receive_some(),
        lambda stream: stream.send_all(b"x"),
        lambda stream: stream.send_eof(),
        lambda stream: stream.wait_send_all_might_not_block(),
        receive,
        lambda stream: send(stream, b"x"),
    ],
)
async def test_a_closed_one_says_so(use: Callable[[PlainStream], Awaitable[object]]) -> None:
    near, far = await tcp_pair()
    near.close()
    near.close()
    with pytest.raises(trio.ClosedResourceError):
        await use(near)
    await discard(near)
    await far.aclose()


async def test_closing_wakes_who_waits() -> None:
    near, far = await tcp_pair()
    woken = trio.Event()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await receive(near)
        woken.set()

    async with far, trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        near.close()
        with trio.fail_after(5):
            await woken.wait()


async def test_discard_closes_any_stream_even_when_cancelled() -> None:
    near, far = await tcp_pair()
    memory, _ = trio.testing.memory_stream_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        for stream in (near, far, memory):
            await discard(stream)
    assert near.socket.fileno() == far.socket.fileno() == -1
    with pytest.raises(trio.ClosedResourceError):
        await memory.send_all(b"x")
