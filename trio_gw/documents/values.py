"""Values of a document tree as text, cut to what a page can show.

The tree is bounded (`config.nodes`), but a single text may have two million characters.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from trio_gw.config import references
from trio_gw.config.nodes import Mapping, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.nodes import Node, Plain

SHORT = 200  # characters of a value in a line
LONG = 16 << 10  # characters of a description
LISTED = 100  # values of an enumeration, examples, tags

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,308})(?:\.[0-9]{1,308})?(?:[eE][-+]?[0-9]{1,3})?")


def child(node: Node | None, key: str) -> Node | None:
    """Return the value of a key, regardless of case as the loader does; None without one."""
    entry = node.find(key) if isinstance(node, Mapping) else None
    return None if entry is None else entry.node


def text(node: Node | None, key: str, most: int = LONG) -> str:
    """Return the text of a key, cut; empty if it is no scalar."""
    found = child(node, key)
    return cut(found.text, most) if isinstance(found, Scalar) and not is_null(found) else ""


def cut(value: str, most: int = SHORT) -> str:
    """Return a text of at most so many characters, with an ellipsis if it was longer."""
    return value if len(value) <= most else f"{value[: most - 1]}…"


def is_null(node: Node) -> bool:
    """Return whether this is the plain value null."""
    return isinstance(node, Scalar) and node.plain and node.value is None


def is_true(node: Node | None) -> bool:
    """Return whether this is the plain value true."""
    return isinstance(node, Scalar) and node.plain and node.value is True


def entries(node: Node | None) -> Iterator[tuple[str, int, Node]]:
    """Yield key, line and value of a mapping; nothing for other values."""
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield key, entry.line, entry.node


def items(node: Node | None) -> tuple[Node, ...]:
    """Return the items of a list; none for other values."""
    return node.items if isinstance(node, Sequence) else ()


def line_of(node: Node | None, key: str) -> int:
    """Return the line of a key; 0 if it is missing."""
    entry = node.find(key) if isinstance(node, Mapping) else None
    return 0 if entry is None else entry.line


def names(node: Node | None, most: int = LISTED) -> tuple[str, ...]:
    """Return the names of tags, or the scalars of a list."""
    found = (
        item.text if isinstance(item, Scalar) else text(item, "name", SHORT)
        for item in items(node)[:most]
    )
    return tuple(cut(name) for name in found if name)


def reference(node: Node | None) -> str:
    """Return the text of `$ref`; empty without one."""
    entry = node.entries.get("$ref") if isinstance(node, Mapping) else None
    return entry.node.text if entry is not None and isinstance(entry.node, Scalar) else ""


def resolved(root: Mapping, node: Node | None) -> tuple[Node | None, str]:
    """Follow the `$ref` of a node; returns the target, or None, and the reference."""
    if node is None or not (pointer := reference(node)):
        return node, ""
    return references.find(root, pointer), pointer


def last_step(pointer: str) -> str:
    """Return the name at the end of a reference."""
    return cut(pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~"), 80)


def number(scalar: Scalar) -> str:
    """Return the text of a plain number as JSON writes it; empty for other values."""
    if not scalar.plain:
        return ""
    if isinstance(scalar.value, int) and not isinstance(scalar.value, bool):
        return str(scalar.value)
    return scalar.text if _NUMBER.fullmatch(scalar.text) else ""


def plain(node: Node) -> Plain | float:
    """Turn a node into values for JSON; numbers that JSON cannot have stay text."""
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]  # type: ignore[misc]
    if isinstance(node, Mapping):
        return {key: plain(entry.node) for key, entry in node.entries.items()}  # type: ignore[misc]
    if (found := number(node)) and not isinstance(node.value, int):
        if found.removeprefix("-").isdigit():
            return int(found)
        value = float(found)
        return value if math.isfinite(value) else node.text
    return node.value


def shown(node: Node, most: int = SHORT) -> str:
    """Write a value in one line, as JSON; a text as it is."""
    if isinstance(node, Scalar):
        return "null" if is_null(node) else cut(node.text, most)
    if node.size > most:
        return "{…}" if isinstance(node, Mapping) else "[…]"
    return cut(json.dumps(plain(node), ensure_ascii=False), most)
