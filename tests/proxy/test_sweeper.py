"""What ends connections: idle timeout, age, expiry, revocation, deny conditions, removed APIs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio
import trio.testing

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.config.conditions import condition
from trio_gw.config.settings import Environment, Timeouts
from trio_gw.errors import CloseCode, Ending, Side
from trio_gw.guard.blocklist import Blocklist
from trio_gw.guard.caller import Caller, anonymous
from trio_gw.guard.denials import Denials
from trio_gw.guard.revocations import Revocations, Revoked
from trio_gw.proxy.sessions import RequestInfo, Session, Sessions
from trio_gw.proxy.sweeper import SKEW, Sweeper, expires_at
from trio_gw.relay.lane import Lane
from trio_gw.routing.compiler import compile_table
from trio_gw.routing.live import Live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

PING = b"\x89\x80\x00\x00\x00\x00"
WALL = 1_800_000_000.0


def wall() -> float:
    """Epoch seconds that follow the virtual clock."""
    return WALL + trio.current_time()


def sweeper(sessions: Sessions, *, expiry: bool = True, **timeouts: float) -> Sweeper:
    return Sweeper(sessions, Timeouts(**timeouts), expiry=expiry, clock=wall)


def relayed(session: Session, *, expires: float | None = None, token: str = "") -> Lane:
    """Give a session lanes and a caller; returns the lane whose `ending` shows its fate."""
    publish, subscribe = Lane(masked=True), Lane(masked=False)
    session.relay(publish, subscribe)
    at = None if expires is None else wall() + expires
    session.caller = Caller("alice", token_id=token, consumer_key="key", expires_at=at)
    session.admitted_at = wall()
    return publish


@contextlib.contextmanager
def opened(sessions: Sessions, count: int) -> Iterator[list[Session]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(sessions.open("::1")) for _ in range(count)]


async def ended_at(lane: Lane) -> float:
    """Wait for a lane's end; returns the virtual time, in seconds."""
    event = trio.Event()
    lane.wake = event.set
    if lane.ending is None:
        await event.wait()
    return trio.current_time()


async def test_idle_counts_from_the_last_byte_in_either_direction(
    autojump_clock: MockClock,
) -> None:
    sessions = Sessions(Timeouts())
    looking = sweeper(sessions, idle=10)
    with sessions.open("::1") as session:
        publish, subscribe = Lane(masked=True), Lane(masked=False)
        session.relay(publish, subscribe)
        start = trio.current_time()
        await looking.sweep(start + 9)
        publish.feed(PING)
        await looking.sweep(start + 10)
        subscribe.feed(b"\x81\x01x")
        await looking.sweep(start + 18)
        await looking.sweep(start + 27.9)
        assert publish.ending is None
        await looking.sweep(start + 28)
        assert publish.ending == subscribe.ending == (CloseCode.GOING_AWAY, "idle for 10 s")


async def test_lifetime_counts_from_the_start(autojump_clock: MockClock) -> None:
    sessions = Sessions(Timeouts())
    looking = sweeper(sessions, idle=10, lifetime=30)
    with sessions.open("::1") as session:
        publish = relayed(session)
        start = trio.current_time()
        for second in range(30):
            publish.feed(PING)
            await looking.sweep(start + second)
        assert publish.ending is None
        await looking.sweep(start + 30)
        assert publish.ending == (CloseCode.GOING_AWAY, "open for 30 s")


async def test_a_handshake_is_not_swept(autojump_clock: MockClock) -> None:
    sessions = Sessions(Timeouts())
    with sessions.open("::1") as session:
        await sweeper(sessions, idle=1, lifetime=1).sweep(trio.current_time() + 100)
        assert session.end_requested is None


async def test_it_runs_until_cancelled(autojump_clock: MockClock) -> None:
    sessions = Sessions(Timeouts())
    with sessions.open("::1") as session:
        publish = relayed(session)
        with trio.move_on_after(6.5) as scope:
            await sweeper(sessions, idle=5).run()
        assert scope.cancelled_caught
        assert publish.ending is not None


