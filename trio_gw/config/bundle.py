"""An AsyncAPI document of several files as one. Called by `init`.

Every file that a `$ref` names, below the folder of the document, is included as a whole below a key
of its own, and the references are rewritten. So nothing is included twice, and circular references
stay circular. Files elsewhere, or in the web, are never read.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.config import document, extensions, references
from trio_gw.config.nodes import Mapping, MappingEntry, Scalar, Sequence
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.nodes import Node

MAX_FILES = 100

_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/|\\")
_SECTIONS = ("info", "servers", "channels", "operations", "components")


class Bundled(NamedTuple):
    """The whole document, its source files, and the problems."""

    root: Mapping
    files: tuple[str, ...]
    problems: tuple[Problem, ...]


def bundle(found: document.Document, name: str, read: Callable[[str], bytes]) -> Bundled:
    """Include every file that the document refers to.

    `name` is the file name of the document. `read` returns a file by its path below the folder of
    the document, with `/` as separator, or raises `OSError`. Files after the first `MAX_FILES`, and
    files that cannot be read, are left out with a warning.
    """
    bundler = _Bundler(found.file, name, read)
    root = bundler.mapping(found.root, name)
    while bundler.waiting:
        bundler.take(bundler.waiting.pop(0))
    if bundler.taken:
        root = _with(root, extensions.FILES, _made(bundler.taken))
    for section in _SECTIONS:
        root = _opened(root, root, (section,))
    found_in = root.find("components")
    inside = found_in.node if found_in is not None else None
    for key in inside.entries if isinstance(inside, Mapping) else ():
        root = _opened(root, root, ("components", key))
    return Bundled(root, tuple(bundler.taken), tuple(bundler.problems()))


class _Bundler:
    """One call of `bundle`."""

    def __init__(self, shown: str, name: str, read: Callable[[str], bytes]) -> None:
        self.waiting: list[str] = []
        self.taken: dict[str, Mapping] = {}
        self._shown = shown
        self._folder = posixpath.dirname(shown)
        self._name = name
        self._read = read
        self._known: dict[str, bool] = {}  # by file: whether it can be included
        self._read_files: dict[str, Mapping] = {}
        self._problems: list[Problem] = []
        self._elsewhere: dict[str, int] = {}  # references that stay unchanged, with their lines

    def mapping(self, node: Mapping, file: str) -> Mapping:
        """Return a mapping of `file` with rewritten references."""
        entries = {
            key: MappingEntry(entry.line, entry.column, self._turned(key, entry.node, file))
            for key, entry in node.entries.items()
        }
        return msgspec.structs.replace(node, entries=entries)

    def take(self, file: str) -> None:
        """Include a file that was read."""
        self.taken[file] = self.mapping(self._read_files[file], file)

    def problems(self) -> list[Problem]:
        """Report what was not included."""
        if self._elsewhere:
            first, line = next(iter(self._elsewhere.items()))
            count = len(self._elsewhere)
            what = f"`$ref` leads out of the document's folder, and is not followed: `{first[:80]}`"
            if count > 1:
                what = f"{what}, and {count - 1} more"
            hint = "copy the file below the document's folder, and refer to it there"
            self._problems.append(Problem(self._shown, line, 0, what, hint, "warning"))
        return self._problems

    def _turned(self, key: str, node: Node, file: str) -> Node:
        if isinstance(node, Mapping):
            return self.mapping(node, file)
        if isinstance(node, Sequence):
            items = tuple(self._turned("", item, file) for item in node.items)
            return msgspec.structs.replace(node, items=items)
        if key != "$ref" or not isinstance(node.value, str):
            return node
        text = self._target(node.value, node.line, file)
        return msgspec.structs.replace(node, text=text, value=text, plain=False)

    def _target(self, reference: str, line: int, file: str) -> str:
        """Rewrite one reference in `file`."""
        path, _, fragment = reference.partition("#")
        target = file
        if path:
            target = posixpath.normpath(
                posixpath.join(posixpath.dirname(file), urllib.parse.unquote(path))
            )
            if _ELSEWHERE.match(path) or target.startswith("../") or target == "..":
                self._elsewhere.setdefault(reference, line if file == self._name else 0)
                return reference
        if target == self._name:
            return f"#{fragment}"
        if not self._take(target):
            return reference
        step = urllib.parse.quote(target.replace("~", "~0").replace("/", "~1"), safe="~")
        return f"#/{extensions.FILES}/{step}{fragment}"

    def _take(self, file: str) -> bool:
        if file not in self._known:
            self._known[file] = self._load(file)
        return self._known[file]

    def _load(self, file: str) -> bool:
        shown = posixpath.join(self._folder, file)
        if len(self._read_files) >= MAX_FILES:
            what = f"the document refers to more than {MAX_FILES} files: this one is left out"
            self._problems.append(Problem(shown, 0, 0, what, "put some of them together"))
            return False
        try:
            self._read_files[file] = document.read(self._read(file), shown, whole=True).root
        except OSError as error:
            what = f"the document refers to this file, which cannot be read: {error.strerror}"
            hint = "copy it there, or remove the `$ref`"
            self._problems.append(Problem(shown, 0, 0, what, hint, "warning"))
            return False
        except UnusableError as error:
            self._problems += [
                msgspec.structs.replace(each, severity="warning") for each in error.problems
            ]
            return False
        self.waiting.append(file)
        return True


def _made(entries: dict[str, Mapping]) -> Mapping:
    folded = {key.casefold(): key for key in reversed(entries)}
    return Mapping(0, 0, {key: MappingEntry(0, 0, node) for key, node in entries.items()}, folded)


def _with(root: Mapping, key: str, node: Node) -> Mapping:
    entries = {**root.entries, key: MappingEntry(0, 0, node)}
    return msgspec.structs.replace(
        root, entries=entries, folded={key.casefold(): key, **root.folded}
    )


def _opened(root: Mapping, node: Mapping, path: tuple[str, ...]) -> Mapping:
    """Replace a reference for a whole section by its target: no reader resolves it there."""
    entry = node.find(path[0])
    if entry is None or not isinstance(entry.node, Mapping):
        return node
    key = next(key for key in node.entries if node.entries[key] is entry)
    value: Node = entry.node
    if len(path) > 1:
        value = _opened(root, entry.node, path[1:])
    elif "$ref" in entry.node.entries:
        value = references.look(root, entry.node) or entry.node
    entries = {**node.entries, key: MappingEntry(entry.line, entry.column, value)}
    return msgspec.structs.replace(node, entries=entries)


def needed(root: Mapping) -> bool:
    """Return whether a document refers to other documents, or a section of it to its target."""
    stack: list[tuple[int, Node]] = [(0, root)]
    while stack:
        depth, node = stack.pop()
        if isinstance(node, Sequence):
            stack += [(depth + 1, item) for item in node.items]
        elif isinstance(node, Mapping):
            entry = node.entries.get("$ref")
            if entry is not None and isinstance(entry.node, Scalar):
                text = entry.node.text
                if depth == 1 or not text.startswith("#"):
                    return True
            stack += [(depth + 1, entry.node) for entry in node.entries.values()]
    return False
