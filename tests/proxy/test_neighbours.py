"""Workers that ask each other, here in one process: the sockets are the same."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
import trio

from trio_gw.proxy import neighbours
from trio_gw.proxy.neighbours import AT_ONCE, MAX_ANSWER, MAX_QUESTION, Mailboxes, Neighbours

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def three() -> Iterator[list[Neighbours]]:
    mailboxes = Mailboxes(3)
    yield [Neighbours(mailboxes, index) for index in range(3)]
    mailboxes.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def upper(question: bytes) -> bytes:
    return question.upper()


async def test_all_others_are_asked_at_once(nursery: trio.Nursery, three: list[Neighbours]) -> None:
    first, second, third = three
    both = trio.Event()
    waiting = 0

    async def answer(question: bytes) -> bytes:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            both.set()
        await both.wait()
        return question * 2

    for one in (second, third):
        await nursery.start(one.run, answer)
    assert first.others == [1, 2]
    assert await first.ask(b"x", first.others, within=5) == {1: b"xx", 2: b"xx"}
    # Also the other way round, at the longest.
    await nursery.start(first.run, upper)
    told = await second.ask(b"y" * MAX_QUESTION, [0], within=5)
    assert told == {0: b"Y" * MAX_QUESTION}


async def test_nobody_waits_longer_than_was_said(
    nursery: trio.Nursery, three: list[Neighbours], autojump_clock: object
) -> None:
    first, second, _ = three
    begun = trio.current_time()
    assert await first.ask(b"x", [1, 2], within=3) == {}
    assert trio.current_time() - begun == pytest.approx(3)
    # Whoever comes late finds questions that nobody waits for, and goes on.
    await nursery.start(second.run, upper)
    with trio.fail_after(1):
        assert await first.ask(b"z", [1], within=3) == {1: b"Z"}


async def test_an_answer_is_whole_or_none(
    nursery: trio.Nursery, three: list[Neighbours], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = three
    monkeypatch.setattr(neighbours, "MAX_ANSWER", 100_000)
    sizes = {b"fits": 100_000, b"too long": 100_001, b"empty": 0}

    async def answer(question: bytes) -> bytes:
        if question == b"a bug":
            raise RuntimeError("a bug")
        return b"x" * sizes[question]

    await nursery.start(second.run, answer)
    for question, size in sizes.items():
        expected = {} if question == b"too long" else {1: b"x" * size}
        assert await first.ask(question, [1], within=5) == expected
    with trio.fail_after(4):
        assert await first.ask(b"a bug", [1], within=5) == {}
    assert await first.ask(b"fits", [1], within=5) != {}

    # One that dies while it answers, here by being cancelled.
    async with trio.open_nursery() as brief:
        begun = trio.Event()

        async def hang(_: bytes) -> bytes:
            begun.set()
            await trio.sleep_forever()

        await brief.start(third.run, hang)
        async with trio.open_nursery() as asking:
            answers: list[dict[int, bytes]] = []

            async def ask() -> None:
                answers.append(await first.ask(b"x", [2], within=60))

            asking.start_soon(ask)
            await begun.wait()
            brief.cancel_scope.cancel()
            with trio.fail_after(5):
                while not answers:
                    await trio.lowlevel.checkpoint()
        assert answers == [{}]


async def test_who_asks_too_much_gets_no_answer(
    nursery: trio.Nursery, three: list[Neighbours]
) -> None:
    first, second, _ = three
    held = trio.Event()
    asked = 0

    async def answer(question: bytes) -> bytes:
        nonlocal asked
        asked += 1
        await held.wait()
        return question

    await nursery.start(second.run, answer)
    outcomes: list[dict[int, bytes]] = []

    async def ask() -> None:
        outcomes.append(await first.ask(b"x", [1], within=30))

    async with trio.open_nursery() as asking:
        for _ in range(AT_ONCE + 5):
            asking.start_soon(ask)
        with trio.fail_after(5):
            while len(outcomes) < 5 or asked < AT_ONCE:
                await trio.lowlevel.checkpoint()
        assert outcomes == [{}] * 5
        held.set()
    assert asked == AT_ONCE
    assert outcomes[5:] == [{1: b"x"}] * AT_ONCE


async def test_a_full_mailbox_is_no_answer_and_nothing_is_left_open(
    three: list[Neighbours], caplog: pytest.LogCaptureFixture
) -> None:
    first = three[0]
    before = descriptors()
    with trio.fail_after(20):
        while "cannot ask worker 2" not in caplog.text:
            with contextlib.suppress(trio.TooSlowError):
                assert await first.ask(b"x" * MAX_QUESTION, [1], within=0.001) == {}
    assert descriptors() == before
    assert MAX_ANSWER > MAX_QUESTION


async def test_alone_there_is_nobody_to_ask() -> None:
    alone = Neighbours()
    assert alone.others == []
    assert await alone.ask(b"x", alone.others, within=60) == {}
    await alone.run(upper)
