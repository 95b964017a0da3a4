"""Which backend next: turn and turn about, or the first that is well (spec: routing §8).

One `Balancer` per cluster, kept while the cluster stays the same from table to table, so that a
reload neither forgets who is ill nor starts the turns anew. No I/O: `upstream` reports how its
attempts went, `health` what its checks found.

An endpoint is ill after two failures in a row and well again after two good checks, or as soon
as a connection to it succeeds. Ill endpoints are still tried, last: a guess that all are down
must not be what keeps a client out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trio_gw.config.api import Cluster, Endpoint


class _EndpointState:
    """What is known of one endpoint."""

    __slots__ = ("bad", "endpoint", "good", "well")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.well = True
        self.bad = self.good = 0  # failures, and good checks, in a row


class Balancer:
    """The endpoints of one cluster."""

    def __init__(self, cluster: Cluster, *, unhealthy_after: int, healthy_after: int) -> None:
        self.cluster = cluster
        self._unhealthy_after = unhealthy_after
        self._healthy_after = healthy_after
        self._states = [_EndpointState(endpoint) for endpoint in cluster.endpoints]
        self._turn = 0

    @property
    def watched(self) -> bool:
        """Tell whether there is a choice, so that it pays to know who is well."""
        return len(self._states) > 1

    @property
    def any_well(self) -> bool:
        """Tell whether at least one endpoint is thought to work."""
        return any(state.well for state in self._states)

    def well(self, endpoint: Endpoint) -> bool:
        """Tell whether this endpoint is thought to work."""
        return all(state.well for state in self._states if state.endpoint == endpoint)

    def order(self) -> list[Endpoint]:
        """List all endpoints in the order in which one handshake shall try them."""
        states = self._states
        if len(states) == 1:
            return [states[0].endpoint]
        if not self.cluster.failover:
            first = self._turn % len(states)
            self._turn += 1
            states = states[first:] + states[:first]
        return [state.endpoint for state in sorted(states, key=lambda state: not state.well)]

    def connected(self, endpoint: Endpoint) -> None:
        """Note that a client's connection to this endpoint succeeded."""
        for state in self._states:
            if state.endpoint == endpoint:
                state.well, state.bad = True, 0

    def failed(self, endpoint: Endpoint) -> None:
        """Note that a connection or a check failed."""
        for state in self._of(endpoint):
            state.good = 0
            state.bad += 1
            if state.bad >= self._unhealthy_after:
                state.well = False

    def checked(self, endpoint: Endpoint) -> None:
        """Note that a check succeeded."""
        for state in self._of(endpoint):
            state.bad = 0
            state.good += 1
            if state.good >= self._healthy_after:
                state.well = True

    def _of(self, endpoint: Endpoint) -> Iterator[_EndpointState]:
        return (state for state in self._states if state.endpoint == endpoint)


class Balancers:
    """The balancers of all clusters that have been used."""

    def __init__(self, *, unhealthy_after: int = 2, healthy_after: int = 2) -> None:
        self._unhealthy_after = unhealthy_after
        self._healthy_after = healthy_after
        self._all: dict[Cluster, Balancer] = {}

    def of(self, cluster: Cluster) -> Balancer:
        """Return the balancer of a cluster, made at its first use."""
        balancer = self._all.get(cluster)
        if balancer is None:
            balancer = self._all[cluster] = Balancer(
                cluster,
                unhealthy_after=self._unhealthy_after,
                healthy_after=self._healthy_after,
            )
        return balancer

    def keep(self, clusters: Iterable[Cluster]) -> None:
        """Forget every cluster but these."""
        wanted = set(clusters)
        self._all = {cluster: known for cluster, known in self._all.items() if cluster in wanted}

    def health(self) -> Iterator[tuple[str, bool]]:
        """List every backend that has been used, without path and query, and whether it is well."""
        for balancer in self._all.values():
            for endpoint in balancer.cluster.endpoints:
                yield endpoint.origin, balancer.well(endpoint)

    def watched(self) -> list[Balancer]:
        """List the balancers whose endpoints are to be checked."""
        return [balancer for balancer in self._all.values() if balancer.watched]
