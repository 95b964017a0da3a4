"""Changes single values in the text of a YAML or JSON file; everything else stays byte for byte.

Called by the editor of the portal. Only the lines of the changed entry are written anew, so
comments, order, quotes and indentation of the rest stay by construction. After each change the text
is read again and compared with the expected values: an edit that would change anything else is
refused.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from trio_gw.config import document, yaml_lines
from trio_gw.config.nodes import Mapping, MappingEntry, Plain, Scalar, plain_value
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

MOST = 256 * 1024  # bytes of a file that can be changed in this way
_ODD_BREAKS = re.compile("[\x85\u2028\u2029]|\r(?!\n)")
_INDENT = re.compile(r"^( +)\S", re.MULTILINE)


class NotEditableError(Exception):
    """The text cannot be changed in this way; the text gives the reason."""


class _EntryLines(NamedTuple):
    """An entry of a block mapping, and the lines [`first`, `end`) that it has, from 0."""

    holder: Mapping
    key: str
    found: MappingEntry
    first: int
    end: int


def editor(text: str, file: str) -> YamlText | JsonText:
    """Return an editor of this text. Raises `NotEditableError`."""
    if len(text.encode()) > MOST:
        raise NotEditableError(f"it has more than {MOST // 1024} KiB")
    try:
        found = document.read(text.encode(), file, whole=True)
    except UnusableError as error:
        first = error.problems[0]
        raise NotEditableError(f"line {first.line}: {first.what}") from None
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return JsonText(text)
    return YamlText(text, found.root)


class JsonText:
    """A JSON file, written anew as a whole; only if that leaves an unchanged file unchanged."""

    def __init__(self, text: str) -> None:
        self.text = text
        indent = _INDENT.search(text)
        self._indent = len(indent[1]) if indent else None
        self._end = "\n" if text.endswith("\n") else ""
        self.values: dict[str, Any] = json.loads(text)
        if self._dumped(self.values) != text:
            raise NotEditableError("its layout is not kept when it is written anew")

    def _dumped(self, values: object) -> str:
        pretty = self._indent is not None
        separators = None if pretty or ": " in self.text else (",", ":")
        dumped = json.dumps(
            values, indent=self._indent, separators=separators, ensure_ascii=self.text.isascii()
        )
        return dumped + self._end

    def set(self, path: Items[str], value: Plain) -> None:
        """Give the entry at a path this value."""
        _change(self.values, path, value)
        self.text = self._dumped(self.values)

    def delete(self, path: Items[str]) -> None:
        """Remove the entry at a path, if it is there."""
        if _remove(self.values, path):
            self.text = self._dumped(self.values)

    def rename(self, path: Items[str], name: str) -> None:
        """Give the entry at a path another key, at the same place."""
        _rename(self.values, path, name)
        self.text = self._dumped(self.values)


class YamlText:
    """A YAML file, of which single entries are written anew."""

    def __init__(self, text: str, root: Mapping) -> None:
        if _ODD_BREAKS.search(text):
            raise NotEditableError("it has line breaks that are neither LF nor CR LF")
        self._mark = "\ufeff" if text.startswith("\ufeff") else ""
        self._break = "\r\n" if "\r\n" in text else "\n"
        self._lines = text.removeprefix("\ufeff").split(self._break)
        self._root = root
        self.values: dict[str, Any] = _mapping(plain_value(root))
        if self._is_flow(root):
            raise NotEditableError("it is written in one pair of braces")

    @property
    def text(self) -> str:
        """The text with all changes."""
        return self._mark + self._break.join(self._lines)

    def set(self, path: Items[str], value: Plain) -> None:
        """Give the entry at a path this value; missing mappings above it are made."""
        if _get(self.values, path) == value and _has(self.values, path):
            return
        expected = copy.deepcopy(self.values)
        _change(expected, path, value)
        held = self._entries(path)
        if len(held) == len(path):
            lines = self._replaced(held[-1], value)
        else:
            # The last mapping on the way gets one entry more, which may hold others.
            rest = path[len(held) + 1 :]
            for key in reversed(rest):
                value = {key: value}
            lines = self._added(held, path[len(held)], value, expected)
        self._take(lines, expected)

    def delete(self, path: Items[str]) -> None:
        """Remove the entry at a path with the comments above it, if it is there."""
        expected = copy.deepcopy(self.values)
        if not _remove(expected, path):
            return
        held = self._entries(path)
        if len(held) < len(path):
            self._take(self._outer(held, expected), expected)
            return
        entry = held[-1]
        if len(entry.holder.entries) == 1 and len(held) > 1:
            # An empty mapping has to be written as one.
            self._take(self._replaced(held[-2], {}), expected)
            return
        column = entry.found.column - 1
        first = entry.first
        while first > 0 and yaml_lines.is_comment(self._lines[first - 1], column):
            first -= 1
        end = entry.end
        while end < len(self._lines) and yaml_lines.is_comment_below(self._lines[end], column):
            end += 1
        if first and not self._lines[first - 1].strip():
            while end < len(self._lines) - 1 and not self._lines[end].strip():
                end += 1
        self._take(self._lines[:first] + self._lines[end:], expected)

    def rename(self, path: Items[str], name: str) -> None:
        """Give the entry at a path another key, at the same place."""
        expected = copy.deepcopy(self.values)
        _rename(expected, path, name)
        held = self._entries(path)
        if len(held) < len(path):
            self._take(self._outer(held, expected), expected)
            return
        line = self._lines[held[-1].first]
        at = held[-1].found.column - 1
        end = yaml_lines.token_end(line, at, key=True)
        if end is None:
            self._refuse(held[-1])
        lines = list(self._lines)
        lines[held[-1].first] = f"{line[:at]}{yaml_lines.scalar(name)}:{line[end:]}"
        self._take(lines, expected)

    def _take(self, lines: list[str], expected: dict[str, Any]) -> None:
        """Use these lines if they mean what is expected."""
        text = self._break.join(lines)
        try:
            root = document.read(text.encode(), "", whole=True).root
        except UnusableError as error:
            raise NotEditableError(
                f"this place has an unusual form: {error.problems[0].what}"
            ) from None
        if plain_value(root) != expected:
            raise NotEditableError("this place has an unusual form; change it in the text")
        self._lines, self._root, self.values = lines, root, expected

    def _entries(self, path: Items[str]) -> list[_EntryLines]:
        """Find the entries on the way to a path, as long as they are lines of a block mapping."""
        node: object = self._root
        first, end = 0, len(self._lines)
        found: list[_EntryLines] = []
        for key in path:
            if not isinstance(node, Mapping) or self._is_flow(node) or not node.entries:
                break
            entry = node.entries.get(key)
            if entry is None or not first <= entry.line - 1 < end:
                break  # the second: it comes from another place, by an alias or a merge
            later = [
                each.line - 1 for each in node.entries.values() if entry.line < each.line <= end
            ]
            first, end = entry.line - 1, min(later, default=end)
            end = yaml_lines.content_end(self._lines, first, end)
            found.append(_EntryLines(node, key, entry, first, end))
            node = entry.node
            if isinstance(node, Mapping) and not first <= node.line - 1 < end:
                break
        return found

    def _is_flow(self, node: Mapping) -> bool:
        line = self._lines[node.line - 1] if 0 < node.line <= len(self._lines) else ""
        return line[node.column - 1 : node.column] == "{"

    def _replaced(self, entry: _EntryLines, value: Plain) -> list[str]:
        """Write the value of an entry anew; its key and a comment behind it stay."""
        line, node = self._lines[entry.first], entry.found.node
        if yaml_lines.has_property(line, entry.found.column - 1):
            self._refuse(entry)
        if isinstance(node, Scalar) and not isinstance(value, dict | list):
            same = node.line - 1 == entry.first and entry.end == entry.first + 1
            at = node.column - 1
            end = yaml_lines.token_end(line, at) if same else None
            if end is not None:
                new = yaml_lines.like(value, node)
                space = " " if line[at - 1 : at] == ":" else ""
                changed = f"{line[:at]}{space}{new}{line[end:]}"
                return [*self._lines[: entry.first], changed, *self._lines[entry.end :]]
        column = entry.found.column - 1
        end = yaml_lines.token_end(line, column, key=True)
        if end is None:
            self._refuse(entry)
        head = line[:end]
        new_lines = yaml_lines.entry(head, value, column, self._step(), self._offset())
        value_end = end
        if isinstance(node, Scalar) and entry.end == entry.first + 1:
            value_end = yaml_lines.token_end(line, node.column - 1) or end
        new_lines[0] += yaml_lines.comment_behind(line, value_end)
        return [*self._lines[: entry.first], *new_lines, *self._lines[entry.end :]]

    def _added(
        self, held: list[_EntryLines], key: str, value: Plain, expected: dict[str, Any]
    ) -> list[str]:
        """Add an entry to the mapping that the last of `held` is, or to the root."""
        node = held[-1].found.node if held else self._root
        inside = isinstance(node, Mapping) and bool(node.entries) and not self._is_flow(node)
        if not inside:
            return self._outer(held, expected)
        assert isinstance(node, Mapping)
        first, end = (held[-1].first, held[-1].end) if held else (0, len(self._lines))
        own = [each for each in node.entries.values() if first <= each.line - 1 < end]
        if not own or (held and node.line - 1 < first):
            self._refuse(held[-1])
        column = own[0].column - 1
        last = yaml_lines.content_end(self._lines, max(each.line for each in own) - 1, end)
        head = " " * column + f"{yaml_lines.scalar(key)}:"
        new_lines = yaml_lines.entry(head, value, column, self._step(), self._offset())
        return [*self._lines[:last], *new_lines, *self._lines[last:]]

    def _outer(self, held: list[_EntryLines], expected: dict[str, Any]) -> list[str]:
        """Write the last entry of `held` anew as a whole: it is empty, or written in braces."""
        if not held:
            raise NotEditableError("the file has an unusual form; change it in the text")
        entry = held[-1]
        if any("#" in line for line in self._lines[entry.first : entry.end][:-1]):
            self._refuse(entry)  # comments inside would be lost
        return self._replaced(entry, _get(expected, [each.key for each in held]))

    def _step(self) -> int:
        """Return by how many columns the file indents."""
        return yaml_lines.step(self._root)

    def _offset(self) -> int:
        """Return by how many columns the file indents the items of lists."""
        return yaml_lines.offset(self._root, self._lines)

    def _refuse(self, entry: _EntryLines) -> NoReturn:
        what = f"`{entry.key[:80]}` on line {entry.first + 1} has an unusual form"
        raise NotEditableError(f"{what}; change it in the text")


def _mapping(value: Plain) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _get(values: dict[str, Any], path: Items[str]) -> Any:  # noqa: ANN401 - a value of a file
    node: Any = values
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _has(values: dict[str, Any], path: Items[str]) -> bool:
    node = _get(values, path[:-1])
    return isinstance(node, dict) and path[-1] in node


def _change(values: dict[str, Any], path: Items[str], value: Plain) -> None:
    for key in path[:-1]:
        inner = values.get(key)
        if inner is None:
            inner = values[key] = {}
        if not isinstance(inner, dict):
            raise NotEditableError(f"`{key[:80]}` is no mapping")
        values = inner
    values[path[-1]] = value


def _remove(values: dict[str, Any], path: Items[str]) -> bool:
    if not _has(values, path):
        return False
    del _get(values, path[:-1])[path[-1]]
    return True


def _rename(values: dict[str, Any], path: Items[str], name: str) -> None:
    holder = _get(values, path[:-1])
    if not isinstance(holder, dict) or path[-1] not in holder:
        raise NotEditableError(f"there is no `{path[-1][:80]}`")
    if name in holder:
        raise NotEditableError(f"there is a `{name[:80]}` already")
    items = list(holder.items())
    holder.clear()
    holder.update((name if key == path[-1] else key, value) for key, value in items)