async def test_a_token_ends_its_connection_when_it_expires(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sessions = Sessions(Timeouts())
    with opened(sessions, 3) as (soon, later, never):
        lanes = relayed(soon, expires=10.3), relayed(later, expires=10.9), relayed(never)
        nursery.start_soon(sweeper(sessions).run)
        start = trio.current_time()
        assert 10.29 <= await ended_at(lanes[0]) - start < 10.35
        assert lanes[0].ending == (CloseCode.POLICY, "token expired")
        assert lanes[1].ending is None
        assert 10.89 <= await ended_at(lanes[1]) - start < 10.95
        assert lanes[2].ending is None
    nursery.cancel_scope.cancel()


async def test_expiry_can_be_ignored(autojump_clock: MockClock) -> None:
    sessions = Sessions(Timeouts())
    with sessions.open("::1") as session:
        publish = relayed(session, expires=1)
        with trio.move_on_after(20):
            await sweeper(sessions, expiry=False).run()
        assert publish.ending is None


async def test_a_token_accepted_within_the_skew_keeps_it(mock_clock: MockClock) -> None:
    session = Session("::1")
    session.caller = Caller("alice", expires_at=WALL)
    session.admitted_at = WALL - 1
    assert expires_at(session) == WALL
    session.admitted_at = WALL + 1
    assert expires_at(session) == WALL + SKEW
    session.caller = anonymous("::1")
    assert expires_at(session) == float("inf")


async def test_thousands_that_expire_together_are_spread(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sessions = Sessions(Timeouts(drain=5))
    with opened(sessions, 1500) as all_of_them:
        lanes = [relayed(session, expires=7.5) for session in all_of_them]
        times: list[float] = []
        start = trio.current_time()
        for lane in lanes:
            lane.wake = lambda: times.append(trio.current_time() - start)
        nursery.start_soon(sweeper(sessions).run)
        with trio.move_on_after(60):  # virtual seconds
            await trio.sleep_forever()
        assert len(times) == len(lanes)
        assert 7.49 <= min(times) < 7.6
        assert 12 < max(times) < 13
        in_one_moment = max(sum(at <= one < at + 0.1 for one in times) for at in times[::50])
        assert in_one_moment < 100
    nursery.cancel_scope.cancel()


async def test_a_clock_that_jumps_back_ends_nothing_early(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sessions = Sessions(Timeouts())
    offset = 0.0
    looking = Sweeper(sessions, Timeouts(), expiry=True, clock=lambda: wall() + offset)
    with sessions.open("::1") as session:
        publish = relayed(session, expires=5)
        nursery.start_soon(looking.run)
        await trio.sleep(4.5)  # virtual time: the sweeper waits for the moment already
        offset = -3600.0
        with trio.move_on_after(60):
            await ended_at(publish)
        assert session.end_requested is None
        offset = 0.0
        await ended_at(publish)
        assert publish.ending == (CloseCode.POLICY, "token expired")
    nursery.cancel_scope.cancel()


async def test_revocation_ends_what_it_covers_within_a_second(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sessions, revocations = Sessions(Timeouts()), Revocations()
    with opened(sessions, 1002) as (bystander, dialing, *many):
        other = relayed(bystander, token="other")
        dialing.caller = Caller("alice", token_id="bad")
        lanes = [relayed(session, token="bad") for session in many]
        nursery.start_soon(sweeper(sessions).revoke, revocations)
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        revocations.publish("file", Revoked(tokens=frozenset({"bad"})))
        for lane in lanes:
            assert await ended_at(lane) - start <= 1.0
            assert lane.ending == (CloseCode.POLICY, "token revoked")
        assert other.ending is None
        assert dialing.end_requested == (CloseCode.POLICY, "token revoked")
        revocations.publish("plane", Revoked(subjects=frozenset({"alice"})))
        assert await ended_at(other) - start <= 2.0
    nursery.cancel_scope.cancel()


async def test_deny_conditions_end_what_they_concern_within_a_second(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    table, _ = compile_table([project("/x")], (Environment(),))
    route = next(table.rows())[2]
    sessions, blocklist = Sessions(Timeouts()), Blocklist()
    with opened(sessions, 1005) as (bystander, early, refused, ending, *many):
        for session in (bystander, refused, ending, *many):
            session.route, session.info = route, RequestInfo(address="192.0.2.1")
        other = relayed(bystander, token="other")
        bystander.info = RequestInfo(address="198.51.100.1")
        refused.ending = Ending(Side.CLIENT, 0, "told already")
        ending.end(CloseCode.GOING_AWAY, "for another reason")
        lanes = [relayed(session, token="any") for session in many]
        nursery.start_soon(sweeper(sessions).block, blocklist)
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        blocklist.publish("file", Denials([condition("address", "192.0.2.0/24")]))
        for lane in lanes:
            assert await ended_at(lane) - start <= 1.0
            assert lane.ending == (CloseCode.POLICY, "address is blocked")
        assert {session.denied for session in many} == {"address"}
        assert other.ending is None
        assert (early.end_requested, refused.end_requested) == (None, None)
        assert ending.end_requested == (CloseCode.GOING_AWAY, "for another reason")
        assert ending.denied == ""
        blocklist.publish("plane", Denials([condition("api", "/a/1")]))
        assert await ended_at(other) - start <= 2.0
        assert bystander.denied == "api"
    nursery.cancel_scope.cancel()


def project(*topics: str) -> ApiProject:
    return ApiProject(
        folder="apis/1",
        id="1",
        name="A",
        version="1",
        context="/a",
        topics=tuple(Topic(name) for name in topics),
        production=Cluster((Endpoint("ws", "h", 80),)),
    )


async def test_eviction_ends_what_a_new_table_does_not_have(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    environments = (Environment(),)
    table, _ = compile_table([project("/x", "/y")], environments)
    live, sessions = Live(table), Sessions(Timeouts())
    with opened(sessions, 2) as (on_x, on_y):
        x, y = relayed(on_x), relayed(on_y)
        for session, path in ((on_x, "/a/1/x"), (on_y, "/a/1/y")):
            match = live.table.match("localhost", path)
            assert match is not None
            session.route = match.route
        nursery.start_soon(sweeper(sessions).evict, live)
        await trio.testing.wait_all_tasks_blocked()
        live.swap(compile_table([project("/x", "/z")], environments)[0])
        await ended_at(y)
        assert y.ending == (CloseCode.GOING_AWAY, "API was undeployed")
        assert x.ending is None
        live.swap(compile_table([], environments)[0])
        await ended_at(x)
    nursery.cancel_scope.cancel()


# --- thousands at once ------------------------------------------------------------------------


async def ends_of(sessions: Sessions, lanes: list[Lane]) -> list[int]:
    """Count the lanes that end between two turns of another task, until all have ended."""
    ends: list[int] = []
    before = 0
    while before < len(lanes):
        await trio.sleep(0.01)
        now = sum(lane.ending is not None for lane in lanes)
        ends.append(now - before)
        before = now
    return ends


async def test_thousands_that_are_idle_do_not_end_at_once(autojump_clock: MockClock) -> None:
    sessions = Sessions(Timeouts())
    with opened(sessions, 1500) as some:
        lanes = [relayed(session) for session in some]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweeper(sessions, idle=10).run)
            began = trio.current_time()
            ends = await ends_of(sessions, lanes)
            assert max(ends) < 100
            assert trio.current_time() - began < 13
            nursery.cancel_scope.cancel()


async def test_tokens_that_expire_one_by_one_cost_one_look_each(autojump_clock: MockClock) -> None:
    """Each at a moment of its own; each of the others was looked at for each of them."""
    looks = 0

    def counted() -> float:
        nonlocal looks
        looks += 1
        return wall()

    sessions = Sessions(Timeouts())
    count = 1000
    with opened(sessions, count) as some:
        lanes = [relayed(each, expires=1.1 + place / 1500) for place, each in enumerate(some)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Sweeper(sessions, Timeouts(), expiry=True, clock=counted).run)
            await ends_of(sessions, lanes)
            nursery.cancel_scope.cancel()
    assert looks < 3 * count
