"""Builds the value tree of a configuration document (`nodes`), within bounds.

`document` feeds the builder with events from YAML or JSON. A hostile file does no harm: the builder
is not recursive, depth is bounded, and nodes count once per use of an alias, so it is safe to walk
the tree afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from trio_gw.config.faults import printable
from trio_gw.config.nodes import MAX_NODES, Mapping, MappingEntry, Scalar, Sequence
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from trio_gw.config.nodes import Node

MAX_DEPTH = 64  # Exported projects have less than 10; far below any recursion limit.

# The values of these keys of channels and messages describe messages, and are not used.
_SECTIONS = frozenset({"channels", "operations", "components"})
_UNREAD = frozenset({"payload", "headers", "examples"})


class IncompleteError(UnusableError):
    """A truncated or unreadable file: perhaps it is still being copied."""


class _OpenNode:
    """A collection that is still being filled."""

    def __init__(self, line: int, column: int, anchor: str | None, *, mapping: bool) -> None:
        self.line = line
        self.column = column
        self.anchor = anchor
        self.mapping = mapping
        self.entries: dict[str, MappingEntry] = {}
        self.items: list[Node] = []
        self.key: Scalar | None = None
        self.merge: tuple[Scalar, Node] | None = None
        self.size = 1
        self.height = 1


class Builder:
    """Builds one tree from `scalar`, `open`, `close` and `alias` calls.

    Every method raises `UnusableError` for an invalid document: too deep, too many nodes, a
    duplicate key, a key that is a collection, an alias without an anchor or of itself.
    """

    def __init__(self, file: str, *, whole: bool = True) -> None:
        """If `whole` is False, the schemas of messages are left out, and not counted."""
        self.root: Node | None = None
        self._whole = whole
        self._left_out = 0  # number of open collections in a part that is left out
        self._holder = Mapping(0, 0, {}, {})  # replaces that part
        self._file = file
        self._stack: list[_OpenNode] = []
        self._anchors: dict[str, Node | None] = {}
        self._count = 0

    def refuse(
        self, line: int, column: int, what: str, hint: str, *, incomplete: bool = False
    ) -> NoReturn:
        """Refuse the document; `incomplete` if it may still be being copied."""
        kind = IncompleteError if incomplete else UnusableError
        raise kind([Problem(self._file, line, column, printable(what), printable(hint))])

    def scalar(self, node: Scalar, anchor: str | None = None) -> None:
        """Add a scalar as the next item, key or value."""
        if self._left_out:
            if anchor is not None:
                self._anchors[anchor] = node
            return
        self._counted(1, node.line, node.column)
        if anchor is not None:
            self._anchors[anchor] = node
        self._add(node)

    def open(self, line: int, column: int, anchor: str | None = None, *, mapping: bool) -> None:
        """Begin a mapping or a list."""
        if self._left_out or self._is_unread():
            if len(self._stack) + self._left_out >= MAX_DEPTH:
                self.refuse_depth(line, column)
            if not self._left_out:
                self._counted(1, line, column)
                self._holder = Mapping(line, column, {}, {})
            if anchor is not None:
                self._anchors[anchor] = self._holder
            self._left_out += 1
            return
        self._counted(1, line, column)
        if self._stack and self._stack[-1].mapping and self._stack[-1].key is None:
            self._refuse_key(line, column)
        if len(self._stack) >= MAX_DEPTH:
            self.refuse_depth(line, column)
        if anchor is not None:
            self._anchors[anchor] = None  # Known, but not usable before it is closed.
        self._stack.append(_OpenNode(line, column, anchor, mapping=mapping))

    def close(self) -> None:
        """End the innermost mapping or list."""
        if self._left_out:
            self._left_out -= 1
            if not self._left_out:
                self._add(self._holder)
            return
        done = self._stack.pop()
        node: Node
        if done.mapping:
            self._merge(done)
            folded: dict[str, str] = {}
            for key in done.entries:
                folded.setdefault(key.casefold(), key)
            node = Mapping(done.line, done.column, done.entries, folded, done.size, done.height)
        else:
            node = Sequence(done.line, done.column, tuple(done.items), done.size, done.height)
        if done.anchor is not None:
            self._anchors[done.anchor] = node
        self._add(node)

    def alias(self, anchor: str, line: int, column: int) -> None:
        """Repeat the node of an anchor."""
        if anchor not in self._anchors:
            self.refuse(
                line,
                column,
                f"the alias `*{anchor}` has no anchor",
                f"mark a value with `&{anchor}` further up, or write the value out",
            )
        node = self._anchors[anchor]
        if self._left_out:
            return
        if node is None:
            self.refuse(
                line,
                column,
                f"the alias `*{anchor}` is inside its own anchor, so the value has no end",
                "write the value out",
            )
        self._counted(node.size, line, column)
        if len(self._stack) + node.height > MAX_DEPTH:
            self.refuse_depth(line, column)
        self._add(node, (line, column))

    def _is_unread(self) -> bool:
        """Return whether the value that begins is a schema, which is never read."""
        depth = len(self._stack)
        if self._whole or depth < 2 or (key := self._stack[-1].key) is None:
            return False
        name = key.text.casefold()
        section = self._stack[0].key
        if section is None or section.text.casefold() not in _SECTIONS:
            return False
        if depth == 2:
            return name == "schemas" and section.text.casefold() == "components"
        return depth > 3 and name in _UNREAD

    def _add(self, node: Node, place: tuple[int, int] | None = None) -> None:
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if not parent.mapping:
            parent.items.append(node)
        elif parent.key is None:
            line, column = place or (node.line, node.column)
            if not isinstance(node, Scalar):
                self._refuse_key(line, column)
            parent.key = self._fresh_key(parent, node, line, column)
        else:
            key, parent.key = parent.key, None
            if key.plain and key.text == "<<":
                parent.merge = (key, node)
            else:
                parent.entries[key.text] = MappingEntry(key.line, key.column, node)

    def _fresh_key(self, parent: _OpenNode, key: Scalar, line: int, column: int) -> Scalar:
        first: MappingEntry | Scalar | None = parent.entries.get(key.text)
        if first is None and parent.merge and key.plain and key.text == "<<":
            first = parent.merge[0]
        if first is not None:
            self.refuse(
                line,
                column,
                f"the key `{key.text[:80]}` occurs twice, on lines {first.line} and {line}",
                "remove one of the two",
            )
        return Scalar(line, column, key.text, key.value, key.plain)

    def _merge(self, done: _OpenNode) -> None:
        """Apply `<<`: explicit keys win, then the earlier mapping of the list."""
        if done.merge is None:
            return
        key, node = done.merge
        sources: Items[Node] = node.items if isinstance(node, Sequence) else (node,)
        for source in sources:
            if not isinstance(source, Mapping):
                self.refuse(
                    key.line,
                    key.column,
                    "`<<` can only merge mappings",
                    "give it an alias of a mapping, or a list of such aliases",
                )
            for name, entry in source.entries.items():
                done.entries.setdefault(name, entry)

    def _counted(self, nodes: int, line: int, column: int) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            self.refuse(
                line,
                column,
                f"more than {MAX_NODES:,} values, counting each use of an alias",
                "shorten the file, or write out the values of the aliases",
            )

    def refuse_depth(self, line: int, column: int) -> NoReturn:
        """Refuse a document that is nested too deeply, here or in the parser."""
        self.refuse(
            line,
            column,
            f"nested more than {MAX_DEPTH} levels deep",
            "remove some of the nesting",
        )

    def _refuse_key(self, line: int, column: int) -> NoReturn:
        self.refuse(
            line,
            column,
            "a list or a mapping cannot be a key",
            "use text as the key; put text that begins with a bracket in quotes",
        )
