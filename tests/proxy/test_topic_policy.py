"""Topic policies are cached, and dropped with the route table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.config.settings import Environment, Settings
from trio_gw.proxy.topic_policy import TopicPolicies
from trio_gw.routing.compiler import compile_table
from trio_gw.routing.live import Live

if TYPE_CHECKING:
    from trio_gw.proxy.topic_policy import TopicPolicy
    from trio_gw.routing.route import Route
    from trio_gw.routing.table import RouteTable

PROJECT = ApiProject(
    folder="rooms",
    id="rooms:1.0.0",
    name="rooms",
    version="1.0.0",
    context="/rooms",
    topics=(Topic("/open", secured=False), Topic("/staff", scopes=("staff",))),
    production=Cluster((Endpoint("ws", "backend", 2360, ""),)),
)


def compiled(project: ApiProject, previous: RouteTable | None = None) -> RouteTable:
    table, problems = compile_table(
        (project,), (Environment("Default", "localhost"),), previous=previous
    )
    assert problems == ()
    return table


def route(live: Live, topic: str) -> Route:
    match = live.table.match("localhost", f"/rooms/1.0.0{topic}")
    assert match is not None
    return match.route


def test_each_topic_has_its_own_and_keeps_it() -> None:
    live = Live(compiled(PROJECT))
    policies = TopicPolicies(Settings(), live)
    staff, anyone = (
        policies.of(route(live, "/staff")),
        policies.of(route(live, "/open")),
    )
    assert (staff.secured, staff.demand.scopes) == (True, ("staff",))
    assert staff.drop == {b"authorization", b"internal-key", b"apikey"}
    assert (anyone.secured, anyone.drop) == (False, frozenset())
    assert policies.of(route(live, "/staff")) is staff


def test_a_new_table_asks_what_it_says() -> None:
    live = Live(compiled(PROJECT))
    policies = TopicPolicies(Settings(), live)
    old = route(live, "/open")

    def both() -> tuple[TopicPolicy, TopicPolicy]:
        return policies.of(old), policies.of(route(live, "/open"))

    assert [policy.secured for policy in both()] == [False, False]
    closed = tuple(msgspec.structs.replace(topic, secured=True) for topic in PROJECT.topics)
    project = msgspec.structs.replace(PROJECT, topics=closed)
    live.swap(compiled(project, live.table))
    # Who found the route before goes on with it; who comes now does not get in.
    assert [policy.secured for policy in both()] == [False, True]


def test_credentials_are_passed_on_if_the_settings_say_so() -> None:
    live = Live(compiled(PROJECT))
    assert (
        TopicPolicies(Settings(forward_credentials=True), live).of(route(live, "/staff")).drop
        == set()
    )
