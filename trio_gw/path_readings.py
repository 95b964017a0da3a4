"""How backends read a path: every text that a modelled reader may take it for. No I/O.

Servers, frameworks and URL parsers decode, split and compare paths in different ways, so one
spelling has several readings. Each difference is a step here, and a reading is what any sequence
of steps gives: all orders, each of them any number of times. docs/security.md lists the readers.

Steps that do not move the borders of segments (case, white space) are applied to both sides of a
comparison instead, by `folded`: what is equal before it is equal after it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

MOST = 128  # readings; a path with escapes, parameters and Unicode has about twenty
MOST_CHARACTERS = 48 * 1024  # in all readings of one text: bounds the time for a long path

PLAIN = re.compile(
    r"(?:/[A-Za-z0-9_~!$&'()*,:=@-]+(?:\.+[A-Za-z0-9_~!$&'()*,:=@-]+)*)*/?", re.ASCII
)
"""A path that has one reading, but for the case of its letters."""

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPED_SLASH = re.compile(r"(%2[Ff])")
_NOT_ASCII = re.compile(r"%[89A-Fa-f]")
_UTF16_ESCAPE = re.compile(r"%[uU]([0-9A-Fa-f]{4})")  # of JavaScript's escape(), known to IIS
# UTF-8 in more bytes than needed (RFC 3629 section 3 forbids it); the first form also as decoders
# take it that do not look whether the second byte continues anything.
_OVERLONG = re.compile(
    rb"[\xc0\xc1][\x00-\xff]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}"
    rb"|\xf8[\x80-\x87][\x80-\xbf]{3}|\xfc[\x80-\x83][\x80-\xbf]{4}",
    re.DOTALL,
)
_PARAMETER = re.compile(r";[^/]*")  # RFC 3986 section 3.3; servlet containers drop it
_SEPARATORS = re.compile(r"[&;?]")
_END = re.compile(r"[?#\x00;]")  # begins a query, a fragment, or ends a C string
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
# What is never shown: soft hyphens, zero-width spaces, marks of direction and byte order.
_IGNORABLE = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_AUTHORITY = re.compile(r"//[^/]*(/.*)?", re.DOTALL)  # a network-path reference, RFC 3986 4.2
_DOT_SEGMENT = re.compile(r"(?:^|/)\.\.?(?:/|$)")
# Letters that become i by themselves for readers that compare letter by letter.
_DOTTED = {0x130: "i", 0x131: "i"}


class TooManyReadingsError(Exception):
    """A path so convoluted that not all of its readings are looked at."""


def readings(path: str) -> set[str]:
    """Return every reading of a path, the path itself among them.

    Raises TooManyReadingsError.
    """
    return _closure(path, _PATH_STEPS)


def query_values(query: str, names: Collection[str]) -> set[tuple[str, str]]:
    """Return what a query may be read to say of the parameters of these (folded) names.

    Pairs of name and value, both folded. Raises TooManyReadingsError.
    """
    found: set[tuple[str, str]] = set()
    for text in _closure(query, _QUERY_STEPS):
        for part in {*text.split("&"), *_SEPARATORS.split(text)}:
            name, _, value = part.partition("=")
            name = fold(name.partition("[")[0])  # id[]=7, as PHP has it
            if name in names:
                # Who splits before decoding takes no escaped `&` for a separator.
                found.update((name, fold(each)) for each in _closure(value, _QUERY_STEPS))
                if len(found) > MOST:
                    raise TooManyReadingsError
    return found


def folded(path: str) -> set[str]:
    """Return what a reading is compared as: without case, white space or empty segments.

    There are two answers where a reader may keep empty or blank segments.
    """
    segments = [fold(segment) or (segment and " ") for segment in path.split("/")]
    kept = "/".join(segments)
    if "//" not in kept and " " not in segments:
        return {kept}
    return {kept, "/".join(("", *(segment for segment in segments if segment.strip())))}


def fold(text: str) -> str:
    """Return what a segment, name or value is compared as; equal texts stay equal."""
    if text.isascii():
        text = text.lower()
    else:
        compatible = unicodedata.normalize("NFKC", text)
        if compatible.count("/") == text.count("/"):  # else it is another reading
            text = compatible
        text = text.translate(_DOTTED).casefold()
    # Windows drops white space and dots from the end of a name, others white space at both ends.
    text = text.replace("+", " ").strip()
    return text.rstrip(" .") or text


def has_dot_segment(path: str) -> bool:
    """Tell whether a reading of the path has a segment `.` or `..`; bounded, for any path.

    Applies every step at once, again and again, so it does not need the set of readings.
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
            for reading in step(at):
                if reading in found:
                    continue
                characters += len(reading)
                if len(found) >= MOST or characters > MOST_CHARACTERS:
                    raise TooManyReadingsError
                found.add(reading)
                todo.append(reading)
    return found


def _decode(text: str, decode: Callable[[bytes], str]) -> str:
    text = _UTF16_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return _ESCAPES.sub(lambda found: decode(bytes.fromhex(found[0].replace("%", ""))), text)


def _lenient(data: bytes, errors: str) -> str:
    """Decode UTF-8, overlong forms too; what is none is replaced or left out."""
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
        # Who splits before decoding takes no escaped slash for a separator.
        if len(pieces) > 1:
            yield "".join(
                piece if index % 2 else _decode(piece, decode) for index, piece in enumerate(pieces)
            )
        if whole.isascii() and not _NOT_ASCII.search(text):
            return  # then all of them agree


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
