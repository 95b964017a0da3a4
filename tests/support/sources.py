"""What tests of the structure need to know about a Python file, read once."""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Source(NamedTuple):
    """A Python file: its docstring, and some of its statements at any level."""

    docstring: str
    imports: tuple[ast.Import | ast.ImportFrom, ...]
    classes: tuple[str, ...]
    has_async: bool  # an `async def`


@cache
def source(path: Path) -> Source:
    """Parse a file. The syntax tree itself is not kept: hundreds of them are large."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    return Source(
        ast.get_docstring(tree) or "",
        tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)),
        tuple(node.name for node in nodes if isinstance(node, ast.ClassDef)),
        any(isinstance(node, ast.AsyncFunctionDef) for node in nodes),
    )
