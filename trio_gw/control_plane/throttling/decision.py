"""Decisions of the Traffic Manager as rows: read from messages, kept in a pull, removed when over.

spec: control-plane §6.5, §8.3. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trio_gw.config.entitlements import Change, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.entitlements import Entitlements

MAX_KEY: Final = 2048  # characters
MAX_CONDITIONS: Final = 16 * 1024  # characters
MAX_DECISIONS: Final = 50_000
MAX_LARGE: Final = 2_000  # decisions; beyond them conditions must be short
MAX_SHORT: Final = 1024  # characters of such conditions
_LATEST = 1 << 53  # milliseconds; JSON numbers are exact up to here


def is_decision(payload: Mapping[str, object]) -> bool:
    """Return whether a message with the key `throttleData` is a decision."""
    return "throttleKey" in payload


def decision(payload: Mapping[str, object]) -> Change:
    """Read a decision: its row is put, or removed if the key is not throttled any more.

    Raises ValueError with a text that quotes nothing of the message.
    """
    key = payload.get("throttleKey")
    if not isinstance(key, str) or not key or len(key) > MAX_KEY:
        raise ValueError(f"throttleKey is not a text of at most {MAX_KEY} characters")
    if payload.get("isThrottled") not in (True, "true"):
        return Change(removed=(DecisionRow(key),))
    conditions = payload.get("evaluatedConditions")
    if conditions is None:
        conditions = ""
    if not isinstance(conditions, str) or len(conditions) > MAX_CONDITIONS:
        raise ValueError(f"evaluatedConditions is not a text of at most {MAX_CONDITIONS}")
    return Change(put=(DecisionRow(key, _milliseconds(payload), conditions),))


def _milliseconds(payload: Mapping[str, object]) -> int:
    value = payload.get("expiryTimeStamp")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LATEST:
        raise ValueError("expiryTimeStamp is not a time in milliseconds")
    return value


def admitted(current: Entitlements, change: Change, now: float) -> Change:
    """Return what of a change by `decision` is to be applied. `now` in epoch milliseconds.

    Decisions that are over already are not added, and not more than `MAX_DECISIONS` are kept.
    """
    known = len(current.decisions)
    put = tuple(
        row
        for row in change.put
        if isinstance(row, DecisionRow)
        and row.expires_at > now
        and (row.key in current.decisions or known < MAX_DECISIONS)
        and (known < MAX_LARGE or len(row.conditions) <= MAX_SHORT)
    )
    gone = tuple(row for row in (*change.put, *change.removed) if row not in put)
    return Change(
        put,
        tuple(row for row in gone if isinstance(row, DecisionRow) and row.key in current.decisions),
    )


def expired(current: Entitlements, now: float) -> Change:
    """Return the change that removes the decisions that are over at `now` (epoch ms)."""
    return Change(removed=tuple(row for row in current.decisions.values() if row.expires_at <= now))


def with_decisions(pulled: Entitlements, current: Entitlements, now: float) -> Entitlements:
    """Return a pulled value with the decisions of the current one: REST does not list them."""
    return pulled.apply(
        Change(tuple(row for row in current.decisions.values() if row.expires_at > now))
    )
