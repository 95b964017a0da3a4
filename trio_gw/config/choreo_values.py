"""The settings that a conversion has gathered, nested as `gateway.toml` nests them.

Called by `choreo`. Entries of a list keep the index they had in the file they came from until they
are built, when the gaps of those left out are closed.
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
    """One setting, and the keys of the file it came from."""

    value: Any
    origins: tuple[KeyPath, ...]


class Built(msgspec.Struct, frozen=True):
    """The nested settings, and where each path of them stands among the gathered ones."""

    values: dict[str, Any]
    back: dict[KeyPath, KeyPath]

    def original(self, path: KeyPath) -> KeyPath:
        """Return the gathered path of a built one."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.back:
                return (*self.back[path[:end]], *path[end:])
        return path


class Values:
    """What was gathered, by path."""

    def __init__(self) -> None:
        self._found: dict[KeyPath, Value] = {}
        self._lists: set[KeyPath] = set()

    def put(self, path: KeyPath, value: Value) -> None:
        """Gather a setting."""
        self._found[path] = value
        self._lists |= {path[:at] for at, part in enumerate(path) if isinstance(part, int)}

    def entries(self, *table: str) -> dict[int, dict[str, Value]]:
        """Return the entries of a list, each by its keys."""
        found: dict[int, dict[str, Value]] = {}
        for path, value in self._found.items():
            if path[: len(table)] == table and isinstance(index := path[len(table)], int):
                found.setdefault(index, {})[str(path[-1])] = value
        return found

    def discard(self, where: KeyPath) -> list[Value]:
        """Take out what stands at a path or below; give it back."""
        gone = [path for path in self._found if path[: len(where)] == where]
        return [self._found.pop(path) for path in gone]

    def forget(self, table: KeyPath) -> bool:
        """Let a list of which nothing is left be the gateway's default; tell whether it was one."""
        known = table in self._lists
        self._lists.discard(table)
        return known

    def origins(self, path: KeyPath) -> tuple[KeyPath, ...]:
        """Return where a gathered setting came from."""
        return self._found[path].origins if path in self._found else ()

    def value(self, path: KeyPath) -> Any:  # noqa: ANN401 - whatever the file has
        """Return a gathered setting, None if there is none."""
        return self._found[path].value if path in self._found else None

    def built(self) -> Built:
        """Nest everything.

        A list of which nothing is left stays a list without entries: the gateway's default for it
        may let in whom nobody named.
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
        """Check against the gateway's own rules; give paths, what is wrong there and the remedy.

        The paths are gathered ones: the whole entry where a fault is inside an entry of a list.
        Without its faulty entry the rest may be valid, so only the first fault counts, and of the
        others those inside of other entries: a thousand faulty entries take one round.
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
    derived = "issuers" not in values  # the loader then trusts the gateway's own keys
    if derived:
        issuer = values.get("testkey", {}).get("issuer", MGW.issuer)
        own = msgspec.to_builtins(msgspec.structs.replace(MGW, issuer=issuer))
        given = {**values, "issuers": [own]}
    for fault in check(msgspec.convert(given, Settings)):
        # What is wrong with the derived one is wrong with what it follows, and told there.
        if fault.severity == "error" and not (derived and fault.path[0] == "issuers"):
            yield fault


def _order(path: KeyPath) -> tuple[int, ...]:
    """Sort as `Settings` declares its keys."""
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
