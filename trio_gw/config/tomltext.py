"""Plain values written as TOML. Called by `choreo`; tomllib only reads."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio_gw.config.faults import KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def value(found: Any) -> str:  # noqa: ANN401 - any plain value
    """Write one value other than a table."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        # TOML has the escapes of JSON, but JSON does not escape DEL and writes surrogate pairs.
        escaped = "".join(_escape(each) for each in found)
        return f'"{escaped}"'
    if isinstance(found, list | tuple):
        return f"[{', '.join(map(value, found))}]"
    if isinstance(found, float) and found.is_integer():
        return str(int(found))
    return repr(found)


def _escape(character: str) -> str:
    if character in '"\\' or character < " ":
        return json.dumps(character)[1:-1]
    return character if character != "\x7f" else "\\u007f"


def lines(values: dict[str, Any], remark: Callable[[KeyPath], str]) -> Iterator[str]:
    """Write a document: plain keys, then tables, then arrays of tables.

    `remark` returns the comment after a key, if any. Tables contain no tables except arrays, as in
    `Settings`.
    """
    yield from _plain(values, (), remark)
    for name, found in values.items():
        if isinstance(found, dict):
            yield from _table(found, (name,), remark)
        elif _is_tables(found):
            yield from _tables(found, (name,), remark)


def _table(
    values: dict[str, Any], path: KeyPath, remark: Callable[[KeyPath], str]
) -> Iterator[str]:
    plain = list(_plain(values, path, remark))
    if plain:
        yield from ("", f"[{_name(path)}]", *plain)
    for name, found in values.items():
        if isinstance(found, dict):
            yield from _table(found, (*path, name), remark)
        elif _is_tables(found):
            yield from _tables(found, (*path, name), remark)


def _tables(
    entries: list[dict[str, Any]], path: KeyPath, remark: Callable[[KeyPath], str]
) -> Iterator[str]:
    for index, entry in enumerate(entries):
        yield from ("", f"[[{_name(path)}]]", *_plain(entry, (*path, index), remark))


def _plain(
    values: dict[str, Any], path: KeyPath, remark: Callable[[KeyPath], str]
) -> Iterator[str]:
    for name, found in values.items():
        if not isinstance(found, dict) and not _is_tables(found):
            said = remark((*path, name))
            yield f"{_name((name,))} = {value(found)}{f'  # {said}' if said else ''}"


def _is_tables(found: object) -> bool:
    return isinstance(found, list) and bool(found) and isinstance(found[0], dict)


def _name(path: KeyPath) -> str:
    return ".".join(part if _BARE.fullmatch(part) else value(part) for part in map(str, path))
