"""A document tree as JSON text, and a file in the other format for a download. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trio_gw.config import yamltext
from trio_gw.config.document import read
from trio_gw.config.nodes import Mapping, Scalar
from trio_gw.documents import values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.nodes import Node


def json_text(node: Node) -> str:
    """Write a node as indented JSON. Numbers keep their digits."""
    return "".join(_pieces(node, "\n"))


def as_json(data: bytes, file: str) -> str:
    """Convert a file to JSON. Raises `UnusableError` if it cannot be read."""
    return json_text(read(data, file, whole=True).root) + "\n"


def as_yaml(data: bytes, file: str) -> str:
    """Convert a file to YAML; comments are lost. Raises `UnusableError` if it cannot be read."""
    return yamltext.dump(read(data, file, whole=True).root)


def _pieces(node: Node, indent: str) -> Iterator[str]:
    if isinstance(node, Scalar):
        yield values.number(node) or json.dumps(node.value, ensure_ascii=False)
        return
    below = indent + "  "
    if isinstance(node, Mapping):
        opening, closing = "{", "}"
        parts = [
            (json.dumps(key, ensure_ascii=False) + ": ", entry.node)
            for key, entry in node.entries.items()
        ]
    else:
        opening, closing = "[", "]"
        parts = [("", item) for item in node.items]
    yield opening
    for index, (head, each) in enumerate(parts):
        yield f"{',' if index else ''}{below}{head}"
        yield from _pieces(each, below)
    yield f"{indent}{closing}" if parts else closing
