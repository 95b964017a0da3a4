"""Chooses the next backend: round robin, or the first healthy one for failover (spec: routing §8).

There is one `Balancer` per cluster. It is kept while the cluster stays the same from table to
table, so that a reload loses neither the health states nor the round-robin position. No I/O:
`upstream` reports the outcome of its attempts, `health` the results of its checks.

An endpoint becomes unhealthy after two failures in a row. It becomes healthy again after two
successful checks, or as soon as a client's connection to it succeeds. Unhealthy endpoints are still
tried, last: a wrong guess must not keep clients out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trio_gw.config.api import Cluster, Endpoint


class EndpointHealth(NamedTuple):
    """What is known of an endpoint: whether it is healthy and since when (epoch seconds).

    `failures` is the number of failures in a row, `checked` tells whether it is checked regularly.
    """

    origin: str
    healthy: bool
    since: float
    failures: int
    checked: bool


class _EndpointState:
    """The health of one endpoint."""

    __slots__ = ("endpoint", "failures", "healthy", "since", "successes")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.healthy = True
        self.failures = self.successes = 0  # failures, and successful checks, in a row
        self.since = time.time()  # of the last change, in epoch seconds

    def become(self, *, healthy: bool) -> None:
        """Set the health."""
        if healthy is not self.healthy:
            self.healthy, self.since = healthy, time.time()


class Balancer:
    """The endpoints of one cluster."""

    def __init__(self, cluster: Cluster, *, unhealthy_after: int, healthy_after: int) -> None:
        self.cluster = cluster
        self._unhealthy_after = unhealthy_after
        self._healthy_after = healthy_after
        self._states = [_EndpointState(endpoint) for endpoint in cluster.endpoints]
        self._turn = 0

    @property
    def needing_checks(self) -> bool:
        """Whether there are several endpoints, so that health checks are useful."""
        return len(self._states) > 1

    @property
    def any_healthy(self) -> bool:
        """Whether at least one endpoint is healthy."""
        return any(state.healthy for state in self._states)

    def healthy(self, endpoint: Endpoint) -> bool:
        """Whether this endpoint is healthy."""
        return all(state.healthy for state in self._states if state.endpoint == endpoint)

    def health(self) -> Iterator[EndpointHealth]:
        """Describe every endpoint."""
        for one in self._states:
            checked = self.needing_checks
            yield EndpointHealth(one.endpoint.origin, one.healthy, one.since, one.failures, checked)

    def order(self) -> list[Endpoint]:
        """List all endpoints in the order in which one handshake tries them."""
        states = self._states
        if len(states) == 1:
            return [states[0].endpoint]
        if not self.cluster.failover:
            first = self._turn % len(states)
            self._turn += 1
            states = states[first:] + states[:first]
        return [state.endpoint for state in sorted(states, key=lambda state: not state.healthy)]

    def connected(self, endpoint: Endpoint) -> None:
        """Note that a client's connection to this endpoint has succeeded."""
        for state in self._states:
            if state.endpoint == endpoint:
                state.failures = 0
                state.become(healthy=True)

    def failed(self, endpoint: Endpoint) -> None:
        """Note that a connection or a check has failed."""
        for state in self._of(endpoint):
            state.successes = 0
            state.failures += 1
            if state.failures >= self._unhealthy_after:
                state.become(healthy=False)

    def checked(self, endpoint: Endpoint) -> None:
        """Note that a check has succeeded."""
        for state in self._of(endpoint):
            state.failures = 0
            state.successes += 1
            if state.successes >= self._healthy_after:
                state.become(healthy=True)

    def _of(self, endpoint: Endpoint) -> Iterator[_EndpointState]:
        return (state for state in self._states if state.endpoint == endpoint)


class Balancers:
    """The balancers of all clusters that have been used."""

    def __init__(self, *, unhealthy_after: int = 2, healthy_after: int = 2) -> None:
        self._unhealthy_after = unhealthy_after
        self._healthy_after = healthy_after
        self._all: dict[Cluster, Balancer] = {}

    def of(self, cluster: Cluster) -> Balancer:
        """Return the balancer of a cluster; it is created at its first use."""
        balancer = self._all.get(cluster)
        if balancer is None:
            balancer = self._all[cluster] = Balancer(
                cluster,
                unhealthy_after=self._unhealthy_after,
                healthy_after=self._healthy_after,
            )
        return balancer

    def keep(self, clusters: Iterable[Cluster]) -> None:
        """Remove the balancers of all other clusters."""
        wanted = set(clusters)
        self._all = {cluster: known for cluster, known in self._all.items() if cluster in wanted}

    def health(self) -> Iterator[tuple[str, bool]]:
        """List every used backend, without path and query, and whether it is healthy."""
        for balancer in self._all.values():
            for endpoint in balancer.cluster.endpoints:
                yield endpoint.origin, balancer.healthy(endpoint)

    def details(self) -> Iterator[tuple[Cluster, EndpointHealth]]:
        """List every endpoint of every used cluster."""
        for cluster, balancer in self._all.items():
            for one in balancer.health():
                yield cluster, one

    def needing_checks(self) -> list[Balancer]:
        """List the balancers that need health checks."""
        return [balancer for balancer in self._all.values() if balancer.needing_checks]
