"""Request heads, bounded and strict; small responses. No I/O.

Our own checks run before h11, because h11 accepts what a gateway must not (bare LF, line folding,
bodies on an upgrade). Whatever two parsers could read differently is refused here, before anything
reaches a backend. Called by `proxy.connection`.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

import h11

from trio_gw.errors import Refusal, router_refusal
from trio_gw.wire.fields import NO_CONTROLS, plain_fields, split_lines
from trio_gw.wire.head import RequestHead
from trio_gw.wire.hello import PROXY_V2, is_proxy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.errors import Headers

MAX_HEAD = 60 * 1024  # bytes; the limit of Envoy, because cookies and JWTs can be long
MAX_TARGET = 32 * 1024  # bytes; RFC 9112 §3 recommends 8,000 at least
LINE = 64  # bytes of the request line other than the target: method, version
MAX_HEADERS = 100  # fields; browsers send about 20
MAX_BODY = 16 * 1024  # bytes of a request to a built-in endpoint

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ ]+) (HTTP/[0-9]\.[0-9])")
# A request line with nothing to check: no escapes, no path parameters, origin form.
_PLAIN_LINE = re.compile(rb"GET (/[!$&-:=@-\[\]^_`a-z|~]*)(?:\?([!-\"$&-~]*))? HTTP/1\.1\r\n")
_NOT_IN_LINE = re.compile(rb"[^ -~\r\n]")
# A CR or LF that is not part of a CRLF (RFC 9112 §2.2). The LF after a final CR may still come.
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
_FOLDED = re.compile(rb"\r\n[ \t]")
_LENGTHS = re.compile(rb"\r\ncontent-length[ \t]*:([^\r]*)", re.IGNORECASE)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"(?:http|ws)s?://([^/?#]*)([^#]*)", re.IGNORECASE)
_TARGET = re.compile(rb"[\x21-\x22\x24-\x7e]+")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
# A segment that some backends treat as `.` or `..`. `;` starts a path parameter for some of them.
_DOT_SEGMENT = re.compile(rb"(?:^|[/\\])\.\.?(?:;[^/\\]*)?(?:[/\\]|$)")
_NO_PROXY = (
    "this port does not take it. Turn it off (HAProxy: send-proxy, nginx: proxy_protocol) and use"
    " X-Forwarded-For (setting trusted_proxies)"
)


def bad_request(what: str, status: int = 400, headers: Headers = ()) -> Refusal:
    """Refuse a request that is invalid, or that could be read in more than one way."""
    reason = HTTPStatus(status).phrase
    return router_refusal(status, str(status), reason, what, headers=headers, why=what)


class Bounds(NamedTuple):
    """The largest sizes of a request head and its target, in bytes."""

    head: int = MAX_HEAD
    target: int = MAX_TARGET


class RequestReader:
    """Reads one request head, and on demand its body.

    Feed it what was received. It raises `Refusal` as soon as the request cannot become valid, so
    the gateway does not wait for the end of a line that never comes.
    """

    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - immutable
        self._bounds = bounds
        self._buffer = bytearray()
        self._body = bytearray()
        self._line_seen = False
        self._head = b""
        self._http: h11.Connection | None = None  # only if there is something to decide

    def feed(self, data: bytes) -> RequestHead | None:
        """Add bytes; returns the head when it is complete. The rest is `leftover` then."""
        buffer = self._buffer
        if not buffer and (plain := self._plain(data)) is not None:
            return plain
        # Earlier bytes are checked, except for the last ones: they may be halves of what comes now.
        seen = max(len(buffer) - 3, 0)
        buffer += data
        end = buffer.find(b"\r\n\r\n", seen)
        self._check_progress(seen, end + 4 if end >= 0 else len(buffer))
        if end < 0:
            return None
        head = bytes(buffer[: end + 4])
        del buffer[: end + 4]
        return self._parse(head)

    def _plain(self, data: bytes) -> RequestHead | None:
        """Parse a head that arrived complete and has nothing to check, as nearly all do.

        Returns None for all others. What passes here would pass the full checks, with the same
        result.
        """
        most, most_target = self._bounds
        if data.endswith(b"\r\n\r\n") and len(data) <= most:
            end = len(data) - 4  # if the head ends before, the empty line is part of no head
        else:
            end = data.find(b"\r\n\r\n", 0, most)
        if end < 0 or (line := _PLAIN_LINE.match(data)) is None:
            return None
        path, query = line.groups(b"")
        begin = line.end()
        lines = split_lines(data[begin:end])
        if begin > most_target or b"/." in path or not 0 < len(lines) <= MAX_HEADERS:
            return None
        if (fields := plain_fields(lines)) is None:
            return None
        found = RequestHead("GET", path.decode(), query.decode(), "", b"", tuple(fields))
        hosts = found.values(b"host")
        if len(hosts) != 1:
            return None
        found.authority = hosts[0]
        found.host = _host_name(hosts[0])
        self._head = data[: end + 4]
        self._buffer += data[end + 4 :]
        return found

    @property
    def leftover(self) -> bytes:
        """The bytes received after the head: the client's first frames, or a body."""
        return bytes(self._buffer)

    def _check_progress(self, seen: int, end: int) -> None:
        """Check the new part of the head.

        Bytes after the one that makes the head too long are not checked, so the response never
        depends on how the bytes were split on their way.
        """
        head, bounds = self._buffer, self._bounds
        most_line = bounds.target + LINE
        if head[:1] == b"\x16":
            raise bad_request("This is the plain port; TLS was received. Use ws:// or the TLS port")
        if head[:1] == PROXY_V2[:1]:
            raise bad_request(f"Not an HTTP request. If this is the PROXY protocol: {_NO_PROXY}")
        if head and not 0x41 <= head[0] <= 0x7A:
            raise bad_request("Not an HTTP request")
        line_end = 0 if self._line_seen else head.find(b"\r\n", 0, min(end, most_line))
        bound = min(end, most_line if line_end < 0 else bounds.head + 1)
        fresh = head[seen:bound]
        if fresh.translate(None, NO_CONTROLS):
            raise bad_request("Control character in the request head")
        # Counting is ten times faster than a check of the characters beside each.
        pairs = fresh.count(b"\r\n")
        odd = fresh.count(b"\n") != pairs or fresh.count(b"\r") != pairs
        if odd and _BARE_NEWLINE.search(head, seen, bound):
            raise bad_request("Line ends must be CR LF")
        if not self._line_seen:
            if _NOT_IN_LINE.search(head, seen, bound if line_end < 0 else line_end):
                raise bad_request("The request line holds a character that is not allowed there")
            if line_end < 0 and end >= most_line:
                raise _long_target(bounds)
            if line_end >= 0 and not _REQUEST_LINE.fullmatch(head, 0, line_end):
                if is_proxy(head):
                    raise bad_request(f"The PROXY protocol was received: {_NO_PROXY}")
                raise bad_request("Malformed request line")
            self._line_seen = line_end >= 0
        if end > bounds.head:
            what = f"Request head longer than {bounds.head} bytes (setting limits.head)"
            raise bad_request(what, 431)

    def _parse(self, head: bytes) -> RequestHead:
        line, _, fields = head.partition(b"\r\n")
        parts = _REQUEST_LINE.fullmatch(line)
        assert parts is not None
        method, target, version = parts.groups()
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise bad_request("Only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
        if len(target) > self._bounds.target:
            raise _long_target(self._bounds)
        if _FOLDED.search(head):
            raise bad_request("Folded header lines are obsolete (RFC 9112 section 5.2)")
        if fields.count(b"\r\n") - 1 > MAX_HEADERS:
            raise bad_request(f"More than {MAX_HEADERS} header fields", 431)
        self._head = head
        found = plain_fields(split_lines(fields[:-4]))
        if found is not None and [name for name, _ in found].count(b"host") == 1:
            headers = tuple(found)
        else:
            headers = self._parse_with_h11()
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
            raise bad_request("Both Content-Length and Transfer-Encoding (RFC 9112 section 6.1)")
        # HTTP/1.0 has no Host (RFC 1945 §5.2). With HTTP/1.1 there is one: h11 requires it.
        authority = next((value for name, value in headers if name == b"host"), None)
        return RequestHead(
            method.decode("ascii"),
            *_path_and_query(method, target, authority),
            "" if authority is None else _host_name(authority),
            authority or b"",
            headers,
            old=version == b"HTTP/1.0",
        )

    def _parse_with_h11(self) -> Headers:
        """Let h11 parse the head."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._bounds.head + 4)
        self._http.receive_data(self._head)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise bad_request(h11_error(error)) from None
        assert type(event) is h11.Request
        return tuple(event.headers)

    def body_connection(self) -> h11.Connection:
        """Return h11's connection, which has read the head and nothing of the body.

        Raises `Refusal` 400 for a length that is given twice, even if both are equal.
        """
        lengths = _LENGTHS.findall(self._head)
        if len(lengths) > 1 or any(b"," in length for length in lengths):
            raise bad_request("More than one Content-Length (RFC 9112 section 6.3)")
        if self._http is None:
            self._parse_with_h11()
        assert self._http is not None
        return self._http

    def feed_body(self, data: bytes) -> bytes | None:
        """Add bytes of the body, `leftover` first; returns the body when it is complete.

        Raises `Refusal` for a body that is malformed or longer than MAX_BODY.
        """
        if self._http is None:
            self._parse_with_h11()
        http = self._http
        assert http is not None
        if data:  # for h11, empty data means the end of the connection
            http.receive_data(data)
        try:
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    return None
                if type(event) is h11.EndOfMessage:
                    return bytes(self._body)
                assert type(event) is h11.Data
                self._body += event.data
                if len(self._body) > MAX_BODY:
                    raise bad_request(f"Body longer than {MAX_BODY} bytes", 413)
        except h11.RemoteProtocolError as error:
            raise bad_request(h11_error(error)) from None


def _long_target(bounds: Bounds) -> Refusal:
    what = f"Request target longer than {bounds.target} bytes (setting limits.target)"
    return bad_request(what, 414)


def h11_error(error: h11.RemoteProtocolError) -> str:
    """Return h11's error without the bytes that it quotes: they may contain a secret."""
    text = str(error).partition(": bytearray(")[0]
    return text[:1].upper() + text[1:]


def _host_name(authority: bytes) -> str:
    parts = _HOST.fullmatch(authority)
    if parts is None or (parts[2] and int(parts[2]) > 65535):
        raise bad_request("Malformed Host header")
    name = parts[1].decode("ascii").lower().rstrip(".")
    if not name:
        raise bad_request("Malformed Host header")
    return name


def _path_and_query(method: bytes, target: bytes, authority: bytes | None) -> tuple[str, str]:
    if method == b"CONNECT":
        raise bad_request("CONNECT is not offered", 405, ((b"allow", b"GET, OPTIONS"),))
    if absolute := _ABSOLUTE.fullmatch(target):
        if authority is not None and absolute[1].lower() != authority.lower():
            raise bad_request("The request target names another host than the Host header")
        target = absolute[2] or b"/"
        if target[:1] == b"?":
            target = b"/" + target
    if not _TARGET.fullmatch(target):
        raise bad_request("The request target holds a character that is not allowed in a URL")
    path, _, query = target.partition(b"?")
    if path[:1] != b"/" and (method, target) != (b"OPTIONS", b"*"):
        raise bad_request("The request target must start with /")
    if _BAD_ESCAPE.search(target):
        raise bad_request("Malformed percent-escape in the request target")
    if b"\\" in path:
        raise bad_request("The path must not hold a backslash; write it as %5C (RFC 3986)")
    if _DOT_SEGMENT.search(unquote_to_bytes(path)):
        raise bad_request("The path must not hold . or .. segments")
    return path.decode("ascii"), query.decode("ascii")


def response(
    status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, head_only: bool = False
) -> bytes:
    """Build a complete response that ends the connection."""
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    lines = [f"HTTP/1.1 {status} {reason}".encode("ascii")]
    options = [value for name, value in headers if name == b"connection"]
    lines += [name + b": " + value for name, value in headers if name != b"connection"]
    if status not in (204, 304):
        lines.append(b"content-length: %d" % len(body))
    lines.append(b"connection: " + b", ".join((*options, b"close")))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)
