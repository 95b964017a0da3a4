"""What a change of the entitlements does in a process: to callers, keys, tokens and connections.

`source` calls `apply` in every worker. New handshakes see the change at once; open connections are
ended by `proxy.sweeper`. The cost depends on the rows of the change, not on how many there are.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn, cast

import trio
from msgspec import structs

from trio_gw.config.conditions import Condition, Kind, Range, condition
from trio_gw.config.entitlements import BlockRow, KeyManagerRow, RevokedRow, key_of
from trio_gw.errors import Problem
from trio_gw.escaping import escape
from trio_gw.guard.blocklist import CONTROL_PLANE as ORIGIN
from trio_gw.guard.key_managers import given_issuers
from trio_gw.guard.revocations import names_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Hashable, Iterable

    from trio_gw.config.entitlements import Change, Entitlements, Row
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.keys import KeyRing
    from trio_gw.guard.revocations import Revocations
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw.control_plane")

PURGE = 60.0  # seconds between two looks for revoked tokens that have expired
GRACE = 60.0  # seconds after its expiry for which a revoked token is known: clocks differ
REASON = "blocked in API Manager"
_KINDS: dict[str, Kind] = {
    "api": "api", "application": "application", "user": "user", "address": "address"
}  # fmt: skip


class Effects:
    """Applies changes to the parts of one process.

    `tls` replaces the system's trust for the keys of key managers. `clock` returns epoch seconds.
    """

    def __init__(
        self,
        live: Live,
        revocations: Revocations,
        blocklist: Blocklist,
        ring: KeyRing,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._live = live
        self._revocations = revocations
        self._blocklist = blocklist
        self._ring = ring
        self._tls = tls
        self._clock = clock
        # Rows that differ may be the same condition.
        self._denied: dict[Hashable, Condition] = {}
        self._used: Counter[Condition] = Counter()

    def apply(self, before: Entitlements, after: Entitlements, change: Change) -> None:
        """Bring this process from the entitlements `before` to those `after` the change.

        `change` has at least the rows that differ. A row that cannot be used is logged.
        """
        put, removed = _by_type(change.put), _by_type(change.removed)
        if KeyManagerRow in put or KeyManagerRow in removed:
            self._trust(after)
        self._revoke(after, put.get(RevokedRow, ()), removed.get(RevokedRow, ()))
        if BlockRow in put or BlockRow in removed:
            self._deny(after, (*put.get(BlockRow, ()), *removed.get(BlockRow, ())))
        self._live.entitle(after, change)

    async def run(self) -> NoReturn:
        """Forget revoked tokens that have expired; never returns."""
        while True:
            await trio.sleep(PURGE)
            self._revocations.purge(self._clock())

    def _trust(self, after: Entitlements) -> None:
        issuers, problems = given_issuers(after.key_managers.values())
        for problem in problems:
            log.warning("%s", problem)
        if self._ring.replace(ORIGIN, issuers, self._tls):
            log.info("%d key managers are in use", len(issuers))

    def _revoke(
        self, after: Entitlements, put: Iterable[RevokedRow], removed: Iterable[RevokedRow]
    ) -> None:
        now = self._clock()
        revoked: dict[str, float] = {}
        for row in put:
            until = row.expires_at / 1000 + GRACE if row.expires_at > 0 else float("inf")
            if row.token and until > now:
                revoked |= dict.fromkeys(names_of(row.token), until)
        gone = [row.token for row in removed if row.token not in after.revoked]
        self._revocations.reinstate(name for token in gone for name in names_of(token))
        if revoked:
            self._revocations.revoke(revoked)

    def _deny(self, after: Entitlements, rows: Iterable[BlockRow]) -> None:
        touched: dict[Condition, int] = {}  # how many rows meant each before
        for key in dict.fromkeys(map(key_of, rows)):
            row = after.blocks.get(cast("tuple[str, int | str]", key))
            old, new = self._denied.pop(key, None), None if row is None else _condition(row)
            if old is not None:
                touched.setdefault(old, self._used[old])
                self._used[old] -= 1
            if new is not None:
                touched.setdefault(new, self._used[new])
                self._used[new] += 1
                self._denied[key] = new
        added = [one for one, were in touched.items() if not were and self._used[one]]
        gone = [one for one, were in touched.items() if were and not self._used[one]]
        self._used = +self._used
        if added or gone:
            self._blocklist.change(ORIGIN, added, gone)


def _by_type(rows: Iterable[Row]) -> dict[type, list[Any]]:
    found: dict[type, list[Any]] = {}
    for row in rows:
        found.setdefault(type(row), []).append(row)
    return found


def _condition(row: BlockRow) -> Condition | None:
    """Read a condition; None if it is of no use here, which is logged if it is a fault.

    Blocked subscriptions are subscriptions with that state, so these conditions are left out, as
    in the reference (spec: control-plane §6.5); it has no use for custom ones either.
    """
    kind = _KINDS.get(row.kind)
    if kind is None:
        return None
    try:
        made = condition(kind, row.value, invert=row.invert and kind == "address", reason=REASON)
    except ValueError as error:
        what, hint = error.args
        log.warning("%s", Problem("blocking condition", 0, 0, escape(what), hint))
        return None
    if made.range is None or not row.exclusive:
        return made
    version, first, last = made.range
    if last - first < 2:
        what = f"the range {made.key} has no address between its ends, so it denies nobody"
        hint = "API Manager does not count the two ends: name the addresses beside them"
        log.warning("%s", Problem("blocking condition", 0, 0, what, hint))
        return None
    # The key names the range as it counts, so that no two conditions have the same one.
    between = Range(version, first + 1, last - 1)
    return structs.replace(made, key=f"between {made.key}", range=between)
