"""Deny conditions of one source, indexed for look-ups. Pure and immutable.

Made and asked by `blocklist`. API and address are asked first: they are known before the caller.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trio_gw.config.conditions import KINDS, condition, number, user_name
from trio_gw.guard.ranges import Ranges, outside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trio_gw.config.conditions import Condition, Deny, Kind, Range
    from trio_gw.guard.caller import Caller


class Denials:
    """A set of conditions. The cost of a look-up hardly depends on their number."""

    __slots__ = ("_by_address", "_by_key", "conditions", "counts")

    def __init__(self, conditions: Iterable[Condition] = ()) -> None:
        self.conditions = tuple(dict.fromkeys(conditions))
        self.counts = Counter(one.kind for one in self.conditions)
        self._by_key: dict[Kind, dict[str, Condition]] = {kind: {} for kind in KINDS}
        for one in self.conditions:
            if one.range is None:
                self._by_key[one.kind].setdefault(one.key, one)
        ranged = self.counts["address"]
        self._by_address = Ranges(_ranges(self.conditions)) if ranged else None

    def __len__(self) -> int:
        return len(self.conditions)

    def place(self, base_path: str, address: str) -> Condition | None:
        """Find a condition that denies an API to all callers, or everything to an address."""
        if (apis := self._by_key["api"]) and (found := apis.get(base_path)):
            return found
        if self._by_address is None:
            return None
        try:
            return self._by_address.find(*number(address))
        except ValueError:
            return None  # a peer without an IP address

    def caller(self, base_path: str, version: str, caller: Caller) -> Condition | None:
        """Find a condition on the caller; conditions never name an anonymous caller."""
        if caller.anonymous:
            return None
        by_key, application, found = self._by_key, caller.application, None
        if users := by_key["user"]:
            found = users.get(user_name(caller.subject, caller.subscription.tenant))
        if found is None and (applications := by_key["application"]):
            found = applications.get(f"{application.owner}:{application.name}")
        if found is None and (subscriptions := by_key["subscription"]):
            who = f"{application.owner}-{application.name}"
            found = subscriptions.get(f"{base_path}:{version}:{who}:{caller.key_type}")
        return found


NOTHING = Denials()


def declared(denies: Iterable[Deny]) -> Denials:
    """Make a set of the conditions of the settings, checked by `rules.limits`."""
    return Denials(
        condition(kind, getattr(deny, kind), invert=deny.invert, reason=deny.reason)
        for deny in denies
        for kind in deny.given
    )


def _ranges(conditions: Iterable[Condition]) -> Iterator[tuple[Range, Condition]]:
    for one in conditions:
        if one.range is not None:
            for found in outside(one.range) if one.invert else (one.range,):
                yield found, one
