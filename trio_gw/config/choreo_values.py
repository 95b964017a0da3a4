"""The settings that a conversion has collected, nested as in `gateway.toml`.

Called by `choreo`. Entries of a list keep the index of their source until they are built; then
the gaps of removed entries are closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config.settings import MGW, Settings
from trio_gw.config.settings_rules import check
from trio_gw.config.settings_schema import is_struct, kinds, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.faults import KeyPath, SettingsFault


class Value(msgspec.Struct, frozen=True):
    """One setting, and the keys from which it was made."""

    value: Any
    origins: tuple[KeyPath, ...]


class Built(msgspec.Struct, frozen=True):
    """The nested settings, and the collected path of each of their paths."""

    values: dict[str, Any]
    back: dict[KeyPath, KeyPath]

    def original(self, path: KeyPath) -> KeyPath:
        """Return the collected path of a built path."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.back:
                return (*self.back[path[:end]], *path[end:])
        return path


class Values:
    """The collected settings, by path."""

    def __init__(self) -> None:
        self._found: dict[KeyPath, Value] = {}
        self._lists: set[KeyPath] = set()

    def put(self, path: KeyPath, value: Value) -> None:
        """Add a setting."""
        self._found[path] = value
        self._lists |= {path[:at] for at, part in enumerate(path) if isinstance(part, int)}

    def entries(self, *table: str) -> dict[int, dict[str, Value]]:
        """Return the entries of a list as dictionaries."""
        found: dict[int, dict[str, Value]] = {}
        for path, value in self._found.items():
            if path[: len(table)] == table and isinstance(index := path[len(table)], int):
                found.setdefault(index, {})[str(path[-1])] = value
        return found

    def discard(self, where: KeyPath) -> list[Value]:
        """Remove and return the settings at a path or below."""
        gone = [path for path in self._found if path[: len(where)] == where]
        return [self._found.pop(path) for path in gone]

    def forget(self, table: KeyPath) -> bool:
        """Let an empty list become the default; return whether there was one."""
        known = table in self._lists
        self._lists.discard(table)
        return known

    def origins(self, path: KeyPath) -> tuple[KeyPath, ...]:
        """Return the origins of a setting."""
        return self._found[path].origins if path in self._found else ()

    def value(self, path: KeyPath) -> Any:  # noqa: ANN401 - whatever the file has
        """Return a setting, None if there is none."""
        return self._found[path].value if path in self._found else None

    def built(self) -> Built:
        """Build the nested settings.

        A list without remaining entries stays an empty list: the default of the gateway might
        accept callers that the source does not name.
        """
        values: dict[str, Any] = {}
        back: dict[KeyPath, KeyPath] = {}
        indexes: dict[KeyPath, dict[int, int]] = {}
        for path, found in sorted(self._found.items(), key=lambda item: _order(item[0])):
            here: Any = values
            built: KeyPath = ()
            for at, part in enumerate(path):
                step = part
                if isinstance(part, int):
                    known = indexes.setdefault(built, {})
                    step = known.setdefault(part, len(known))
                    if step == len(here):
                        here.append({})
                built = (*built, step)
                back[built] = path[: at + 1]
                if at + 1 == len(path):
                    here[step] = found.value
                elif isinstance(step, int):
                    here = here[step]
                else:
                    here = here.setdefault(step, [] if isinstance(path[at + 1], int) else {})
        for path in sorted(self._lists, key=_order):
            here = values
            for part in path[:-1]:
                here = here.setdefault(part, {})
            here.setdefault(path[-1], [])
        return Built(values, back)

    def faults(self) -> list[tuple[KeyPath, str, str]]:
        """Check with the rules of the settings; return paths, what is wrong, and hints.

        The paths are collected ones; for a fault in an entry of a list, that of the whole entry.
        Without a faulty entry the rest may be valid, so only the first fault counts, and the first
        one of each other entry: a thousand faulty entries need one round.
        """
        built = self.built()
        found: dict[KeyPath, tuple[str, str]] = {}
        for path, kind, entry in _entries(built.values, Settings, ()):
            for field in msgspec.structs.fields(kind):
                if field.required and field.name not in entry:
                    missing = f"`{field.name}` is missing", "add it"
                    found.setdefault(built.original(path), missing)
        if not found:
            for fault in _errors(built.values):
                path = self._gathered(built.original(fault.path))
                if not found or (isinstance(path[-1], int) and path not in found):
                    found[path] = fault.what, fault.hint
        return [(path, what, hint) for path, (what, hint) in found.items()]

    def _gathered(self, path: KeyPath) -> KeyPath:
        inside = [at for at, part in enumerate(path) if isinstance(part, int)]
        if inside and path[: inside[0]] in self._lists:
            path = path[: inside[0] + 1]
        while len(path) > 1 and path not in self._lists and not self._has(path):
            path = path[:-1]
        return path

    def _has(self, where: KeyPath) -> bool:
        if where in self._found:
            return True
        return any(path[: len(where)] == where for path in self._found)


def _errors(values: dict[str, Any]) -> Iterator[SettingsFault]:
    given = values
    derived = "issuers" not in values  # the loader then trusts the keys of the gateway
    if derived:
        issuer = values.get("testkey", {}).get("issuer", MGW.issuer)
        own = msgspec.to_builtins(msgspec.structs.replace(MGW, issuer=issuer))
        given = {**values, "issuers": [own]}
    for fault in check(msgspec.convert(given, Settings)):
        # A fault of a derived value is reported at the value from which it is derived.
        if fault.severity == "error" and not (derived and fault.path[0] == "issuers"):
            yield fault


def _order(path: KeyPath) -> tuple[int, ...]:
    """Sort in the order of the keys of `Settings`."""
    order: list[int] = []
    kind: Any = Settings
    for part in path:
        if isinstance(part, int):
            order.append(part)
        else:
            known = kinds(kind)
            order.append(list(known).index(part))
            kind = table_of(known[part]) or known[part]
    return tuple(order)


def _entries(
    found: dict[str, Any], kind: type[msgspec.Struct], path: KeyPath
) -> Iterator[tuple[KeyPath, type[msgspec.Struct], dict[str, Any]]]:
    """Find every entry of every list of tables, with its type."""
    for name, child in found.items():
        here = kinds(kind)[name]
        if (item := table_of(here)) is not None:
            for index, entry in enumerate(child):
                yield (*path, name, index), item, entry
        elif is_struct(here):
            yield from _entries(child, here, (*path, name))
