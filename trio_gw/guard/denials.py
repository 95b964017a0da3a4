"""Deny conditions of one source, indexed for look-ups. Pure and immutable.

Made and asked by `blocklist`. API and address are asked first: they are known before the caller.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trio_gw.config.conditions import KINDS, condition, number, user_name
from trio_gw.config.layered_map import LayeredMap
from trio_gw.guard.ranges import Ranges, outside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trio_gw.config.conditions import Condition, Deny, Kind, Range
    from trio_gw.guard.caller import Caller


class Denials:
    """A set of conditions. The cost of a look-up hardly depends on their number."""

    __slots__ = ("_all", "_by_address", "_by_key", "counts")

    def __init__(self, conditions: Iterable[Condition] = ()) -> None:
        self._all: LayeredMap[Condition, bool] = LayeredMap(dict.fromkeys(conditions, True))
        self.counts = Counter(one.kind for one in self._all)
        by_key: dict[Kind, dict[str, Condition]] = {kind: {} for kind in KINDS}
        for one in self._all:
            if one.range is None:
                by_key[one.kind].setdefault(one.key, one)
        self._by_key = {kind: LayeredMap(found) for kind, found in by_key.items()}
        self._by_address = _indexed(self._all)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Return all conditions."""
        return tuple(self._all)

    def changed(self, added: Iterable[Condition], removed: Iterable[Condition]) -> Denials:
        """Return a set with some conditions more, and others less, that differ in what they deny.

        Only for addresses the cost depends on the number of conditions, of addresses.
        """
        put, gone = tuple(added), tuple(removed)
        new = Denials.__new__(Denials)
        new._all = self._all.changed(dict.fromkeys(put, True), gone)
        new.counts = self.counts.copy()
        new.counts.update(one.kind for one in put if one not in self._all)
        new.counts.subtract(one.kind for one in gone if one in self._all)
        new._by_key = self._by_key.copy()
        for kind in {one.kind for one in (*put, *gone)}:
            new._by_key[kind] = self._by_key[kind].changed(
                {one.key: one for one in put if one.kind == kind and one.range is None},
                [one.key for one in gone if one.kind == kind and one.range is None],
            )
        ranged = any(one.range is not None for one in (*put, *gone))
        new._by_address = _indexed(new._all) if ranged else self._by_address
        return new

    def __len__(self) -> int:
        return len(self._all)

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


def declared(denies: Iterable[Deny]) -> Denials:
    """Make a set of the conditions of the settings, checked by `rules.limits`."""
    return Denials(
        condition(kind, getattr(deny, kind), invert=deny.invert, reason=deny.reason)
        for deny in denies
        for kind in deny.given
    )


def _indexed(conditions: Iterable[Condition]) -> Ranges[Condition] | None:
    ranges = tuple(_ranges(conditions))
    return Ranges(ranges) if ranges else None


def _ranges(conditions: Iterable[Condition]) -> Iterator[tuple[Range, Condition]]:
    for one in conditions:
        if one.range is not None:
            for found in outside(one.range) if one.invert else (one.range,):
                yield found, one


NOTHING = Denials()
