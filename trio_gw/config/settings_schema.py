"""The keys of `Settings`, derived from its types, and the mapping from variables to keys.

Called by `settings_file`. Only this file knows how Structs, arrays of tables and plain values nest,
so a new setting needs only a field.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard, get_args, get_origin

import msgspec

if TYPE_CHECKING:
    from msgspec.structs import FieldInfo

    from trio_gw.config.faults import KeyPath

DROPPED = object()
"""Stands for a value that could not be read; its problem has been reported."""

_INDEXED = re.compile(r"(0|[1-9]\d{0,3})_(.+)", re.DOTALL)


def is_struct(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    """Return whether this type is a table."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def table_of(kind: object) -> type[msgspec.Struct] | None:
    """Return the Struct of an array of tables, None for any other type."""
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    return item if is_struct(item) else None


def named_tables(kind: object) -> type[msgspec.Struct] | None:
    """Return the Struct of tables with names chosen by the operator, None for other types."""
    item = get_args(kind)[1] if get_origin(kind) is dict else None
    return item if is_struct(item) else None


@cache
def fields(kind: type[msgspec.Struct]) -> tuple[FieldInfo, ...]:
    """Return the fields of a table, cached: the library computes them each time."""
    return msgspec.structs.fields(kind)


def kinds(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Map the keys of a table to their types."""
    return {field.name: field.type for field in fields(kind)}


def every_key(kind: type[msgspec.Struct], prefix: str = "") -> list[str]:
    """List all keys below a Struct: `timeouts.idle`, `issuers[].jwks`."""
    keys = []
    for name, child in kinds(kind).items():
        if is_struct(child):
            keys += every_key(child, f"{prefix}{name}.")
        elif (item := table_of(child)) is not None:
            keys += every_key(item, f"{prefix}{name}[].")
        elif (item := named_tables(child)) is not None:
            keys += every_key(item, f"{prefix}{name}.NAME.")
        else:
            keys.append(prefix + name)
    return keys


def resolve(kind: type[msgspec.Struct], rest: str) -> tuple[KeyPath, Any] | None:
    """Find the key for `TESTKEY_USERS_0_PASSWORD`; names of keys contain underscores, too."""
    for name, child in kinds(kind).items():
        item = table_of(child)
        if named_tables(child) is not None:
            continue  # variables cannot name such tables
        if rest == name.upper() and item is None and not is_struct(child):
            return (name,), child
        if not rest.startswith(f"{name.upper()}_"):
            continue
        tail = rest[len(name) + 1 :]
        where: KeyPath = (name,)
        if item is not None:
            if not (indexed := _INDEXED.fullmatch(tail)):
                continue
            child, tail, where = item, indexed[2], (name, int(indexed[1]))
        elif not is_struct(child):
            continue
        if target := resolve(child, tail):
            return (*where, *target[0]), target[1]
    return None


def from_text(kind: object, text: str) -> object:
    """Convert the text of a variable to this type (lists with commas), or return DROPPED."""
    if kind is str:
        return text
    if get_origin(kind) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return msgspec.convert(text.strip(), kind, strict=False)
    except msgspec.ValidationError:
        return DROPPED


def put(kind: type[msgspec.Struct], values: dict[str, Any], path: KeyPath, value: object) -> bool:
    """Set one nested value; return False if its index is after the end of the list.

    An absent list starts from its default, so that a variable can change one default entry.
    """
    name, rest = str(path[0]), path[1:]
    if not rest:
        values[name] = value
        return True
    field = next(one for one in fields(kind) if one.name == name)
    item = table_of(field.type)
    if item is None or not isinstance(index := rest[0], int):
        return put(field.type, values.setdefault(name, {}), rest, value)
    if name not in values:
        # The default issuer depends on other keys, so this is only a placeholder.
        values[name] = [{}] if name == "issuers" else msgspec.to_builtins(list(field.default))
    entries = values[name]
    if index > len(entries):
        return False
    if index == len(entries):
        entries.append({})
    return put(item, entries[index], rest[1:], value)
