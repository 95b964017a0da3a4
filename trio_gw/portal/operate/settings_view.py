"""The settings in force, for people: key, value, default, and what a change of it needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.config.settings import Settings
from trio_gw.telemetry.log_ring import masked

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = "••••••"
MAX_VALUE = 500  # characters
# Keys whose values are secrets, wherever they are.
SECRETS = re.compile(r"(password|passwd|secret|token|credential|passphrase)s?$", re.IGNORECASE)
# ... and keys that only look like one.
_HARMLESS = {
    *("forward_credentials", "query_token", "claims.token_id"),
}
_LOGIN = re.compile(r"(://)[^/@\s]*@")
# What SIGHUP applies to a running gateway (`config.renewal`); all else needs a restart.
RELOADED = ("log.level", "deny", "git.")


class SettingRow(NamedTuple):
    """One key. `default` is empty if the value is the default."""

    key: str
    value: str
    default: str
    changed: bool
    reload: bool


def rows(settings: Settings) -> list[SettingRow]:
    """List all settings, masked."""
    defaults = dict(_flat(Settings(), ""))
    found = []
    for key, value in _flat(settings, ""):
        default = defaults.get(key, "")
        changed = value != default
        reload = any(key == one or key.startswith(one) for one in RELOADED)
        found.append(SettingRow(key, value, default if changed else "", changed, reload))
    return found


def _flat(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield the values of a struct by their dotted keys."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _flat(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}")
    elif isinstance(value, tuple | list) and value and isinstance(value[0], msgspec.Struct):
        for place, item in enumerate(value):
            yield from _flat(item, f"{key}[{place}]")
    else:
        yield key, _shown(key, value)


def _shown(key: str, value: object) -> str:
    """Write one value; a secret only as set or not set."""
    name = re.sub(r"\[\d+\]", "", key)
    if SECRETS.search(name.rpartition(".")[2]) and not any(map(name.endswith, _HARMLESS)):
        return MASK if value else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        text = ", ".join(str(item) for item in value)
    else:
        text = "" if value is None else str(value)
    return masked(_LOGIN.sub(rf"\1{MASK}@", text))[:MAX_VALUE]
