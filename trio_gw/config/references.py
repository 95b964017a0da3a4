"""Replaces each `$ref` in an AsyncAPI document by its target, where one is allowed.

Called by `asyncapi` before anything is read. Nodes know their lines, so a problem in a target
names the line of the target. References to other documents are problems.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.config.faults import WrongError
from trio_gw.config.nodes import MAX_NODES, Mapping, MappingEntry, Node, Scalar, Sequence

if TYPE_CHECKING:
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

MAX_HOPS = 64  # Maximum chain of references to references; one or two are usual.

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BAD_TILDE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
# Keys that the standard allows next to `$ref`; they have no effect here.
_PROSE = frozenset({"$ref", "description", "summary"})


class RefPlaces(NamedTuple):
    """A place in the document: whether a `$ref` is allowed here, and the places below by key.

    Keys are in lower case; `*` means every other key, and the items of a list.
    """

    may_refer: bool
    below: dict[str, RefPlaces]


def pointer(reference: str) -> tuple[str, ...]:
    """Split a reference within the document into keys.

    Raises `WrongError` for a reference to another file and for a malformed one (RFC 6901 §6).
    """
    if not reference.startswith("#"):
        raise WrongError(
            f"`$ref` points out of this file (`{reference[:80]}`), and only this file is read",
            "copy what it points to below `components`, and write `#/components/…`",
        )
    hint = "write it like `#/components/channels/name`, with `~1` for `/` in a name"
    try:
        if _BAD_PERCENT.search(reference):
            raise ValueError
        text = urllib.parse.unquote(reference[1:], errors="strict")
    except ValueError:
        what = f"`$ref` is not percent-encoded UTF-8 (`{reference[:80]}`)"
        raise WrongError(what, hint) from None
    if not text:
        return ()
    if not text.startswith("/") or _BAD_TILDE.search(text):
        raise WrongError(f"`$ref` is not a JSON pointer (`{reference[:80]}`)", hint)
    steps = text[1:].split("/")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def follow(findings: Findings, places: RefPlaces, *, strict: bool) -> None:
    """Replace the document of `findings` by one with the references at these places resolved.

    A reference that cannot be resolved is left out, with an error when `strict` (AsyncAPI 3), else
    with a warning: the reference system resolves none and serves the rest.
    spec: project-format §5.2.
    """
    follower = _Follower(findings, strict=strict)
    root = follower.rebuild(findings.document.root, places, ())
    assert isinstance(root, Mapping)
    findings.document = msgspec.structs.replace(findings.document, root=root)


def look(root: Mapping, node: Node) -> Node | None:
    """Return the target of a node's reference, or the node itself; None without a target."""
    reference = _lone(node)
    return node if reference is None else find(root, reference)


def find(root: Mapping, reference: str) -> Node | None:
    """Return the node at the end of a reference within the document; None if there is none."""
    try:
        return _PointerResolver(root).target(reference)
    except WrongError:
        return None


class _Follower:
    """One call of `follow`."""

    def __init__(self, findings: Findings, *, strict: bool) -> None:
        self._findings = findings
        self._strict = strict
        self._resolver = _PointerResolver(findings.document.root)
        self._room = MAX_NODES

    def rebuild(self, node: Node, place: RefPlaces, path: Path) -> Node | None:
        """Return the node with all references in it resolved; None to leave it out."""
        if place.may_refer and isinstance(node, Mapping) and "$ref" in node.entries:
            found = self._follow(node, path)
            if found is None:
                return None
            node = found
        if not place.below:
            return node
        anything = place.below.get("*")
        if isinstance(node, Mapping):
            entries: dict[str, MappingEntry] = {}
            for key, entry in node.entries.items():
                below = place.below.get(key.casefold(), anything)
                child = self.rebuild(entry.node, below, (*path, key)) if below else entry.node
                if child is not None:
                    entries[key] = MappingEntry(entry.line, entry.column, child)
            folded = {fold: key for fold, key in node.folded.items() if key in entries}
            return msgspec.structs.replace(node, entries=entries, folded=folded)
        if isinstance(node, Sequence) and anything is not None:
            # An item without a target stays, so that the others keep their indexes.
            items = (
                self.rebuild(item, anything, (*path, index)) or item
                for index, item in enumerate(node.items)
            )
            return msgspec.structs.replace(node, items=tuple(items))
        return node

    def _follow(self, node: Mapping, path: Path) -> Node | None:
        beside = sorted(node.entries.keys() - _PROSE)
        if beside:
            what = f"`{beside[0][:80]}` is next to `$ref`, so `$ref` is not resolved"
            self._note((*path, "$ref"), WrongError(what, "remove `$ref`, or all keys next to it"))
            return None if self._strict else node
        try:
            target = self._resolver.target(_lone(node) or "")
            self._room -= target.size
            if self._room < 0:
                what = f"more than {MAX_NODES:,} values, counting each use of a `$ref`"
                raise WrongError(what, "shorten what the references point to")
        except WrongError as error:
            self._note((*path, "$ref"), error)
            return None
        return target

    def _note(self, path: Path, error: WrongError) -> None:
        note = self._findings.error if self._strict else self._findings.warn
        note(path, error.what, error.hint)


class _PointerResolver:
    """Finds the targets of references. Each text is resolved once, so the time is linear."""

    def __init__(self, root: Mapping) -> None:
        self._root = root
        self._known: dict[str, Node | tuple[str, str]] = {}  # a tuple says what is wrong

    def target(self, reference: str, active: frozenset[str] = frozenset()) -> Node:
        """Return the node at the end of a reference. Raises `WrongError`."""
        if reference in active or len(active) > MAX_HOPS:
            what = f"`$ref` goes round in a circle, or on and on (`{reference[:80]}`)"
            raise WrongError(what, "point to where the value is written out")
        known = self._known.get(reference)
        if known is None:
            try:
                known = self._walk(reference, active | {reference})
            except WrongError as error:
                known = error.what, error.hint
            self._known[reference] = known
        if isinstance(known, tuple):
            # A new exception each time: raised again, it would collect tracebacks.
            raise WrongError(*known)
        return known

    def _walk(self, reference: str, active: frozenset[str]) -> Node:
        node: Node = self._root
        for step in pointer(reference):
            node = self._end(node, active)
            found: Node | None = None
            if isinstance(node, Mapping) and step in node.entries:
                found = node.entries[step].node
            elif isinstance(node, Sequence) and _INDEX.fullmatch(step):
                found = node.items[int(step)] if int(step) < len(node.items) else None
            if found is None:
                what = f"`$ref` points to nothing: `{reference[:80]}` is not in this file"
                raise WrongError(what, "correct the name, or write the value out")
            node = found
        return self._end(node, active)

    def _end(self, node: Node, active: frozenset[str]) -> Node:
        reference = _lone(node)
        return node if reference is None else self.target(reference, active)


def _lone(node: Node) -> str | None:
    """Return the text of a `$ref` without other keys; None if there is none."""
    if not isinstance(node, Mapping):
        return None
    entry = node.entries.get("$ref")
    # Checked first: most mappings have none, and may have very many other keys.
    if entry is None or node.entries.keys() - _PROSE:
        return None
    return entry.node.text if isinstance(entry.node, Scalar) else ""
