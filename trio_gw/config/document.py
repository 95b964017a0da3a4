"""One YAML or JSON file as a tree of values with line numbers; safe for any input.

Called by `project` for each file of an API project. Content whose first character is `{` is
JSON, everything else YAML (spec: project-format §2.1). Only this file uses PyYAML, and only its
event stream: the composer recurses in C, so a hundred thousand open brackets would crash the
process.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec
import yaml

from trio_gw.config import jsontext
from trio_gw.config.jsontext import BREAK, Lines
from trio_gw.config.node_builder import Builder
from trio_gw.config.nodes import (
    Mapping,
    MappingEntry,
    Node,
    Path,
    Plain,
    Scalar,
    Sequence,
    plain_scalar,
    plain_value,
)

MAX_SIZE = 2 * 1024 * 1024  # The largest exported definitions are a few hundred kB.

_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SLASHES = re.compile(r"(?:^|\s)//")
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {None, *(_TAG + name for name in ("null", "bool", "int", "float"))}
_KNOWN_TAGS = {"!", *_PLAIN_TAGS, *(_TAG + name for name in ("str", "map", "seq"))}

# Message of libyaml, its meaning, and a hint.
_SYNTAX = (
    (
        "mapping values are not allowed",
        "a second `:` on this line, where only a value is allowed",
        "put the value in quotes, or check the indentation of this line and the one above",
    ),
    (
        "could not find expected ':'",
        "a `:` was expected after this key",
        "write `key: value`, and check the indentation",
    ),
    (
        "unexpected end of stream",
        "a text that begins with a quote is never closed",
        "add the closing quote",
    ),
    (
        "did not find expected '-'",
        "a list item was expected",
        "begin each item of the list with `- ` at the same indentation",
    ),
    (
        "did not find expected key",
        "a key was expected",
        "align this line with the other keys of its mapping",
    ),
    ("expected node content", "a value was expected", "write the value, and close every bracket"),
    (
        "did not find expected ',' or ']'",
        "`,` or `]` was expected",
        "put commas between the items, and close the list with `]`",
    ),
    (
        "did not find expected ',' or '}'",
        "`,` or `}` was expected",
        "put commas between the keys, and close the mapping with `}`",
    ),
    ("undefined tag handle", "tags are not read", "remove the word that begins with `!`"),
    (
        "unknown escape",
        "an escape that YAML does not know",
        "double the backslash, or use single quotes",
    ),
)


class Document(msgspec.Struct, frozen=True):
    """A file that was read. Its root is always a mapping."""

    file: str
    root: Mapping

    def node(self, path: Path) -> Node | None:
        """Find the node at a path of keys and indexes, or None; keys regardless of case."""
        node: Node = self.root
        for step in path:
            if isinstance(node, Mapping) and isinstance(step, str):
                entry = node.find(step)
                if entry is None:
                    return None
                node = entry.node
            elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                return None
        return node

    def value(self, path: Path = ()) -> Plain:
        """Return the plain value at a path; None when there is none."""
        node = self.node(path)
        return None if node is None else plain_value(node)

    def place(self, path: Path) -> tuple[int, int]:
        """Return line and column of a value; of the nearest key above it when it is missing."""
        node: Node | MappingEntry | None = self.node(path)
        for end in range(len(path) - 1, 0, -1):
            if node is not None:
                break
            node = self.node(path[:end])
            above = self.node(path[: end - 1])
            if node is not None and isinstance(above, Mapping):
                node = above.find(str(path[end - 1]))
        found = node or self.root
        return found.line, found.column


def read(data: bytes, file: str, *, whole: bool = False) -> Document:
    """Read a file's bytes; `file` is its name in messages.

    Unless `whole`, the schemas of messages in an AsyncAPI document are left out: they are not used,
    so they do not count towards the maximum number of values.

    Raises `IncompleteError` for a file that may be copied only in part (empty, broken syntax),
    `UnusableError` for other files that cannot be used. spec: project-format §2.1.
    """
    builder = Builder(file, whole=whole)
    text = _decode(data, builder)
    if text.lstrip(" \t\r\n").startswith("{"):
        jsontext.feed(text, builder)
    elif text.strip():  # White space alone may be invalid YAML, but the file counts as empty.
        _feed_yaml(text, builder)
    root = builder.root
    if root is None or (isinstance(root, Scalar) and root.plain and root.value is None):
        hint = "copy the whole file, or remove it"
        builder.refuse(0, 0, "the file is empty", hint, incomplete=True)
    if isinstance(root, Scalar):
        what, hint = "the file is one text without keys", "write `key: value` lines"
        builder.refuse(root.line, root.column, what, hint, incomplete=True)
    if not isinstance(root, Mapping):
        builder.refuse(
            root.line,
            root.column,
            "the file is a list, but keys were expected",
            "begin with `key: value` instead of `-` or `[`",
        )
    return Document(file, root)


def _decode(data: bytes, builder: Builder) -> str:
    if len(data) > MAX_SIZE:
        what = f"the file has {len(data):,} bytes, more than {MAX_SIZE:,}"
        builder.refuse(0, 0, what, "shorten the file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        builder.refuse(1, 1, "the file is UTF-16", "save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        cut = error.reason == "unexpected end of data"
        what = "the file is not UTF-8 text"
        builder.refuse(line, column, what, "save it as UTF-8", incomplete=cut)
    found = _FORBIDDEN.search(text)
    if found:
        line, column = Lines(text).place(found.start())
        what = f"a control character (U+{ord(found[0]):04X}); is this a text file?"
        hint = "remove it, or save the file as UTF-8 text"
        # Some tools reserve the whole length before they copy, so a file can end in zeros.
        builder.refuse(line, column, what, hint, incomplete=text.endswith("\0"))
    return text


def _feed_yaml(text: str, builder: Builder) -> None:
    documents, began = 0, (0, 0)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            assert event.start_mark is not None
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                began = line, column
            elif documents > 1 and isinstance(event, yaml.NodeEvent):
                if isinstance(event, yaml.ScalarEvent) and not (event.value or event.style):
                    continue  # An empty document, as templates and editors leave it.
                builder.refuse(
                    *began,
                    "a second document begins here",
                    "keep one document; remove the line `---` and what follows it",
                )
            elif isinstance(event, yaml.AliasEvent):
                builder.alias(event.anchor or "", line, column)
            elif isinstance(event, yaml.ScalarEvent):
                _known_tag(event.tag, line, column, builder)
                builder.scalar(_yaml_scalar(event, line, column), event.anchor)
            elif isinstance(event, yaml.CollectionStartEvent):
                _known_tag(event.tag, line, column, builder)
                mapping = isinstance(event, yaml.MappingStartEvent)
                builder.open(line, column, event.anchor, mapping=mapping)
            elif isinstance(event, yaml.CollectionEndEvent):
                builder.close()
    except yaml.YAMLError as error:
        _refuse_syntax(error, text, builder)


def _yaml_scalar(event: Any, line: int, column: int) -> Scalar:  # noqa: ANN401 - stubs lack it
    text: str = event.value
    plain = event.style in (None, "") and event.tag in _PLAIN_TAGS
    return plain_scalar(line, column, text) if plain else Scalar(line, column, text, text)


def _known_tag(tag: str | None, line: int, column: int, builder: Builder) -> None:
    if tag not in _KNOWN_TAGS:
        builder.refuse(
            line,
            column,
            f"the tag `{str(tag).replace(_TAG, '!!')[:80]}` is not read",
            "remove the word that begins with `!`",
        )


def _refuse_syntax(error: yaml.YAMLError, text: str, builder: Builder) -> NoReturn:
    said = str(getattr(error, "problem", None) or "the YAML cannot be read")
    mark = getattr(error, "problem_mark", None)
    context = getattr(error, "context_mark", None)
    if context and ("expected ':'" in said or "unexpected end" in said):
        mark = context  # The beginning is more useful than the place where the parser stopped.
    lines = BREAK.split(text)
    last = len(lines) if lines[-1] else max(len(lines) - 1, 1)
    line, column = (min(mark.line + 1, last), mark.column + 1) if mark else (0, 0)
    if "nesting depth" in said:
        # Newer parsers read ahead and have a bound of their own.
        builder.refuse_depth(line, column)
    what, hint = f"YAML syntax: {said}", "check indentation, brackets and quotes around this line"
    for words, meaning, remedy in _SYNTAX:
        if words in said:
            what, hint = f"YAML syntax: {meaning}", remedy
    if "cannot start any token" in said and line:
        rest = lines[line - 1][column - 1 :]
        what = f"YAML syntax: a value cannot begin with `{rest[:1]}`"
        hint = "put the value in quotes"
        if rest.startswith("\t"):
            what, hint = "YAML syntax: a tab in the indentation", "indent with spaces"
    if any(_SLASHES.search(near) for near in lines[max(line - 2, 0) : line]):
        hint = f"YAML comments start with `#`, not with `//`; or else {hint}"
    builder.refuse(line, column, what, hint, incomplete=True)
