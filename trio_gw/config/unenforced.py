"""Constraints of a definition on messages and handshakes that this gateway does not enforce.

Called by `asyncapi`; `init` and `check` show them to the author.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.nodes import Mapping, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Node

MAX_NAMES = 3


def read(findings: Findings) -> tuple[str, ...]:
    """Return what is not enforced, in a few words each, such as `payload schemas (14)`."""
    found = findings.document
    payloads = sum(
        _count(node)
        for path in (("channels",), ("operations",), ("components", "messages"))
        if (node := found.node(path)) is not None
    )
    asked: dict[str, list[str]] = {}
    channels = found.node(("channels",))
    for name, channel in _entries(channels):
        for key in ("query", "headers"):
            if found.node(("channels", name, "bindings", "ws", key)) is not None:
                asked.setdefault(f"ws.{key}", []).append(_shown(name, channel))
        for _, parameter in _entries(_below(channel, "parameters")):
            if _below(parameter, "enum") or _below(_below(parameter, "schema"), "enum"):
                asked.setdefault("parameter enums", []).append(_shown(name, channel))
    notes = [f"payload schemas ({payloads})"] if payloads else []
    return (*notes, *(f"{what} of {_list(dict.fromkeys(names))}" for what, names in asked.items()))


def _entries(node: Node | None) -> Iterator[tuple[str, Node]]:
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield key, entry.node


def _below(node: Node | None, key: str) -> Node | None:
    entry = node.find(key) if isinstance(node, Mapping) else None
    return None if entry is None else entry.node


def _shown(name: str, channel: Node) -> str:
    address = _below(channel, "address")
    return str(getattr(address, "text", "") or name)[:80]


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - MAX_NAMES} more" if len(every) > MAX_NAMES else ""
    return ", ".join(every[:MAX_NAMES]) + more


def _count(root: Node) -> int:
    """Count the messages that have a `payload`. Nested ones are not counted."""
    count, stack = 0, [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Sequence):
            stack += node.items
        elif isinstance(node, Mapping):
            payload = node.find("payload")
            if payload is not None and isinstance(payload.node, Mapping):
                count += 1
            stack += [
                entry.node for key, entry in node.entries.items() if key.casefold() != "payload"
            ]
    return count
