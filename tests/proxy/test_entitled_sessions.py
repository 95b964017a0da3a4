"""Open connections that lose what the control plane gave them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from msgspec import structs

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.config.entitlements import (
    NOTHING,
    ApiRow,
    ApplicationRow,
    Change,
    KeyMappingRow,
    PolicyRow,
    Row,
    SubscriptionRow,
    difference,
    of_rows,
)
from trio_gw.config.settings import Environment, Timeouts
from trio_gw.errors import CloseCode
from trio_gw.guard.caller import Application, Caller, anonymous
from trio_gw.guard.entitlement import Grant, find
from trio_gw.proxy import entitled_sessions
from trio_gw.proxy.entitled_sessions import LARGE, EntitledSessions
from trio_gw.proxy.sessions import Session, Sessions
from trio_gw.relay.lane import Lane
from trio_gw.routing.compiler import EMPTY, compile_table
from trio_gw.routing.live import Live

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

API, OTHER_API = ApiRow("api-1", "Chat"), ApiRow("api-2", "Other")
APPLICATIONS = tuple(ApplicationRow(f"app-{n}", str(n), f"App {n}") for n in range(2000))
MAPPINGS = tuple(KeyMappingRow(f"key-{n}", "Resident", f"app-{n}") for n in range(2000))
SUBSCRIPTIONS = tuple(SubscriptionRow(n, "api-1", f"app-{n}", "Gold") for n in range(2000))
START = of_rows((API, OTHER_API, *APPLICATIONS, *MAPPINGS, *SUBSCRIPTIONS))


def route(uuid: str) -> Any:
    project = ApiProject(
        "f", uuid, "Chat", "1", f"/{uuid}", (Topic("/x"),), Cluster((Endpoint("ws", "h", 80),))
    )
    table, _ = compile_table([project], (Environment(),))
    return next(table.rows())[2]


ROUTE, OTHER_ROUTE = route("api-1"), route("api-2")


class World:
    """Sessions of one process, and a control plane."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.live = Live(EMPTY)
        self.live.entitle(START)
        self.sessions = Sessions(Timeouts())
        self.followed = 0
        self.task = EntitledSessions(self.sessions, self.live, self.follow)
        self._stack = stack

    def follow(self) -> None:
        self.followed += 1

    def open(self, caller: Caller, route: Any = ROUTE) -> Session:
        session = self._stack.enter_context(self.sessions.open("::1"))
        session.route, session.caller = route, caller
        session.relay(Lane(masked=True), Lane(masked=False))
        return session

    def entitled(self, number: int) -> Session:
        found = find(START, f"key-{number}", "Resident", "api-1")
        assert isinstance(found, Grant)
        return self.open(
            Caller(
                "alice",
                issuer_name="Resident",
                consumer_key=f"key-{number}",
                application=found.application,
                subscription=found.subscription,
                entitled=True,
            )
        )

    def change(self, *put: Row, removed: tuple[Row, ...] = ()) -> None:
        change = Change(put, removed)
        self.live.entitle(self.live.entitlements.apply(change), change)


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with contextlib.ExitStack() as stack:
        made = World(stack)
        nursery.start_soon(made.task.run)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def settled() -> None:
    """Let a change have its effect; the clock of the tests is virtual."""
    await trio.sleep(1)


LOSSES: list[tuple[tuple[Row, ...], tuple[Row, ...], str]] = [
    ((structs.replace(SUBSCRIPTIONS[1], state="BLOCKED"),), (), "subscription blocked"),
    ((structs.replace(SUBSCRIPTIONS[1], state="PROD_ONLY_BLOCKED"),), (), "subscription blocked"),
    ((structs.replace(SUBSCRIPTIONS[1], state="ON_HOLD"),), (), "subscription not active"),
    ((structs.replace(SUBSCRIPTIONS[1], api_uuid="api-2"),), (), "subscription removed"),
    ((structs.replace(SUBSCRIPTIONS[1], application_uuid="app-9"),), (), "subscription removed"),
    ((), (SubscriptionRow(1),), "subscription removed"),
    ((), (KeyMappingRow("key-1", "Resident"),), "application key removed"),
    ((), (ApplicationRow("app-1"),), "application removed"),
]


