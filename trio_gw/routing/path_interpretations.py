"""The ways in which backends may interpret a path. No I/O.

Servers, frameworks and URL parsers decode, split and compare paths in different ways, so one path
has several interpretations. Each difference is a step here. An interpretation is the result of any
sequence of steps, in any order, each any number of times. docs/security.md lists the modelled
servers and libraries.

Steps that do not move the borders of segments (case, white space) are not part of the sequences.
`folded` applies them to both sides of a comparison, so equal texts stay equal.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

MAX_COUNT = 128  # interpretations; a path with escapes, parameters and Unicode has about 20
MAX_CHARACTERS = 48 * 1024  # in all interpretations of one text; limits time for long paths

PLAIN = re.compile(
    r"(?:/[A-Za-z0-9_~!$&'()*,:=@-]+(?:\.+[A-Za-z0-9_~!$&'()*,:=@-]+)*)*/?", re.ASCII
)
"""A path with a single interpretation, apart from upper and lower case."""

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPED_SLASH = re.compile(r"(%2[Ff])")
_NOT_ASCII = re.compile(r"%[89A-Fa-f]")
_UTF16_ESCAPE = re.compile(r"%[uU]([0-9A-Fa-f]{4})")  # of JavaScript's escape(), known to IIS
# UTF-8 in more bytes than needed, which RFC 3629 section 3 forbids. The first form also covers
# decoders that do not check the second byte.
_OVERLONG = re.compile(
    rb"[\xc0\xc1][\x00-\xff]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}"
    rb"|\xf8[\x80-\x87][\x80-\xbf]{3}|\xfc[\x80-\x83][\x80-\xbf]{4}",
    re.DOTALL,
)
_PARAMETER = re.compile(r";[^/]*")  # RFC 3986 section 3.3; servlet containers drop it
_SEPARATORS = re.compile(r"[&;?]")
_END = re.compile(r"[?#\x00;]")  # starts a query or fragment, or ends a C string
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
# Invisible characters: soft hyphens, zero-width spaces, direction and byte order marks.
_IGNORABLE = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_AUTHORITY = re.compile(r"//[^/]*(/.*)?", re.DOTALL)  # a network-path reference, RFC 3986 4.2
_DOT_SEGMENT = re.compile(r"(?:^|/)\.\.?(?:/|$)")
# Letters that become i in comparisons letter by letter.
_DOTTED = {0x130: "i", 0x131: "i"}


class TooManyInterpretationsError(Exception):
    """A path or query has more interpretations than are checked."""


def interpretations(path: str) -> set[str]:
    """Return every interpretation of a path, including the path itself.

    Raises TooManyInterpretationsError.
    """
    return _closure(path, _PATH_STEPS)


def query_values(query: str, names: Collection[str]) -> set[tuple[str, str]]:
    """Return all values that the parameters `names` (folded) may have in a query.

    The result is pairs of name and value, both folded. Raises TooManyInterpretationsError.
    """
    found: set[tuple[str, str]] = set()
    for text in _closure(query, _QUERY_STEPS):
        for part in {*text.split("&"), *_SEPARATORS.split(text)}:
            name, _, value = part.partition("=")
            name = fold(name.partition("[")[0])  # id[]=7, as in PHP
            if name in names:
                # For parsers that split before decoding, an escaped `&` is not a separator.
                found.update((name, fold(each)) for each in _closure(value, _QUERY_STEPS))
                if len(found) > MAX_COUNT:
                    raise TooManyInterpretationsError
    return found


def folded(path: str) -> set[str]:
    """Return the forms in which a path is compared: without case, white space, empty segments.

    There are two forms if the path has empty or blank segments, because some servers keep them.
    """
    segments = [fold(segment) or (segment and " ") for segment in path.split("/")]
    kept = "/".join(segments)
    if "//" not in kept and " " not in segments:
        return {kept}
    return {kept, "/".join(("", *(segment for segment in segments if segment.strip())))}


def fold(text: str) -> str:
    """Return the form in which a segment, name or value is compared; equal texts stay equal."""
    if text.isascii():
        text = text.lower()
    else:
        compatible = unicodedata.normalize("NFKC", text)
        if compatible.count("/") == text.count("/"):  # otherwise it is another interpretation
            text = compatible
        text = text.translate(_DOTTED).casefold()
    # Windows drops trailing white space and dots; other systems drop white space at both ends.
    text = text.replace("+", " ").strip()
    return text.rstrip(" .") or text


def has_dot_segment(path: str) -> bool:
    """Return whether an interpretation of the path has a segment `.` or `..`.

    Applies all steps at once and repeats that, so it does not need the set of interpretations and
    its cost is bounded for any path.
    """
    for _ in range(8):
        bare = _CONTROLS.sub("", path)
        for each in (bare, _PARAMETER.sub("", bare), _END.split(path)[0]):
            if any(map(_DOT_SEGMENT.search, folded(each.replace("\\", "/")))):
                return True
        decoded = _decode(path, lambda data: _lenient(data, "ignore"))
        decoded = unicodedata.normalize("NFKC", decoded)
        if decoded == path:
            return False
        path = decoded
    return True


def _closure(text: str, steps: Sequence[Callable[[str], Iterator[str]]]) -> set[str]:
    found = {text}
    todo = [text]
    characters = len(text)
    while todo:
        at = todo.pop()
        for step in steps:
            for result in step(at):
                if result in found:
                    continue
                characters += len(result)
                if len(found) >= MAX_COUNT or characters > MAX_CHARACTERS:
                    raise TooManyInterpretationsError
                found.add(result)
                todo.append(result)
    return found


def _decode(text: str, decode: Callable[[bytes], str]) -> str:
    text = _UTF16_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return _ESCAPES.sub(lambda found: decode(bytes.fromhex(found[0].replace("%", ""))), text)


def _lenient(data: bytes, errors: str) -> str:
    """Decode UTF-8, including overlong forms; `errors` handles invalid bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _OVERLONG.sub(_shortest, data).decode("utf-8", errors)


