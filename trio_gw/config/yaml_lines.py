"""Lines of a YAML file: where entries end, and how new ones are written. Called by `text_edit`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from trio_gw.config.nodes import Mapping, MappingEntry, Plain, Scalar, Sequence, plain_scalar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

_PLAIN = re.compile(
    r"[A-Za-z/_.$](?:[A-Za-z0-9/_.$~+@*{}()?=&-]|:(?=[A-Za-z]))*"
    r"|wss?://[A-Za-z0-9~/_.:-]*[A-Za-z0-9/]"
)
_NO_TEXT = frozenset(["true", "false", "null", "yes", "no", "on", "off", "y", "n"])
_SAME_STYLE = re.compile(r"[A-Za-z0-9/][\w./-]*")
DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"')
SINGLE = re.compile(r"'(?:[^']|'')*'")
_PLAIN_KEY = re.compile(r"[^\s#&*!|>'\"%@`{\[\]},?:-](?:[^:#]|:(?=\S)|(?<=\S)#)*?(?=\s*:(?:\s|$))")
_PLAIN_VALUE = re.compile(r"[^\s&*!|>'\"%@`{\[\]},#](?:(?!\s#).)*?(?=\s*$|\s+#)")
_COMMENT = re.compile(r"(?P<comment>\s+#.*)$")
_BEHIND_BRACKET = re.compile(r"[}\]](?P<comment>\s+#[^}\]]*)$")


def scalar(text: str) -> str:
    """Write a text, in quotes if it could be read as something else."""
    plain = _PLAIN.fullmatch(text) and text.casefold() not in _NO_TEXT
    if plain and plain_scalar(0, 0, text).value == text and not re.match(r"[\d.]", text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def written(value: Plain) -> str:
    """Write a value on one line; collections in brackets."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return scalar(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{scalar(key)}: {written(each)}" for key, each in value.items())
        return f"{{{inner}}}"
    return f"[{', '.join(map(_in_flow, value))}]"


def _in_flow(value: Plain) -> str:
    text = written(value)
    bare = isinstance(value, str) and text == value and not re.fullmatch(r"[\w./:-]+", value)
    return json.dumps(value, ensure_ascii=False) if bare else text


def like(value: Plain, old: Scalar) -> str:
    """Write a value in the style of the one that it replaces, if that keeps its meaning."""
    if not (isinstance(value, str) and old.plain and _SAME_STYLE.fullmatch(value)):
        return written(value)
    keeps = plain_scalar(0, 0, value).value == value and value.casefold() not in _NO_TEXT
    return value if keeps else written(value)


def entry(head: str, value: Plain, column: int, width: int, offset: int) -> list[str]:
    """Write an entry in block style; `head` is its key with the colon."""
    return list(_entry(head, value, column, width, offset))


def _entry(head: str, value: Plain, column: int, width: int, offset: int) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield head
        inner = column + width
        for key, each in value.items():
            yield from _entry(f"{' ' * inner}{scalar(key)}:", each, inner, width, offset)
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        yield head
        inner = column + offset
        for each in value:
            yield from _item(each, inner, width, offset)
    elif isinstance(value, list) and len(written(value)) > 60:
        yield head
        for each in value:
            yield f"{' ' * (column + offset)}- {written(each)}"
    else:
        yield f"{head} {written(value)}"


def _item(value: Plain, column: int, width: int, offset: int) -> Iterator[str]:
    if not isinstance(value, dict) or not value:
        yield f"{' ' * column}- {written(value)}"
        return
    for number, (key, each) in enumerate(value.items()):
        lead = f"{' ' * column}{'- ' if number == 0 else '  '}"
        yield from _entry(f"{lead}{scalar(key)}:", each, column + 2, width, offset)


def token_end(line: str, at: int, *, key: bool = False) -> int | None:
    """Return where the scalar at a column ends; of a key behind its colon. None if unclear."""
    rest = line[at:]
    if key and rest.startswith("- "):
        return None
    for pattern in (DOUBLE, SINGLE, _PLAIN_KEY if key else _PLAIN_VALUE):
        if found := pattern.match(rest):
            break
    else:
        # An empty value ends where it begins.
        return None if key or rest.strip() else at
    end = at + found.end()
    if not key:
        return end if re.match(r"\s*$|\s+#", line[end:]) else None
    colon = re.match(r"\s*:(?=\s|$)", line[end:])
    return None if colon is None else end + colon.end()


def has_property(line: str, at: int) -> bool:
    """Return whether the value on this line has an anchor or a tag, or is an alias."""
    end = token_end(line, at, key=True)
    return end is not None and line[end:].lstrip()[:1] in ("&", "*", "!")


def comment_behind(line: str, at: int) -> str:
    """Return the comment at the end of a line, if a column or brackets are just before it."""
    found = _COMMENT.match(line[at:]) or _BEHIND_BRACKET.search(line[at:])
    return found["comment"] if found else ""


def content_end(lines: Items[str], first: int, end: int) -> int:
    """Return `end` without the blank lines and comments before it."""
    while end > first + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip()[0] == "#"):
        end -= 1
    if end > first + 1 and re.fullmatch(r"\.\.\.\s*(#.*)?", lines[end - 1]):
        return content_end(lines, first, end - 1)
    return end


def is_comment(line: str, column: int) -> bool:
    """Return whether a line is a comment at this column."""
    return line.startswith(" " * column + "#")


def is_comment_below(line: str, column: int) -> bool:
    """Return whether a line is a comment that is indented more than this column."""
    text = line.lstrip(" ")
    return text.startswith("#") and len(line) - len(text) > column


def _mappings(root: Mapping) -> Iterator[tuple[MappingEntry, Mapping | Sequence]]:
    """List the entries whose values are collections, from the top down."""
    waiting = [root]
    for mapping in waiting:
        for each in mapping.entries.values():
            if isinstance(each.node, Mapping | Sequence):
                yield each, each.node
            if isinstance(each.node, Mapping):
                waiting.append(each.node)


def step(root: Mapping) -> int:
    """Return by how many columns nested mappings are indented."""
    for each, node in _mappings(root):
        if isinstance(node, Mapping) and node.entries and node.line > each.line:
            return max(node.column - each.column, 1)
    return 2


def offset(root: Mapping, lines: Items[str]) -> int:
    """Return by how many columns the items of lists are indented below their key."""
    for each, node in _mappings(root):
        if isinstance(node, Sequence) and node.line > each.line:
            line = lines[node.line - 1] if node.line <= len(lines) else ""
            if line.lstrip().startswith("-"):
                return max(len(line) - len(line.lstrip()) - each.column + 1, 0)
    return step(root)
