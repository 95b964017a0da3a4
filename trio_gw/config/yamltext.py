"""Writes a tree of values as YAML. Called by `init` if a document cannot be kept unchanged.

Every scalar keeps its style: plain or quoted.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from trio_gw.config.nodes import Mapping, Scalar, plain_scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.nodes import Node

_WORD = re.compile(r"[A-Za-z/$_][A-Za-z0-9_/$.{}-]*")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NO_TEXT = frozenset(["true", "false", "null", "yes", "no", "on", "off", "y", "n"])


def dump(root: Mapping) -> str:
    """Write a mapping as a document in block style."""
    return "\n".join(_mapping(root, "")) + "\n"


def _mapping(node: Mapping, indent: str) -> Iterator[str]:
    for key, entry in node.entries.items():
        yield from _value(f"{indent}{_text(key)}:", entry.node, indent)


def _value(head: str, node: Node, indent: str) -> Iterator[str]:
    if isinstance(node, Scalar):
        yield f"{head} {_scalar(node)}"
    elif isinstance(node, Mapping):
        if node.entries:
            yield head
            yield from _mapping(node, indent + "  ")
        else:
            yield f"{head} {{}}"
    elif node.items:
        yield head
        for item in node.items:
            yield from _value(f"{indent}  -", item, indent + "  ")
    else:
        yield f"{head} []"


def _scalar(node: Scalar) -> str:
    if node.plain and (not isinstance(node.value, str) or _NUMBER.fullmatch(node.text)):
        return node.text or "null"
    return _text(node.text)


def _text(text: str) -> str:
    """Write a text in quotes, so that it cannot be read as another type."""
    plain = _WORD.fullmatch(text) and text.casefold() not in _NO_TEXT
    if plain and plain_scalar(0, 0, text).value == text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