def _shortest(found: re.Match[bytes]) -> bytes:
    first, *rest = found[0]
    code = first & (0x1F, 0x0F, 0x07, 0x03, 0x01)[len(rest) - 1]
    for byte in rest:
        code = code << 6 | byte & 0x3F
    return chr(code).encode("utf-8", "replace")


def _decoded(text: str) -> Iterator[str]:
    if "%" not in text:
        return
    pieces = _ESCAPED_SLASH.split(text)
    for decode in _DECODERS:
        yield (whole := _decode(text, decode))
        # For parsers that split before decoding, an escaped slash is not a separator.
        if len(pieces) > 1:
            yield "".join(
                piece if index % 2 else _decode(piece, decode) for index, piece in enumerate(pieces)
            )
        if whole.isascii() and not _NOT_ASCII.search(text):
            return  # all decoders give the same result


def _compatible(text: str) -> Iterator[str]:
    if not text.isascii():
        yield unicodedata.normalize("NFKC", text)
        yield _IGNORABLE.sub("", text)


def _without_controls(text: str) -> Iterator[str]:
    yield _CONTROLS.sub("", text)  # the URL Standard drops tabs and newlines


def _with_slashes(text: str) -> Iterator[str]:
    yield text.replace("\\", "/")


def _without_parameters(text: str) -> Iterator[str]:
    if ";" in text:
        yield _PARAMETER.sub("", text)


def _cut(text: str) -> Iterator[str]:
    for mark in "?#\x00;":
        if mark in text:
            yield text.partition(mark)[0]


def _without_authority(text: str) -> Iterator[str]:
    if found := _AUTHORITY.fullmatch(text):
        yield found[1] or "/"


_DECODERS: tuple[Callable[[bytes], str], ...] = (
    lambda data: _lenient(data, "replace"),
    lambda data: _lenient(data, "ignore"),
    lambda data: data.decode("latin-1"),
)
_PATH_STEPS = (
    *(_decoded, _with_slashes, _without_parameters, _cut, _without_controls, _compatible),
    _without_authority,
)
_QUERY_STEPS = (_decoded, _cut, _without_controls, _compatible)
