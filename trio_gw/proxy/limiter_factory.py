"""The admit phase: creates what limits a connection, from its route and its caller.

Called by `connection`. Keys and order are those of the reference system: API, topic, subscription,
application; the first limit that is reached decides (spec: frames §4). For topics without
credentials the client's address replaces the last two levels.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config import tiers
from trio_gw.config.addresses import host_of
from trio_gw.config.conditions import user_name
from trio_gw.config.entitlements import NOTHING
from trio_gw.errors import Side
from trio_gw.guard.caps import PLACES, Caps, ConnectionCap, FullError, HeldConnection
from trio_gw.guard.rate_limits import Level, RateLimits
from trio_gw.guard.window_blocks import width
from trio_gw.proxy import refusals
from trio_gw.relay.rate_limit import RateLimit
from trio_gw.supervision.shared_memory import Counters
from trio_gw.wire.http import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trio_gw.config.entitlements import Entitlements, PolicyLevel, PolicyRow
    from trio_gw.config.settings import Settings
    from trio_gw.config.tiers import Tier
    from trio_gw.guard.caller import Caller
    from trio_gw.guard.counter import WindowCounter
    from trio_gw.guard.rate_limits import FullLimit, SessionLimiters
    from trio_gw.routing.route import Route

log = logging.getLogger("trio_gw.limits")

MAX_NAMES = 100  # unknown tiers to warn about
LEVELS = ("API", "topic", "subscription", "application")
_LEVELS = {"api": "API", "subscription": "subscription", "application": "application"}
MAX_FREE = 1000  # remembered sets of tiers that limit nothing


class SharedCounters(NamedTuple):
    """Counters that all processes share: messages in time windows, and open connections."""

    used: Counters
    held: Counters

    def mark_dead(self, index: int) -> None:
        """Release the connections of a process that has ended. Its messages still count."""
        self.held.clear(index)


def make_shared_counters(settings: Settings, processes: int) -> SharedCounters:
    """Create the counters for this number of processes, before the fork."""
    policies = bool(settings.control_plane.url)
    used = width(tiers.known(settings.tiers), policies=policies)
    return SharedCounters(Counters(processes, used), Counters(processes, PLACES))


class LimiterFactory:
    """Creates the limiters of the connections of one process, the one with this `index`.

    `entitlements` returns those of the control plane: its policies go before the tiers of the
    settings. With the Traffic Manager they limit nothing here, because it counts by them.
    """

    def __init__(
        self,
        settings: Settings,
        shared: SharedCounters | None = None,
        index: int = 0,
        entitlements: Callable[[], Entitlements] | None = None,
    ) -> None:
        used, held = shared or make_shared_counters(settings, 1)
        self._tiers = tiers.known(settings.tiers)
        self._entitlements = entitlements
        self._policies: Mapping[tuple[PolicyLevel, int], PolicyRow] = NOTHING.policies
        self._counted_elsewhere = settings.control_plane.throttling.enabled
        policies = bool(settings.control_plane.url)
        self._limits = RateLimits(self._tiers, _log_throttled, used, index, policies=policies)
        self._settings = settings.limits
        self._most = tiers.size(settings.limits.max_message)
        self.caps = Caps(held, index)
        lengths = settings.limits.head, settings.limits.target
        self.bounds = Bounds(*map(tiers.size, lengths))
        self._unknown: set[str] = set()
        self._free: set[tuple[str, ...]] = set()  # sets of tiers that limit nothing
        caps = settings.limits
        self._capped = bool(
            caps.connections
            or caps.connections_per_api
            or caps.connections_per_address
            or caps.connections_per_application
        )

    def limiters(
        self, route: Route, caller: Caller, address: str, *, suspendable: bool = False
    ) -> SessionLimiters | None:
        """Create the limiters of a connection; None if nothing limits its messages.

        With `suspendable` decisions of the Traffic Manager may do so later.
        """
        self.follow_policies()
        subscription, application = caller.subscription, caller.application
        named = route.api.tier, route.topic.tier, subscription.tier, application.tier
        if named in self._free and not suspendable:
            return None
        levels = self._levels(route, caller, address)
        limiters = self._limits.limiters(levels, time.time(), suspendable=suspendable)
        if not any(map(self._limiting, LEVELS, named)):
            if len(self._free) >= MAX_FREE:
                self._free.clear()
            self._free.add(named)
        return limiters

    def tier(self, name: str) -> Tier:
        """Return the tier with this name; an unknown one limits nothing, and messages are dropped
        where somebody else decides.
        """
        return self._tiers.get(name) or tiers.Tier(name)

    @property
    def shared_keys(self) -> int:
        """How many keys had to share their count since the start."""
        return self._limits.shared

    def full(self) -> list[FullLimit]:
        """Return the limits on messages that are reached now, as this process knows."""
        return self._limits.full(time.time())

    def full_caps(self) -> list[tuple[ConnectionCap, int]]:
        """Return the caps on connections that are reached, with the number of connections."""
        limits = self._settings
        most = {
            "gateway": limits.connections,
            "API": limits.connections_per_api,
            "address": limits.connections_per_address,
            "application": limits.connections_per_application,
        }
        return [
            (ConnectionCap(name, key, cap), count)
            for name, cap in most.items()
            if cap
            for key, count in self.caps.counted(name).items()
            if count >= cap
        ]

    def rate_limits(self, limiters: SessionLimiters | None) -> dict[Side, RateLimit]:
        """Create the rate limit of each direction; empty if nothing is limited."""
        if limiters is None:
            return {}
        sides = ((Side.CLIENT, limiters.publish), (Side.BACKEND, limiters.subscribe))
        return {
            side: RateLimit(limiter, time.time, masked=side is Side.CLIENT)
            for side, limiter in sides
            if limiter or limiters.suspendable
        }

    def most(self, route: Route) -> int:
        """Return the maximum size of a message in bytes; 0 if there is none, and in message
        mode.
        """
        if route.topic.inspection is not None:
            return 0
        return self._most if route.topic.max_message is None else route.topic.max_message

    def take_caps(self, route: Route, caller: Caller, address: str) -> tuple[HeldConnection, ...]:
        """Count a new connection against the caps. Returns what to pass to `release_caps` at its
        end.

        Raises `Refusal` if a cap is reached.
        """
        if not self._capped:
            return ()
        limits, api = self._settings, route.api
        application = caller.application.uuid or caller.application.name
        caps = [
            ConnectionCap("gateway", "", limits.connections),
            ConnectionCap("API", f"{api.base_path}:{api.version}", limits.connections_per_api),
            ConnectionCap("address", host_of(address), limits.connections_per_address),
        ]
        if not caller.anonymous:
            caps.append(
                ConnectionCap("application", application, limits.connections_per_application)
            )
        try:
            return self.caps.take([cap for cap in caps if cap.most])
        except FullError as full:
            raise refusals.full(full.cap) from None

    def release_caps(self, taken: tuple[HeldConnection, ...]) -> None:
        """Uncount a connection."""
        self.caps.leave(taken)

    def _levels(self, route: Route, caller: Caller, address: str) -> Iterator[Level]:
        api, topic, application = route.api, route.topic, caller.application
        base = f"{api.base_path}:{api.version}"
        yield Level("API", self._known("API", api.tier), base)
        yield Level("topic", self._known("topic", topic.tier), f"{base}:{topic.name}")
        subscription = caller.subscription
        if caller.anonymous:
            yield Level(
                "address", self._known("address", subscription.tier), f"{base}:{host_of(address)}"
            )
            return
        if subscription.stop_on_quota:
            name = self._known("subscription", subscription.tier)
            yield Level("subscription", name, f"{application.id}:{base}")
        user = user_name(caller.subject, subscription.tenant)
        yield Level(
            "application", self._known("application", application.tier), f"{application.id}:{user}"
        )

    def follow_policies(self) -> None:
        """Count by the current policies of the control plane; cheap if none has changed."""
        if self._entitlements is None or self._entitlements().policies is self._policies:
            return
        current = self._entitlements()
        self._policies = current.policies
        rows = [
            current.policies[level, ids[-1]] for (level, _), ids in current.policies_by_name.items()
        ]
        found = [(row.level, self._tier_of(row)) for row in rows]
        self._limits.use((_LEVELS[level], tier) for level, tier in found if tier is not None)
        self._free.clear()
        self._unknown.clear()

    def _tier_of(self, row: PolicyRow) -> Tier | None:
        if self._counted_elsewhere:
            return tiers.Tier(row.name)
        return tiers.of_policy(row, self._tiers.get(row.name))

    def _limiting(self, level: str, name: str) -> bool:
        tier = self._limits.tier(level, name)
        return tier is not None and tier.limits

    def _known(self, level: str, name: str) -> str:
        """Return the name of a tier; warn once about a tier that is not defined."""
        new = name and name not in self._unknown and self._limits.tier(level, name) is None
        if new and len(self._unknown) < MAX_NAMES:
            self._unknown.add(name)
            hint = "define it under [tiers] in gateway.toml"
            log.warning("the tier %r is not defined, so it limits nothing; %s", name, hint)
        return name


def _log_throttled(counter: WindowCounter) -> None:
    tier: Tier = counter.tier
    log.info("%s: %s, so %s until the window ends", counter.reason, tier, _ACTION[tier.on_exceed])


_ACTION = {
    "drop": "messages are dropped",
    "close": "connections are closed",
    "pause": "messages wait",
}
