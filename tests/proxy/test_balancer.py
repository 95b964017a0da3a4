"""The order in which endpoints are tried, and their health."""

from __future__ import annotations

from trio_gw.config.api import Cluster, Endpoint
from trio_gw.proxy.balancer import Balancer, Balancers

A, B, C = (Endpoint("ws", name, 1) for name in "abc")


def balancer(*endpoints: Endpoint, failover: bool = False) -> Balancer:
    return Balancer(Cluster(endpoints, failover=failover), unhealthy_after=2, healthy_after=2)


def test_round_robin() -> None:
    turns = balancer(A, B, C)
    assert [turns.order() for _ in range(4)] == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]


def test_failover_prefers_the_first() -> None:
    first = balancer(A, B, C, failover=True)
    assert [first.order() for _ in range(3)] == [[A, B, C]] * 3


def test_one_endpoint_is_no_choice() -> None:
    alone = balancer(A)
    assert not alone.needing_checks
    for _ in range(5):
        alone.failed(A)
    assert alone.order() == [A]


def test_ill_after_two_failures_in_a_row_and_then_last() -> None:
    first = balancer(A, B, failover=True)
    first.failed(A)
    assert first.order() == [A, B]
    first.connected(A)
    first.failed(A)
    assert first.order() == [A, B], "a success between makes it one failure"
    first.failed(A)
    assert first.order() == [B, A]
    assert not first.healthy(A)
    assert first.any_healthy


def test_well_again_after_two_good_checks_or_one_connection() -> None:
    first = balancer(A, B, failover=True)
    for _ in range(2):
        first.failed(A)
    first.checked(A)
    first.failed(A)
    first.checked(A)
    assert not first.healthy(A), "a failure between makes it one good check"
    first.checked(A)
    assert first.order() == [A, B]
    for _ in range(2):
        first.failed(A)
    first.connected(A)
    assert first.order() == [A, B]


def test_unhealthy_endpoints_are_tried_last() -> None:
    turns = balancer(A, B, C)
    for _ in range(2):
        turns.failed(B)
    assert [turns.order() for _ in range(3)] == [[A, C, B], [C, A, B], [C, A, B]]
    for endpoint in (A, C):
        for _ in range(2):
            turns.failed(endpoint)
    assert not turns.any_healthy
    assert sorted(turns.order(), key=str) == [A, B, C]


def test_an_endpoint_named_twice_has_two_turns_and_one_health() -> None:
    turns = balancer(A, A, B)
    for _ in range(2):
        turns.failed(A)
    assert turns.order()[0] == B


def test_state_is_kept_while_the_cluster_stays_the_same() -> None:
    all_of_them = Balancers()
    cluster = Cluster((A, B))
    known = all_of_them.of(cluster)
    assert all_of_them.of(Cluster((A, B))) is known
    assert all_of_them.of(Cluster((A, B), failover=True)) is not known
    assert all_of_them.of(Cluster((A,))) not in all_of_them.needing_checks()
    assert known in all_of_them.needing_checks()
    all_of_them.keep([Cluster((A, B))])
    assert all_of_them.of(cluster) is known
    all_of_them.keep([])
    assert all_of_them.of(cluster) is not known
