"""Workers that call each other; here in one process, with the same sockets."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
import trio

from trio_gw.workers import rpc
from trio_gw.workers.rpc import MAX_CONCURRENT, MAX_REQUEST, MAX_RESPONSE, RpcChannels, WorkerRpc

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def three() -> Iterator[list[WorkerRpc]]:
    channels = RpcChannels(3)
    yield [WorkerRpc(channels, index) for index in range(3)]
    channels.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def upper(request: bytes) -> bytes:
    return request.upper()


async def test_all_others_are_asked_at_once(nursery: trio.Nursery, three: list[WorkerRpc]) -> None:
    first, second, third = three
    both = trio.Event()
    waiting = 0

    async def handler(request: bytes) -> bytes:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            both.set()
        await both.wait()
        return request * 2

    for one in (second, third):
        await nursery.start(one.serve, handler)
    assert first.others == [1, 2]
    assert await first.call(b"x", first.others, seconds=5) == {1: b"xx", 2: b"xx"}
    # Also the other way round, at the longest.
    await nursery.start(first.serve, upper)
    response = await second.call(b"y" * MAX_REQUEST, [0], seconds=5)
    assert response == {0: b"Y" * MAX_REQUEST}


async def test_nobody_waits_longer_than_was_said(
    nursery: trio.Nursery, three: list[WorkerRpc], autojump_clock: object
) -> None:
    first, second, _ = three
    begun = trio.current_time()
    assert await first.call(b"x", [1, 2], seconds=3) == {}
    assert trio.current_time() - begun == pytest.approx(3)
    # Whoever comes late finds questions that nobody waits for, and goes on.
    await nursery.start(second.serve, upper)
    with trio.fail_after(1):
        assert await first.call(b"z", [1], seconds=3) == {1: b"Z"}


async def test_an_answer_is_whole_or_none(
    nursery: trio.Nursery, three: list[WorkerRpc], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = three
    monkeypatch.setattr(rpc, "MAX_RESPONSE", 100_000)
    sizes = {b"fits": 100_000, b"too long": 100_001, b"empty": 0}

    async def handler(request: bytes) -> bytes:
        if request == b"a bug":
            raise RuntimeError("a bug")
        return b"x" * sizes[request]

    await nursery.start(second.serve, handler)
    for request, size in sizes.items():
        expected = {} if request == b"too long" else {1: b"x" * size}
        assert await first.call(request, [1], seconds=5) == expected
    with trio.fail_after(4):
        assert await first.call(b"a bug", [1], seconds=5) == {}
    assert await first.call(b"fits", [1], seconds=5) != {}

    # One that dies while it answers, here by being cancelled.
    async with trio.open_nursery() as brief:
        begun = trio.Event()

        async def hang(_: bytes) -> bytes:
            begun.set()
            await trio.sleep_forever()

        await brief.start(third.serve, hang)
        async with trio.open_nursery() as asking:
            responses: list[dict[int, bytes]] = []

            async def call() -> None:
                responses.append(await first.call(b"x", [2], seconds=60))

            asking.start_soon(call)
            await begun.wait()
            brief.cancel_scope.cancel()
            with trio.fail_after(5):
                while not responses:
                    await trio.lowlevel.checkpoint()
        assert responses == [{}]


async def test_too_many_concurrent_requests_get_no_response(
    nursery: trio.Nursery, three: list[WorkerRpc]
) -> None:
    first, second, _ = three
    held = trio.Event()
    asked = 0

    async def handler(request: bytes) -> bytes:
        nonlocal asked
        asked += 1
        await held.wait()
        return request

    await nursery.start(second.serve, handler)
    outcomes: list[dict[int, bytes]] = []

    async def call() -> None:
        outcomes.append(await first.call(b"x", [1], seconds=30))

    async with trio.open_nursery() as asking:
        for _ in range(MAX_CONCURRENT + 5):
            asking.start_soon(call)
        with trio.fail_after(5):
            while len(outcomes) < 5 or asked < MAX_CONCURRENT:
                await trio.lowlevel.checkpoint()
        assert outcomes == [{}] * 5
        held.set()
    assert asked == MAX_CONCURRENT
    assert outcomes[5:] == [{1: b"x"}] * MAX_CONCURRENT


async def test_a_full_mailbox_is_no_answer_and_nothing_is_left_open(
    three: list[WorkerRpc], caplog: pytest.LogCaptureFixture
) -> None:
    first = three[0]
    before = descriptors()
    with trio.fail_after(20):
        while "cannot ask worker 2" not in caplog.text:
            with contextlib.suppress(trio.TooSlowError):
                assert await first.call(b"x" * MAX_REQUEST, [1], seconds=0.001) == {}
    assert descriptors() == before
    assert MAX_RESPONSE > MAX_REQUEST


async def test_alone_there_is_nobody_to_ask() -> None:
    alone = WorkerRpc()
    assert alone.others == []
    assert await alone.call(b"x", alone.others, seconds=60) == {}
    await alone.serve(upper)
