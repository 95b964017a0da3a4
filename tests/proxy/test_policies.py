"""Connections are limited by the policies of the control plane, else by tiers of the settings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from support.logged import logged
from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.config.control_plane import ControlPlaneSettings, ThrottlingSettings
from trio_gw.config.entitlements import NOTHING, Change, Entitlements, PolicyRow
from trio_gw.config.settings import Environment, Settings
from trio_gw.config.tiers import TierTable
from trio_gw.guard.caller import Application, Caller, Subscription
from trio_gw.proxy.limiter_factory import LimiterFactory
from trio_gw.routing.compiler import compile_table

if TYPE_CHECKING:
    from trio_gw.guard.rate_limits import SessionLimiters

GOLD = PolicyRow("subscription", 1, "Gold", "eventCount", 5, 30 * 86400)
BIG = PolicyRow("application", 2, "Big", "bandwidthVolume", 100, 86400)
API = ApiProject(
    "f", "id", "Chat", "1", "/chat", (Topic("/x"),), Cluster((Endpoint("ws", "h", 80),)), tier="Api"
)
ROUTE = next(compile_table([API], (Environment(),))[0].rows())[2]
CALLER = Caller(
    "alice", application=Application("App", "7", "app", "Big"), subscription=Subscription("Gold")
)


class World:
    """The limiters of a process with a control plane."""

    def __init__(self, **throttling: Any) -> None:
        settings = Settings(
            tiers={"Bronze": TierTable(events=2, per="30d")},
            control_plane=ControlPlaneSettings(
                url="https://am.example/", throttling=ThrottlingSettings(**throttling)
            ),
        )
        self.current: Entitlements = NOTHING
        self.factory = LimiterFactory(settings, entitlements=lambda: self.current)

    def change(self, *put: PolicyRow, removed: tuple[PolicyRow, ...] = ()) -> None:
        self.current = self.current.apply(Change(put, removed))

    def session(self, caller: Caller = CALLER) -> SessionLimiters | None:
        return self.factory.limiters(ROUTE, caller, "192.0.2.1")


def passing(session: SessionLimiters | None, octets: int = 1) -> int:
    if session is None:
        return 200
    return sum(session.publish.take(octets, time.time()) is None for _ in range(200))


def test_policies_come_change_and_go() -> None:
    world = World()
    with logged("trio_gw.limits") as log:
        assert world.session() is None
    assert "'Gold' is not defined" in "".join(log.texts())
    world.change(GOLD)
    session = world.session()
    assert passing(session) == 5
    world.change(BIG, PolicyRow("subscription", 1, "Gold", "eventCount", 8, 30 * 86400))
    assert passing(session) == 0, "nothing has looked for new policies yet"
    world.factory.follow_policies()
    assert passing(session) == 3
    world.change(removed=(GOLD,))
    assert passing(world.session(), octets=50) == 2, "only the application's is left"
    world.change(removed=(BIG,))
    assert world.session() is None


def test_the_policy_of_another_level_does_not_count() -> None:
    world = World()
    world.change(PolicyRow("application", 1, "Gold", "eventCount", 5, 60))
    world.change(PolicyRow("api", 1, "Api", "requestCount", 4, 30 * 86400))
    assert passing(world.session()) == 4
    world.change(PolicyRow("subscription", 1, "Gold", "requestCount", 3, 30 * 86400))
    caller = Caller("bob", application=Application(id="8"), subscription=Subscription("Gold"))
    assert passing(world.session(caller)) == 0, "the API's is used up"


def test_a_policy_without_a_limit_is_a_tier_of_the_settings() -> None:
    world = World()
    caller = Caller("alice", subscription=Subscription("Bronze"))
    world.change(PolicyRow("subscription", 1, "Bronze"))
    session = world.session(caller)
    assert passing(session) == 2
    world.change(PolicyRow("subscription", 1, "Bronze", stop_on_quota=False))
    world.factory.follow_policies()
    assert passing(session) == 200
    assert world.session(caller) is None


def test_the_traffic_manager_counts_by_policies_if_it_is_enabled() -> None:
    world = World(enabled=True)
    world.change(GOLD, BIG, PolicyRow("subscription", 1, "Gold", "eventCount", 5, 60))
    assert passing(world.session()) == 200
    caller = Caller("alice", subscription=Subscription("Bronze"))
    assert passing(world.session(caller)) == 2, "no policy of API Manager"
