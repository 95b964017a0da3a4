"""What has been counted, by API: from the numbers of `telemetry.metrics` to plain values. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_gw.telemetry import families

if TYPE_CHECKING:
    from trio_gw.telemetry.families import Family
    from trio_gw.telemetry.metrics import Snapshot

_COUNTED = {"messages": families.MESSAGES, "frames": families.FRAMES, "bytes": families.OCTETS}
_ANSWERED = {"0", "101", "200", "204"}  # no refusals: hung up, upgraded, answered by the gateway


def stats_by_api(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Give the counts of each API; what was asked for and is no API's has an empty name."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}

    def row(labels: tuple[str, ...], family: Family) -> dict[str, Any]:
        named = dict(zip(family.labels, labels, strict=True))
        key = named["api"], named["version"]
        if key not in rows:
            rows[key] = {"api": key[0], "version": key[1]}
            rows[key] |= dict.fromkeys(("open", "opened", "closed", "refused", "throttled"), 0)
            rows[key] |= {way: dict.fromkeys(_COUNTED, 0) for way in ("in", "out")}
        return rows[key]

    def add(name: str, family: Family) -> None:
        for labels, (amount, *_) in snapshot.get(family.name, {}).items():
            row(labels, family)[name] += int(amount)

    add("open", families.OPEN)
    add("opened", families.OPENED)
    add("closed", families.CLOSED)
    add("throttled", families.THROTTLED)
    for labels, (amount, *_) in snapshot.get(families.HANDSHAKES.name, {}).items():
        named = dict(zip(families.HANDSHAKES.labels, labels, strict=True))
        if named["status"] not in _ANSWERED:
            row(labels, families.HANDSHAKES)["refused"] += int(amount)
    for name, family in _COUNTED.items():
        for labels, (amount, *_) in snapshot.get(family.name, {}).items():
            row(labels, family)[labels[-1]][name] += int(amount)
    return [rows[key] for key in sorted(rows)]
