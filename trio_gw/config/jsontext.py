"""JSON text as calls on a tree builder. Called by `document`, which has decoded the text.

The module `json` decides what is valid. It keeps neither lines nor the text of numbers, so valid
text is read again token by token.
"""

from __future__ import annotations

import bisect
import json
import re
from typing import TYPE_CHECKING

from trio_gw.config.nodes import Scalar, plain_scalar

if TYPE_CHECKING:
    from trio_gw.config.node_builder import Builder

BREAK = re.compile("\r\n|\r|\n")

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')
_SURROGATE = re.compile("[\ud800-\udfff]")


class Lines:
    """Finds the line and column of an offset in a text; both count from 1."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(found.end() for found in BREAK.finditer(text))]

    def place(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def feed(text: str, builder: Builder) -> None:
    """Build the tree of a JSON text. Raises `UnusableError`, through the builder."""
    lines = Lines(text)
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        said = error.msg.removesuffix(" at").removesuffix(" starting")
        builder.refuse(
            *lines.place(error.pos),
            f"JSON syntax: {said[:1].lower()}{said[1:]}",
            "check commas, quotes and brackets here; JSON has no comments and no comma after"
            " the last value (a file that begins with `{` is read as JSON)",
            incomplete=True,
        )
    except RecursionError:
        pass  # The code below reaches the bound on depth long before.
    for found in _TOKEN.finditer(text):
        word = found[0]
        line, column = lines.place(found.start())
        if word in ("{", "["):
            builder.open(line, column, mapping=word == "{")
        elif word in ("}", "]"):
            builder.close()
        elif word.startswith('"'):
            value = json.loads(word)
            if _SURROGATE.search(value):
                what = "half of a character (a lone surrogate escape)"
                builder.refuse(line, column, what, r"write both halves of the `\u` pair")
            builder.scalar(Scalar(line, column, value, value))
        elif word in ("NaN", "Infinity", "-Infinity"):
            builder.refuse(line, column, f"`{word}` is not JSON", "write a number, or null")
        elif word not in (":", ","):
            builder.scalar(plain_scalar(line, column, word))
