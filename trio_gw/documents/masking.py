"""Passwords in the files of a project, masked before a file is shown. Pure.

Masked are the credentials of backends, other keys that sound like secrets, passwords in URLs and
private keys. A file whose secrets cannot be found for certain is not shown: every masked text is
read again and compared.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.config import layout
from trio_gw.config.document import read
from trio_gw.config.jsontext import BREAK
from trio_gw.config.nodes import Mapping, Scalar, Sequence
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.nodes import Node

MASK = "********"
_QUOTED = f'"{MASK}"'

_SUSPECT = ("security", "pass", "secret", "private", "credential", "token", "key")
_LOGIN = re.compile(r"(://[^/\s\"'@:]*:)([^/\s\"'@]+)(?=@)")
_PEM = re.compile(
    r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)|secret|api_?key(?:_?value)?$|private_?key|credential|(?<!max)token$",
    re.IGNORECASE,
)
# Keys below the security of endpoints that hold no secret.
_HARMLESS = frozenset(
    ("enabled", "type", "granttype", "tokenurl", "username", "connectiontimeoutduration", "proxy")
)
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s+)*")
_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SINGLE = re.compile(r"'(?:[^']|'')*'", re.DOTALL)
_FLOW_PLAIN = re.compile(r"[^,\[\]{}\n]*")
_BLOCK_PLAIN = re.compile(r"(?:(?! #)[^\n])*")


_ENDPOINTS = re.compile(r"endpoint.?security")


class UnmaskableError(Exception):
    """The secrets of a file cannot be found for certain, so it is not shown."""


def masked(data: bytes, path: str) -> str:
    """Return the text of a file without secrets. Raises `UnmaskableError`."""
    text = data.decode("utf-8-sig", errors="replace")
    text = _PEM.sub(rf"\1\n{MASK}\n\2", text)
    text = _LOGIN.sub(rf"\g<1>{MASK}", text)
    # Plain searches: a regular expression would hold up the event loop in a long file.
    lowered = text.lower()
    definition = layout.kind(path) == "asyncapi"
    if not path.lower().endswith((".yaml", ".yml", ".json")):
        return text
    if not any(word in lowered for word in _SUSPECT):
        return text
    if definition and not ("endpoint" in lowered and _ENDPOINTS.search(lowered)):
        return text
    found = _secrets(text, path, definition=definition)
    if not found:
        return text
    edited = _without(text, found)
    left = _secrets(edited, path, definition=definition)
    if any(one.text != MASK for one in left):
        raise UnmaskableError
    return edited


def _secrets(text: str, path: str, *, definition: bool) -> list[Scalar]:
    try:
        root = read(text.encode(), path, whole=True).root
    except UnusableError:
        raise UnmaskableError from None
    found = {id(one): one for one in _walk(root, secret=False, definition=definition)}
    return list(found.values())


def _walk(node: Node, *, secret: bool, definition: bool) -> Iterator[Scalar]:
    """Yield the scalars that are secrets; `secret`: all below are, but for harmless keys."""
    if isinstance(node, Scalar):
        if secret and node.text and not (node.plain and not isinstance(node.value, str | int)):
            yield node
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from _walk(item, secret=secret, definition=definition)
    elif isinstance(node, Mapping):
        for key, entry in node.entries.items():
            name = re.sub(r"[^a-z]", "", key.casefold())
            below = "endpointsecurity" in name
            if secret:
                below = name not in _HARMLESS
            elif not definition and not below:
                below = isinstance(entry.node, Scalar) and bool(_SECRET_KEY.search(key))
            yield from _walk(entry.node, secret=below, definition=definition)


def _without(text: str, secrets: list[Scalar]) -> str:
    """Replace each scalar where it stands, the last one first; lines keep their numbers."""
    starts = [0, *(found.end() for found in BREAK.finditer(text))]
    for one in sorted(secrets, key=lambda each: (each.line, each.column), reverse=True):
        begin = starts[one.line - 1] + one.column - 1
        match = _PROPERTIES.match(text, begin)
        begin = begin if match is None else match.end()
        end, replacement = _end(text, begin)
        text = text[:begin] + replacement + text[end:]
    return text


def _end(text: str, begin: int) -> tuple[int, str]:
    """Return where a scalar ends, and what replaces it."""
    first = text[begin : begin + 1]
    for quote, pattern in (('"', _DOUBLE), ("'", _SINGLE)):
        if first == quote and (found := pattern.match(text, begin)):
            return found.end(), _QUOTED + "\n" * found[0].count("\n")
    if first in ("|", ">"):
        return _block_end(text, begin)
    line = text.rfind("\n", 0, begin) + 1
    flow = re.search(r"[\[{]", text[line:begin]) is not None
    found = (_FLOW_PLAIN if flow else _BLOCK_PLAIN).match(text, begin)
    end = begin if found is None else found.end()
    return begin + len(text[begin:end].rstrip()), _QUOTED


def _block_end(text: str, begin: int) -> tuple[int, str]:
    """Return the end of a block scalar: the next line that is not indented deeper."""
    line = text.rfind("\n", 0, begin) + 1
    indent = len(text[line:]) - len(text[line:].lstrip(" -"))
    at = text.find("\n", begin)
    while at != -1:
        following = text[at + 1 :].partition("\n")[0]
        if following.strip() and len(following) - len(following.lstrip(" ")) <= indent:
            break
        at = text.find("\n", at + 1)
    end = len(text) if at == -1 else at
    return end, _QUOTED + "\n" * text.count("\n", begin, end)
