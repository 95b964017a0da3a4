"""A document tree as JSON text, and a file in the other format for a download. Pure."""

from __future__ import annotations

from json import JSONEncoder
from typing import TYPE_CHECKING

from trio_gw.config import yamltext
from trio_gw.config.document import read
from trio_gw.config.nodes import Mapping, Scalar
from trio_gw.documents import values

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.nodes import Node

_quoted = JSONEncoder(ensure_ascii=False).encode


def json_text(node: Node) -> str:
    """Write a node as indented JSON. Numbers keep their digits."""
    pieces: list[str] = []
    _write(node, "\n", pieces.append)
    return "".join(pieces)


def as_json(data: bytes, file: str) -> str:
    """Convert a file to JSON. Raises `UnusableError` if it cannot be read."""
    return json_text(read(data, file, whole=True).root) + "\n"


def as_yaml(data: bytes, file: str) -> str:
    """Convert a file to YAML; comments are lost. Raises `UnusableError` if it cannot be read."""
    return yamltext.dump(read(data, file, whole=True).root)


def _write(node: Node, indent: str, add: Callable[[str], None]) -> None:
    if isinstance(node, Scalar):
        add(values.number(node) or _quoted(node.value))
        return
    below = indent + "  "
    between = below
    if isinstance(node, Mapping):
        add("{")
        for key, entry in node.entries.items():
            add(f"{between}{_quoted(key)}: ")
            _write(entry.node, below, add)
            between = f",{below}"
        add(f"{indent}}}" if node.entries else "}")
    else:
        add("[")
        for item in node.items:
            add(between)
            _write(item, below, add)
            between = f",{below}"
        add(f"{indent}]" if node.items else "]")
