"""The settings of `[control_plane]` that a conversion makes from several keys.

Called by `choreo`, after all keys were read. Defaults of the reference that differ from those here
are written out. spec: control-plane §1, §8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trio_gw.config.choreo_values import Value, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trio_gw.config.faults import KeyPath

Parts = dict[str, Value]  # of a group of receivers: `publish`, `login`, `kind`

TABLE: KeyPath = ("control_plane",)
THROTTLING: KeyPath = ("control_plane", "throttling")
PROCESSES = "it connects processes; here there is only one"
_DEFAULTS: dict[str, str | list[str]] = {
    "url": "https://apim:9443/",
    "password": "$env{cp_admin_pwd}",
    "events": ["amqp://admin:$env{cp_admin_pwd}@apim:5672?retries='10'&connectdelay='30'"],
}
_THROTTLING_DEFAULTS: dict[str, str | list[str]] = {
    "password": "$env{tm_admin_pwd}",
    "publish": ["tcp://apim:9611"],
    "login": ["ssl://apim:9711"],
}


class Conversion(NamedTuple):
    """What `settle` needs of a conversion.

    `wanted` has the switches that are on, `groups` the groups of receivers by their index.
    `expand` converts variables. `discard` leaves out the settings at a path, and reports them with
    what is wrong and a hint; `report` reports a key that became no setting.
    """

    values: Values
    wanted: Mapping[str, Value]
    groups: Mapping[int, Parts]
    expand: Callable[[Any], Any]
    discard: Callable[[KeyPath, str, str], bool]
    report: Callable[[KeyPath, str, str], None]


def settle(conversion: Conversion) -> None:
    """Complete the table, or leave it out."""
    values, discard = conversion.values, conversion.discard
    switch = conversion.wanted.get("control_plane")
    throttling = conversion.wanted.get("control_plane.throttling")
    if switch is None:
        discard((*TABLE, "ca"), PROCESSES, "leave it out")
        off = "controlPlane.enabled is not true"
        _report_groups(conversion, off)
        discard(TABLE, off, "set it there if it is")
        return
    if values.value((*TABLE, "insecure_skip_verify")):
        discard((*TABLE, "ca"), "controlPlane.skipSSLVerification is true", "set it to false")
    elif not values.value((*TABLE, "ca")):
        what = "of API Manager the system's authorities are trusted: no adapter.truststore"
        hint = "set `control_plane.ca`, unless a public authority signed its certificate"
        conversion.report(switch.origins[0], what, hint)
    _complete(conversion, TABLE, _DEFAULTS, switch)
    if throttling is None:
        off = "enforcer.throttling.enableGlobalEventPublishing is not true"
        _report_groups(conversion, off)
        discard(THROTTLING, off, "set it there if it is")
        return
    values.put((*THROTTLING, "enabled"), Value(True, throttling.origins))
    _put_receivers(conversion)
    _complete(conversion, THROTTLING, _THROTTLING_DEFAULTS, throttling)


def enclosing(where: KeyPath) -> KeyPath:
    """Return what is left out if the setting at this path is wrong.

    Without its URL the whole table has no use, without one receiver the events have no receiver.
    """
    if where == (*TABLE, "url"):
        return TABLE
    return THROTTLING if where[:2] == THROTTLING else where


def _complete(
    conversion: Conversion, table: KeyPath, defaults: Mapping[str, Any], switch: Value
) -> None:
    for key, value in defaults.items():
        if not conversion.values.value((*table, key)):
            conversion.values.put((*table, key), Value(conversion.expand(value), switch.origins))


def _put_receivers(conversion: Conversion) -> None:
    """Convert the first group; in the reference each group gets all events."""
    first = min(conversion.groups, default=None)
    for index, parts in conversion.groups.items():
        if index == first and _are_receivers(parts):
            # Several share the events, or stand in for each other: a list in the list.
            kind = parts["kind"].value if "kind" in parts else ""
            shared = isinstance(kind, str) and kind.lower() == "loadbalance"
            for part in ("publish", "login"):
                urls = conversion.expand(parts[part].value)
                written = urls if shared or len(urls) == 1 else [urls]
                conversion.values.put((*THROTTLING, part), Value(written, parts[part].origins))
        else:
            what = "events go to one group of receivers, with as many addresses for the login"
            _report_groups(conversion, what, index)


def _are_receivers(parts: Parts) -> bool:
    lists = [parts[part].value for part in ("publish", "login") if part in parts]
    texts = all(
        isinstance(each, list) and each and all(isinstance(one, str) for one in each)
        for each in lists
    )
    return len(lists) == 2 and texts and len(lists[0]) == len(lists[1])


def _report_groups(conversion: Conversion, what: str, only: int | None = None) -> None:
    for index, parts in conversion.groups.items():
        for part in parts.values() if only in (None, index) else ():
            for origin in part.origins:
                conversion.report(origin, what, "write `control_plane.throttling.publish`")
