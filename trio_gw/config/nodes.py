"""The value tree of a configuration document.

`node_builder` makes it, `convert` reads it. Every node
knows its place in the file and, for a plain scalar, its text, so that `version: 1.10` can still
become the text `1.10`.
"""

from __future__ import annotations

import re

import msgspec

MAX_NODES = 100_000  # A large exported API has about 5,000; aliases count at every use.

Plain = bool | int | str | list["Plain"] | dict[str, "Plain"] | None
Path = tuple[str | int, ...]

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]{1,18}")  # Longer ones are serial numbers, better kept as text.
_COMMENT = re.compile(r"\s//|^//(?=\s)")


# No tree has a circle, so the garbage collector need not look at it: for a large file that would
# hold up the event loop.
class Scalar(msgspec.Struct, frozen=True, gc=False):
    """One value. `text` is the value as written; `value` the meaning of a plain (unquoted) one."""

    line: int
    column: int
    text: str
    value: bool | int | str | None
    plain: bool = False
    size: int = 1
    height: int = 0

    def without_comment(self) -> Scalar:
        """Return the scalar without a trailing `// …`, or itself if it has none.

        Only plain scalars can have one, and there must be white space before the slashes, so that
        URLs are not cut (spec: project-format §10, differences §2).
        """
        found = _COMMENT.search(self.text) if self.plain else None
        if found is None:
            return self
        return plain_scalar(self.line, self.column, self.text[: found.start()].rstrip())


class MappingEntry(msgspec.Struct, frozen=True, gc=False):
    """A value of a mapping, with the place of its key."""

    line: int
    column: int
    node: Scalar | Mapping | Sequence


class Mapping(msgspec.Struct, frozen=True, gc=False):
    """Keys and values in the order of the file; keys are always text."""

    line: int
    column: int
    entries: dict[str, MappingEntry]
    folded: dict[str, str]  # the first spelling of each key, by the key in lower case
    size: int = 1
    height: int = 1

    def find(self, name: str) -> MappingEntry | None:
        """Look up a key as written, else regardless of case (spec: project-format §2.1)."""
        return self.entries.get(name) or self.entries.get(self.folded.get(name.casefold(), ""))


class Sequence(msgspec.Struct, frozen=True, gc=False):
    """A list of nodes."""

    line: int
    column: int
    items: tuple[Scalar | Mapping | Sequence, ...]
    size: int = 1
    height: int = 1


Node = Scalar | Mapping | Sequence


def plain_scalar(line: int, column: int, text: str) -> Scalar:
    """Make an unquoted scalar: null, booleans and whole numbers; the rest stays text.

    Fractions, dates and `yes` stay text: version 1.10 is not 1.1.
    """
    value: bool | int | str | None = text
    if text in _NULLS:
        value = None
    elif text in _BOOLS:
        value = _BOOLS[text]
    elif _INT.fullmatch(text):
        value = int(text)
    return Scalar(line, column, text, value, plain=True)


def plain_value(node: Node) -> Plain:
    """Turn a node into plain Python values."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain_value(item) for item in node.items]
    return {key: plain_value(entry.node) for key, entry in node.entries.items()}
