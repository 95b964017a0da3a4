"""`x-uri-mapping`: a topic's own backend path and query. Called by `asyncapi`.

spec: project-format §5.4; how a mapping is applied: routing §5.
"""

from __future__ import annotations

import re
import urllib.parse
from collections import Counter

from trio_gw.config.api import UriMapping
from trio_gw.config.faults import WrongError

PLACEHOLDER = re.compile(r"\{uri\.var\.([^{}]*)\}")

_PATH = re.compile(r"[a-zA-Z0-9~/_.\-]*")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse(text: str, parameters: frozenset[str]) -> UriMapping:
    """Parse a mapping and check it against the parameters of its channel.

    The path gets a leading slash if it has none. Path and query are kept as written; of a
    repeated name in the query the last value counts. Raises `WrongError`.
    """
    path, mark, query = text.partition("?")
    if not path.strip():
        raise WrongError(
            "the mapping has no path",
            "write a path such as `/rooms`, or remove `x-uri-mapping` to call the endpoint as"
            " it is",
        )
    _check_placeholders(path, parameters)
    rest = _ESCAPE.sub("", PLACEHOLDER.sub("/", path))
    if not _PATH.fullmatch(rest):
        bad = next(character for character in rest if not _PATH.fullmatch(character))
        raise WrongError(
            f"the rewrite path includes the invalid character {bad!r}",
            "use letters, digits and `~ / _ . -`, and percent-encode others; a channel parameter"
            " is written `{uri.var.name}`",
        )
    _check_escapes(path)
    path = f"/{path.removeprefix('/')}"
    return UriMapping(path, _pairs(query, parameters) if mark else None)


def repeated(text: str) -> list[str]:
    """Return the query parameters that a mapping has more than once."""
    names = [part.partition("=")[0] for part in text.partition("?")[2].split("&") if part]
    return [name for name, count in Counter(map(_decoded, names)).items() if count > 1]


def _check_placeholders(text: str, parameters: frozenset[str]) -> None:
    for name in PLACEHOLDER.findall(text):
        if name not in parameters:
            known = ", ".join(f"`{{{each[:40]}}}`" for each in sorted(parameters)[:10])
            hint = f"the channel has {known}" if known else "the channel has no parameters"
            raise WrongError(f'invalid path param "{name[:80]}" in rewrite path', hint)


def _pairs(query: str, parameters: frozenset[str]) -> tuple[tuple[str, str], ...] | None:
    pairs: dict[str, tuple[str, str]] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not name or not equals:
            what = f"the query parameter `{part[:80]}` is not written `name=value`"
            raise WrongError(what, "write `name=value`, or `name=` for an empty value")
        if "{" in name:
            what = f"a placeholder cannot be the name of a query parameter (`{part[:80]}`)"
            raise WrongError(what, "write `name={uri.var.parameter}`")
        _check_placeholders(value, parameters)
        if "{" in PLACEHOLDER.sub("", value) or "}" in PLACEHOLDER.sub("", value):
            what = (
                f"the query parameter `{part[:80]}` has a brace that is not part of a placeholder"
            )
            raise WrongError(what, "write `{uri.var.name}`, or `%7B` and `%7D` for braces")
        _decoded(value)
        pairs[_decoded(name)] = name, value
    return tuple(pairs.values()) or None


def _check_escapes(path: str) -> None:
    """Raise `WrongError` for escapes that are not allowed in a request path."""
    if "\\" in (text := urllib.parse.unquote(path, errors="replace")) or _CONTROL.search(text):
        what = f"`{path[:80]}` holds an escaped backslash or control character"
        raise WrongError(what, "remove it")


def _decoded(text: str) -> str:
    try:
        if _BAD_PERCENT.search(text):
            raise ValueError
        decoded = urllib.parse.unquote_plus(text, errors="strict")
    except ValueError:
        what = f"`{text[:80]}` is not percent-encoded UTF-8"
        raise WrongError(what, "write `%` as `%25`") from None
    if _CONTROL.search(decoded):
        what = f"`{text[:80]}` holds a control character"
        raise WrongError(what, "remove it")
    return decoded
