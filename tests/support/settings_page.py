"""The page of settings: its rows come from the types, its meanings from `docs/settings.toml`."""

from __future__ import annotations

import json
import tomllib
import types
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from trio_gw.config import renewal
from trio_gw.config.settings import Settings
from trio_gw.config.settings_schema import is_struct, named_tables, table_of

DOCS = Path(__file__).parents[2] / "docs"
MEANINGS = DOCS / "settings.toml"
PAGE = DOCS / "settings.md"

_SINCE = "0.1"


def meanings() -> dict[str, Any]:
    """Read the texts of the page: `intro`, and a list of `section`."""
    return tomllib.loads(MEANINGS.read_text())


def keys(
    kind: type[msgspec.Struct] = Settings, prefix: str = ""
) -> dict[str, msgspec.structs.FieldInfo]:
    """Map each key below a table to its field."""
    found: dict[str, msgspec.structs.FieldInfo] = {}
    for field in msgspec.structs.fields(kind):
        name = prefix + field.name
        if is_struct(field.type):
            found |= keys(field.type, f"{name}.")
        elif item := table_of(field.type):
            found |= keys(item, f"{name}[].")
        elif item := named_tables(field.type):
            found |= keys(item, f"{name}.NAME.")
        else:
            found[name] = field
    return found


def page() -> str:
    """Write the whole page."""
    fields = keys()
    texts = meanings()
    parts = [texts["intro"]]
    for section in texts["section"]:
        parts.append(f"\n## {section['title']}\n")
        if "text" in section:
            parts.append(f"\n{section['text']}\n")
        parts.append("\n| key | type | default | meaning | since | applied |\n")
        parts.append("| --- | --- | --- | --- | --- | --- |\n")
        parts.extend(
            _row(key, fields[key], entry if isinstance(entry, dict) else {"text": entry})
            for key, entry in section["keys"].items()
        )
    return "".join(parts)


def _row(key: str, field: msgspec.structs.FieldInfo, entry: dict[str, str]) -> str:
    default = entry.get("default") or _default(key, field)
    applied = "SIGHUP" if on_sighup(key) else "restart"
    since = entry.get("since", _SINCE)
    return (
        f"| `{key}` | {_type(field.type)} | {default} | {entry['text']} | {since} | {applied} |\n"
    )


def _type(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"list of {_type(get_args(kind)[0])}s"
    if isinstance(kind, types.UnionType):
        return "size" if int in get_args(kind) else _type(get_args(kind)[0])
    return {str: "text", int: "integer", float: "number", bool: "boolean"}[kind]


def _default(key: str, field: msgspec.structs.FieldInfo) -> str:
    """Show the default as the file would write it; entries of lists show those of the first."""
    value: Any = field.default
    if "[]" in key:
        first: Any = Settings()
        for name in key.replace("[]", ".0").split("."):
            if name.isdigit():
                first = first[int(name)] if first else None
            else:
                first = getattr(first, name, None)
        value = value if first is None else first
    if value is msgspec.NODEFAULT:
        return "required"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`"


def on_sighup(key: str) -> bool:
    """Tell whether SIGHUP applies a change of this key, by changing it."""
    now = msgspec.to_builtins(Settings())
    now["git"]["url"] = "/old"
    now["tiers"] = {"NAME": {}}
    now["deny"] = [{}]
    now["tls"]["certificates"] = [{"cert": "", "key": ""}]
    read = json.loads(json.dumps(now))
    *path, last = key.replace("[]", ".0").split(".")
    table: Any = read
    for name in path:
        table = table[int(name) if name.isdigit() else name]
    table[last] = _other(keys()[key].type, table.get(last))
    old, new = (msgspec.convert(one, Settings) for one in (now, read))
    return bool(renewal.differences(old, renewal.take_over(old, new)))


def _other(kind: Any, value: object) -> object:
    """Make another value of this type."""
    if get_origin(kind) is tuple:
        return [_other(get_args(kind)[0], None)]
    if kind is bool:
        return not value
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    return "other" if kind is str else 77