@pytest.mark.parametrize(("put", "removed", "reason"), LOSSES, ids=[one[2] for one in LOSSES])
async def test_a_connection_ends_when_it_loses_its_entitlement(
    world: World,
    autojump_clock: MockClock,
    put: tuple[Row, ...],
    removed: tuple[Row, ...],
    reason: str,
) -> None:
    lost, stays = world.entitled(1), world.entitled(2)
    claimed = world.open(Caller("bob", consumer_key="key-1", application=Application(uuid="app-1")))
    world.change(*put, removed=removed)
    await settled()
    assert lost.end_requested == (CloseCode.POLICY, reason)
    assert stays.end_requested is None
    assert claimed.end_requested is None, "its token carries its subscription"


async def test_a_blocked_api_ends_all_its_connections(
    world: World, autojump_clock: MockClock
) -> None:
    inside = [world.entitled(1), world.open(Caller("bob")), world.open(anonymous("192.0.2.1"))]
    outside = world.open(Caller("bob"), OTHER_ROUTE)
    early = world.open(Caller("bob"))
    early.route = None
    world.change(structs.replace(API, status="BLOCKED"))
    await settled()
    assert {session.end_requested for session in inside} == {(CloseCode.POLICY, "API blocked")}
    assert outside.end_requested is early.end_requested is None


async def test_a_removed_api_is_left_to_its_route(world: World, autojump_clock: MockClock) -> None:
    session = world.entitled(1)
    world.change(removed=(API,))
    await settled()
    assert session.end_requested is None


async def test_a_subscription_that_is_moved_by_a_new_row_keeps_its_connection(
    world: World, autojump_clock: MockClock
) -> None:
    session = world.entitled(1)
    world.change(structs.replace(SUBSCRIPTIONS[1], id=9999), removed=(SUBSCRIPTIONS[1],))
    await settled()
    assert session.end_requested is None


async def test_changes_of_others_compare_nothing(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = world.entitled(1)

    def compared(*_: object) -> None:
        raise AssertionError("was compared")

    monkeypatch.setattr(entitled_sessions, "_denial", compared)
    world.change(
        SUBSCRIPTIONS[2],
        MAPPINGS[2],
        APPLICATIONS[2],
        structs.replace(OTHER_API, status="BLOCKED"),
        PolicyRow("subscription", 1, "Gold"),
    )
    await settled()
    assert world.followed == 1
    assert session.end_requested is None


async def test_a_change_of_very_many_rows_compares_all(
    world: World, autojump_clock: MockClock
) -> None:
    session, stays = world.entitled(1), world.entitled(2)
    before = world.live.entitlements
    after = of_rows(row for row in START.rows() if row != SUBSCRIPTIONS[1])
    after = after.apply(Change(tuple(PolicyRow("api", n) for n in range(LARGE + 1))))
    world.live.entitle(after, difference(before, after))
    await settled()
    assert session.end_requested == (CloseCode.POLICY, "subscription removed")
    assert stays.end_requested is None
    world.live.entitle(NOTHING)
    await settled()
    assert stays.end_requested is None, "its API is not known any more"


async def test_all_end_within_a_second_also_during_other_changes(
    world: World, autojump_clock: MockClock
) -> None:
    sessions = [world.entitled(number) for number in range(1000)]
    ended = trio.Event()
    for session in sessions:
        assert session.publish is not None
        session.publish.wake = lambda: (
            ended.set() if all(one.end_requested for one in sessions) else None
        )
    start = trio.current_time()
    for number in range(500):
        world.change(structs.replace(SUBSCRIPTIONS[number], state="BLOCKED"))
        world.change(structs.replace(SUBSCRIPTIONS[999 - number], state="BLOCKED"))
        world.change(structs.replace(SUBSCRIPTIONS[1500], timestamp=number))
        if number % 50 == 0:
            await trio.sleep(0.001)
    await ended.wait()
    assert trio.current_time() - start < 1.0
