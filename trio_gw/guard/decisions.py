"""The decisions of the Traffic Manager: what is throttled now, and until when. Pure.

`Decisions` holds those of a process. Keys and order are those of the reference: API, subscription,
application, custom policies. Decisions about an API have a group, `default` or `condition_<n>`,
with conditions (spec: control-plane §8.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard.condition_groups import ConditionGroup, parse_conditions
from trio_gw.guard.patterns import Budget
from trio_gw.limiting import LimitReached

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.config.entitlements import DecisionRow
    from trio_gw.config.tiers import Tier
    from trio_gw.guard.condition_groups import ConditionSettings, HandshakeFacts

UNLIMITED = "Unlimited"
MAX_GROUPS = 64  # conditional decisions about one API; more have no effect
MAX_TEMPLATES = 200  # custom policies that a handshake looks at
MAX_CUSTOM_KEY = 2048  # characters
CHECK_AGAIN = 1.0  # seconds after which a message that waits asks again: decisions are withdrawn

_GROUP = re.compile(r"(/.*):([^:]*)_(default|condition_[0-9]{1,9})", re.DOTALL)
_VARIABLE = re.compile(
    r"\$(resourceKey|userId|apiContext|apiVersion|appTenant|apiTenant|appId|clientIp"
    r"|customProperty\.[A-Za-z0-9_.-]{1,64})"
)


class Decided(NamedTuple):
    """A decision that concerns a connection. `until` in epoch seconds.

    `level` is its level for people, `tier` the tier whose `on_exceed` counts.
    """

    level: str
    tier: Tier
    until: float

    @property
    def reason(self) -> str:
        """Say what was exceeded, for logs and Close frames."""
        return f"{self.level} limit {self.tier.name} exceeded"

    def limit_reached(self, now: float) -> LimitReached:
        """Say until when nothing passes."""
        action = self.tier.on_exceed
        until = min(self.until, now + CHECK_AGAIN) if action == "pause" else self.until
        return LimitReached(until, action, self.reason, lasts=True)


class ThrottleKeys(NamedTuple):
    """The keys of a connection; an empty one is not looked up."""

    api: str
    subscription: str
    application: str


class LevelTiers(NamedTuple):
    """The tiers of the levels of a connection."""

    api: Tier
    subscription: Tier
    application: Tier


def watched_key(key: str) -> str:
    """Return the key that a decision is about: without the group of a decision about an API."""
    found = _GROUP.fullmatch(key)
    return key if found is None else f"{found[1]}:{found[2]}"


class Decisions:
    """The decisions of one process. `chosen` says which conditions count."""

    def __init__(self, chosen: ConditionSettings) -> None:
        self._chosen = chosen
        self._rows: dict[str, DecisionRow] = {}
        # By the key of an API, those with conditions by their groups.
        self._groups: dict[str, dict[str, ConditionGroup]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: DecisionRow) -> None:
        """Add or replace a decision."""
        before = self._rows.get(row.key)
        self._rows[row.key] = row
        if (found := _GROUP.fullmatch(row.key)) is None:
            return
        if before is not None and before.conditions == row.conditions:
            return
        api, group = f"{found[1]}:{found[2]}", found[3]
        self._drop_group(api, group)
        parsed = parse_conditions(row.conditions) if row.conditions else None
        groups = self._groups.get(api, {})
        if parsed is not None and len(groups) < MAX_GROUPS:
            self._groups.setdefault(api, {})[group] = parsed

    def remove(self, key: str) -> None:
        """Remove a decision, if there is one."""
        if self._rows.pop(key, None) is not None and (found := _GROUP.fullmatch(key)) is not None:
            self._drop_group(f"{found[1]}:{found[2]}", found[3])

    def _drop_group(self, api: str, group: str) -> None:
        if (groups := self._groups.get(api)) is not None:
            groups.pop(group, None)
            if not groups:
                del self._groups[api]

    def find(
        self, keys: ThrottleKeys, tiers: LevelTiers, facts: HandshakeFacts, now: float
    ) -> tuple[Decided, ...]:
        """Return all decisions that concern a connection at `now` (epoch seconds), in order."""
        if not self._rows:
            return ()
        found = []
        if keys.api and tiers.api.name != UNLIMITED and keys.api in self._groups:
            until = self._until_of_api(keys.api, facts, now)
            found.append(Decided("API", tiers.api, until))
        for level, key, tier in (
            ("subscription", keys.subscription, tiers.subscription),
            ("application", keys.application, tiers.application),
        ):
            if key:
                found.append(Decided(level, tier, self._until(key, now)))
        return tuple(decided for decided in found if decided.until)

    def find_custom(
        self, templates: Iterable[str], variables: Mapping[str, str], tier: Tier, now: float
    ) -> tuple[tuple[str, Decided], ...]:
        """Return the first decision of a custom policy that concerns a handshake, with its key."""
        if self._rows:
            for count, template in enumerate(templates):
                if count >= MAX_TEMPLATES:
                    break
                key = custom_key(template, variables)
                if key and (until := self._until(key, now)):
                    return ((key, Decided("custom policy", tier, until)),)
        return ()

    def holds(self, key: str, now: float) -> bool:
        """Return whether there is a decision with this key that is not over."""
        return bool(self._until(key, now))

    def _until(self, key: str, now: float) -> float:
        """Return the end of a decision in epoch seconds; 0 if there is none, or it has expired."""
        row = self._rows.get(key)
        until = 0.0 if row is None else row.expires_at / 1000
        return until if until > now else 0.0

    def _until_of_api(self, api: str, facts: HandshakeFacts, now: float) -> float:
        """Look at the groups of an API. `default` counts if no other group does.

        Its own conditions are those of all other groups: it holds if none of them matches.
        """
        budget = Budget()
        groups, chosen = self._groups[api], self._chosen
        matched = 0.0
        for name, group in groups.items():
            until = self._until(f"{api}_{name}", now) if name != "default" else 0.0
            if until and group.match(facts, chosen, budget):
                matched = max(matched, until)
        if matched or "default" not in groups or not (until := self._until(f"{api}_default", now)):
            return matched
        excluded = groups["default"].match(facts, chosen, budget)
        return 0.0 if excluded or budget.left < 0 else until


def custom_key(template: str, variables: Mapping[str, str]) -> str:
    """Fill a key template; empty if the key is too long."""
    key = _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), template)
    return key if len(key) <= MAX_CUSTOM_KEY else ""
