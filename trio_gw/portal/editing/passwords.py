"""Passwords that the editor does not show are put back before a draft is checked or deployed.

An editor gets masked texts; a value that still is the mask means the one that was there. Pure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trio_gw.config import document
from trio_gw.config.nodes import Mapping, Scalar, Sequence
from trio_gw.config.yaml_lines import DOUBLE, SINGLE
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as FilesByPath

    from trio_gw.config.nodes import Node, Path

MASK = "********"


def restored(files: FilesByPath[str, str], base: FilesByPath[str, bytes]) -> dict[str, str]:
    """Return the files with the hidden values of `base`, each at the same place of its file."""
    return {
        path: _restored(text, base[path]) if MASK in text and path in base else text
        for path, text in files.items()
    }


def _restored(text: str, base: bytes) -> str:
    try:
        root = document.read(text.encode(), "", whole=True).root
        old = document.read(base, "", whole=True).root
    except UnusableError:
        return text  # the check says what is wrong with it
    known = dict(_scalars(old, ()))
    lines = text.split("\n")
    hidden = [
        (one, known[path]) for path, one in _scalars(root, ()) if one.text == MASK and path in known
    ]
    hidden.sort(key=lambda each: (each[0].line, each[0].column), reverse=True)
    for one, before in hidden:
        line = lines[one.line - 1]
        at = one.column - 1
        found = DOUBLE.match(line, at) or SINGLE.match(line, at)
        end = found.end() if found else at + len(MASK)
        if line[at:end].strip("\"'") == MASK:
            new = json.dumps(before.text, ensure_ascii=not before.text.isprintable())
            lines[one.line - 1] = line[:at] + new + line[end:]
    return "\n".join(lines)


def _scalars(node: Node, path: Path) -> Iterator[tuple[Path, Scalar]]:
    if isinstance(node, Scalar):
        yield path, node
    elif isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield from _scalars(entry.node, (*path, key))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _scalars(item, (*path, index))
