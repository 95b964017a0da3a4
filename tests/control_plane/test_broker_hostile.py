"""A broker that does not behave: it ignores limits, sends nonsense, or never answers."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from pamqp import body, commands, frame, header

from support.events import KEYS, Collector, following
from trio_gw.config.broker_url import parse_broker_url
from trio_gw.control_plane.broker import follow
from trio_gw.control_plane.broker_link import WAITING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_gw.control_plane.broker import Delivery

SIZE = 1 << 16  # octets of a message
FLOOD = 1024  # messages, 64 MiB


def answers() -> bytes:
    """Build the answers of a broker to a whole handshake; heartbeats are off."""
    methods: list[tuple[int, frame.FrameTypes]] = [
        (0, commands.Connection.Start(0, 9, {}, "PLAIN", "en_US")),
        (0, commands.Connection.Tune(2047, 131072, 0)),
        (0, commands.Connection.OpenOk()),
        (1, commands.Channel.OpenOk()),
        (1, commands.Basic.QosOk()),
        (1, commands.Queue.DeclareOk("queue", 0, 0)),
        *((1, commands.Queue.BindOk()) for _ in KEYS),
        (1, commands.Basic.ConsumeOk("tag")),
    ]
    return b"".join(frame.marshal(method, channel) for channel, method in methods)


def message(tag: int, size: int = SIZE) -> bytes:
    """Build a delivery."""
    method = commands.Basic.Deliver("tag", tag, False, "amq.topic", "notification")
    sent = frame.marshal(method, 1) + frame.marshal(header.ContentHeader(0, size), 1)
    return sent + frame.marshal(body.ContentBody(bytes(size)), 1)


@contextlib.asynccontextmanager
async def serving(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve connections, and give the URL of this broker."""

    async def handle(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await handler(stream)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        yield f"amqp://admin:admin@127.0.0.1:{port}/?retries=100&connectdelay=0.01"
        nursery.cancel_scope.cancel()


async def test_a_broker_that_ignores_the_prefetch_limit_is_not_read_on() -> None:
    sent = 0
    stuck = trio.Event()

    async def flood(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.send_all(answers())
        for tag in range(1, FLOOD + 1):
            with trio.move_on_after(1) as scope:
                await stream.send_all(message(tag))
                sent += 1
            if scope.cancelled_caught:
                stuck.set()
                return

    consumer = Collector()
    consumer.in_bound = trio.Event()
    async with serving(flood) as url, following([url], consumer, prefetch=10_000):
        with trio.fail_after(60):
            await stuck.wait()
        # What waits here, and what the buffers of both sockets hold.
        assert WAITING / SIZE <= sent < FLOOD / 2
        consumer.in_bound.set()
        await consumer.until(lambda: len(consumer.deliveries) >= WAITING // SIZE)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01" * 100])
async def test_a_server_that_is_no_broker_is_tried_again(data: bytes) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(data)

    async with serving(handler) as url, following([url], connected=False) as events:
        await events.until(lambda: len(events.reasons) >= 3)
        assert events.connects == 0


async def test_a_server_that_never_answers_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass

    async with serving(handler) as url, following([url], connected=False) as events:
        await events.until(lambda: bool(events.reasons))
        assert "it did not answer within 10 s" in events.reasons[0]


async def test_an_error_of_the_consumer_is_not_hidden() -> None:
    class Broken(Collector):
        async def deliver(self, delivery: Delivery) -> None:
            raise ZeroDivisionError

    ended = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(answers() + message(1, 1))
            async for _ in stream:
                pass
        ended.set()

    async with serving(handler) as url:
        with pytest.raises(ExceptionGroup) as caught, trio.fail_after(10):
            await follow(parse_broker_url(url), None, KEYS, Broken())
        assert caught.group_contains(ZeroDivisionError)
        with trio.fail_after(10):
            await ended.wait()
