"""Rules of `[tiers]`, `[limits]` and `[[deny]]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config import tiers
from trio_gw.config.conditions import KINDS, condition, nobody_left
from trio_gw.config.faults import SettingsFault, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trio_gw.config.conditions import Condition
    from trio_gw.config.faults import KeyPath
    from trio_gw.config.settings import Settings
    from trio_gw.config.tiers import TierTable

MAX_TIERS = 1000
# Bytes: less would refuse what browsers send, more would let each client hold much memory.
HEADS: Mapping[str | int, tuple[int, int]] = {
    "head": (4 * 1024, 1024 * 1024),
    "target": (1024, 512 * 1024),
}
MAX_NAME = 64  # characters; the name is part of a Close frame's reason


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of these."""
    if len(settings.tiers) > MAX_TIERS:
        yield SettingsFault(("tiers",), f"tiers: more than {MAX_TIERS} of them", "remove some")
    for name, table in settings.tiers.items():
        yield from _tier(("tiers", name), table)
    for field in settings.limits.__struct_fields__:
        path = ("limits", field)
        value = getattr(settings.limits, field)
        if field in ("max_message", "memory"):
            yield from _size(path, value, f"limits.{field}")
        elif field in HEADS:
            yield from _head(path, value)
        elif value < 0:
            yield SettingsFault(
                path, f"limits.{field} is negative", "write a number, or 0 for no limit"
            )


def _head(path: KeyPath, value: int | str) -> Iterator[SettingsFault]:
    least, most = HEADS[path[-1]]
    where = ".".join(map(str, path))
    try:
        fits = least <= tiers.size(value) <= most
    except ValueError:
        fits = False
    if not fits:
        hint = f'write a size from "{least // 1024}KB" to "{most // 1024}KB", like "60KB"'
        yield SettingsFault(path, f"{where}: {value!r} is not a size in its range", hint)


def _tier(path: KeyPath, table: TierTable) -> Iterator[SettingsFault]:
    name = str(path[-1])
    where = f"tiers.{name[:MAX_NAME]}"
    if not name.isprintable() or not 1 <= len(name.encode()) <= MAX_NAME:
        what = f"{where}: a name has 1 to {MAX_NAME} bytes of printable text"
        yield SettingsFault(path, what, "choose another")
    events_given, octets_given = table.events != 0, table.bytes not in (0, "")
    if events_given == octets_given:
        both = "both events and bytes" if events_given else "neither events nor bytes"
        hint = 'give one of them, like events = 5 or bytes = "3KB"'
        yield SettingsFault(path, f"{where} has {both}", hint)
    if not 0 <= table.events <= tiers.LARGEST:
        hint = f"write a number from 1 to {tiers.LARGEST}"
        yield SettingsFault(
            (*path, "events"), f"{where}.events: {table.events} is not a limit", hint
        )
    yield from _size((*path, "bytes"), table.bytes, f"{where}.bytes")
    if table.events and isinstance(table.burst, str):
        what = f"{where}.burst: {table.burst!r} is not a number of events"
        yield SettingsFault((*path, "burst"), what, "write a number; only bytes have units")
    else:
        yield from _size((*path, "burst"), table.burst, f"{where}.burst")
    try:
        tiers.period(table.per)
    except ValueError:
        what = f"{where}.per: {table.per!r} is not a time from 1 second to 31 days"
        yield SettingsFault((*path, "per"), what, 'write it like "30s", "1m", "2h" or "1d"')
    for field, choices in (("on_exceed", tiers.ACTIONS), ("count", tiers.COUNTS)):
        if (value := getattr(table, field)) not in choices:
            listed = ", ".join(f'"{choice}"' for choice in choices)
            what = f"{where}.{field}: {value!r} is not one of {listed}"
            yield SettingsFault((*path, field), what, f'write one of them, like "{choices[0]}"')


def _size(path: KeyPath, value: int | str, where: str) -> Iterator[SettingsFault]:
    try:
        tiers.size(value)
    except ValueError:
        what = f"{where}: {value!r} is not a number from 0 to {tiers.LARGEST}"
        yield SettingsFault(path, what, 'write a number, or a text like "3KB" (1 KB is 1024 bytes)')


def deny(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of these."""
    inverted: dict[int, Condition] = {}
    for index, deny in enumerate(settings.deny):
        path = ("deny", index)
        if len(deny.given) != 1:
            many = " and ".join(deny.given) or "nobody"
            what = f"{dotted(path)} names {many}"
            yield SettingsFault(path, what, f"write exactly one of {', '.join(KINDS)}")
            continue
        (kind,) = deny.given
        if deny.invert and kind != "address":
            what = f"{dotted(path)}.invert: only an address can be inverted"
            yield SettingsFault((*path, "invert"), what, "leave it out")
        try:
            one = condition(kind, getattr(deny, kind), invert=deny.invert)
        except ValueError as error:
            what, hint = error.args
            yield SettingsFault((*path, kind), f"{dotted(path)}.{kind}: {what}", hint)
        else:
            if one.invert:
                inverted[index] = one
    if nobody_left(inverted.values()):
        path = ("deny", max(inverted))
        what = f"{dotted(path)} and the other inverted ones together deny every address"
        hint = "each condition applies on its own: invert one range that contains all others"
        yield SettingsFault(path, what, hint, "warning")
