"""Sessions: how they are listed and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from trio_gw.config.settings import Timeouts
from trio_gw.errors import CloseCode, Phase
from trio_gw.proxy.sessions import Session, Sessions
from trio_gw.relay.lane import Lane

if TYPE_CHECKING:
    from trio.testing import MockClock

PING = b"\x89\x80\x00\x00\x00\x00"


def relayed(session: Session) -> tuple[Lane, Lane]:
    """Give a session its lanes."""
    publish, subscribe = Lane(masked=True), Lane(masked=False)
    session.relay(publish, subscribe)
    return publish, subscribe


async def test_open_registers_for_as_long_as_it_lasts() -> None:
    sessions = Sessions(Timeouts())
    with sessions.open("::1") as session:
        assert list(sessions) == [session]
        assert session.phase is Phase.HEAD
    assert len(sessions) == 0
    with pytest.raises(ValueError, match="boom"), sessions.open("::1"):
        raise ValueError("boom")
    assert len(sessions) == 0


async def test_an_end_before_the_relay_comes_with_it(mock_clock: MockClock) -> None:
    with Sessions(Timeouts()).open("::1") as session:
        session.end(CloseCode.POLICY, "token revoked")
        session.end(CloseCode.RESTART, "gateway is shutting down")
        publish, subscribe = relayed(session)
        assert publish.ending == subscribe.ending == (CloseCode.POLICY, "token revoked")


async def test_drain_spreads_and_waits_for_the_last(autojump_clock: MockClock) -> None:
    sessions = Sessions(Timeouts(drain=5))
    ended: list[float] = []
    start = trio.current_time()

    async def one(task_status: trio.TaskStatus[None]) -> None:
        with sessions.open("::1") as session:
            publish, _ = relayed(session)
            gone = trio.Event()
            publish.wake = gone.set
            task_status.started()
            await gone.wait()
            ended.append(trio.current_time() - start)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            await nursery.start(one)
        await sessions.drain()
        assert trio.current_time() - start == pytest.approx(6, abs=0.2)
    assert len(ended) == 2000
    # Even over the window: a tenth of them in each tenth of it.
    for tenth in range(10):
        share = [at for at in ended if tenth * 0.5 <= at < (tenth + 1) * 0.5]
        assert 150 <= len(share) <= 250


async def test_drain_of_nobody_is_immediate(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    await Sessions(Timeouts(drain=100)).drain()
    assert trio.current_time() == before
