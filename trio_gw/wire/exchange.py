"""Plain HTTP on a topic that allows it: one request to a backend, and the response. No I/O.

Both directions are framed anew. h11 parses the client's body and frames it for the backend, and the
other way round. So the framing of one side never reaches the other, and the two cannot disagree
about where a message ends (RFC 9112 §11.2). One connection carries one request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from trio_gw.wire.end_to_end import end_to_end
from trio_gw.wire.handshake import Upgrade, is_upgrade
from trio_gw.wire.http import MAX_HEAD, bad_request, h11_error
from trio_gw.wire.response import ResponseHeads, backend_closed, bad_backend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.errors import Headers, Refusal
    from trio_gw.wire.fields import Field
    from trio_gw.wire.head import RequestHead
    from trio_gw.wire.http import RequestReader
    from trio_gw.wire.response import BackendResponse

MAX_BODY = 16 * 1024 * 1024  # bytes of a request's body; responses have no limit
METHODS = ("GET", "HEAD", "POST")
ALLOW: Headers = ((b"allow", b"OPTIONS, GET, HEAD, POST"),)
NO_UPGRADE = Upgrade(b"", (), ())
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CHUNKED: Field = (b"transfer-encoding", b"chunked")
# Not sent to the backend: `Exchange` writes or handles these itself.
_NOT_FORWARDED = frozenset((b"connection", b"expect", b"upgrade"))


def is_plain_http(head: RequestHead) -> bool:
    """Return whether a request is plain HTTP, and no handshake, not even a broken one.

    Another `Upgrade`, such as `h2c`, may be ignored (RFC 9110 §7.8).
    """
    return not is_upgrade(head) and not head.values(b"sec-websocket-key")


class RequestBody:
    """The body of a client's request, in pieces, at most MAX_BODY bytes.

    Raises `Refusal` for a request that is not proxied: 505 for HTTP/1.0, 405 for methods other than
    GET, HEAD and POST, 417 for an unknown `Expect`, 413 for a body that is too long, 400 for a body
    that can be read in two ways, or that comes with GET or HEAD.
    """

    def __init__(self, head: RequestHead, reader: RequestReader) -> None:
        if head.old:
            raise bad_request("Plain HTTP on a topic needs HTTP/1.1", 505)
        if head.method not in METHODS:
            raise bad_request("Only GET, HEAD and POST are proxied on a topic", 405, ALLOW)
        if any(value.lower() != b"100-continue" for value in head.values(b"expect")):
            raise bad_request("Only `Expect: 100-continue` is known", 417)
        self._http = reader.body_connection()
        lengths = head.values(b"content-length")
        self._chunked = bool(head.values(b"transfer-encoding"))
        self._length = int(lengths[0]) if lengths else 0
        if head.method != "POST" and (self._chunked or self._length):
            raise bad_request("A GET or HEAD request has no body here (RFC 9110 section 9.3.1)")
        if self._length > MAX_BODY:
            raise _too_long()
        self.method = head.method
        self._seen = 0
        self._first = reader.leftover

    @property
    def framing(self) -> tuple[Field, ...]:
        """The field that tells the backend how long the body is."""
        if self._chunked:
            return (_CHUNKED,)
        if self.method != "POST":
            return ()
        return ((b"content-length", b"%d" % self._length),)

    @property
    def expects_continue(self) -> bool:
        """Return whether the client waits for `100 Continue` before it sends the body."""
        return bool(self._http.they_are_waiting_for_100_continue)

    def begin(self) -> tuple[bytes, bool]:
        """Return the part of the body that came with the head, as `feed` does."""
        return self.feed(self._first)

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Add bytes; returns the new part of the body, and whether it is complete."""
        if data:  # for h11, empty data means the end of the connection
            self._http.receive_data(data)
        try:
            piece, whole = _read_data(self._http)
        except h11.RemoteProtocolError as error:
            raise bad_request(h11_error(error)) from None
        self._seen += len(piece)
        if self._seen > MAX_BODY:
            raise _too_long()
        return piece, whole


def _too_long() -> Refusal:
    return bad_request(f"Body longer than {MAX_BODY} bytes", 413)


def _read_data(http: h11.Connection) -> tuple[bytes, bool]:
    """Collect the received part of a body, without trailers (RFC 9110 §6.5.1)."""
    found = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            return bytes(found), False
        if type(event) is not h11.Data:
            return bytes(found), True
        found += event.data


class Exchange:
    """One request to a backend, and the response, reframed for the client."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._heads = ResponseHeads(self._http)
        self._chunked = False

    # -- request -----------------------------------------------------------------------------

    def request(self, target: str, headers: Sequence[Field], framing: Sequence[Field]) -> bytes:
        """Build the request's head from the headers of a handshake."""
        fields = [
            (name, value)
            for name, value in headers
            if name not in _NOT_FORWARDED and not name.startswith(b"sec-websocket-")
        ]
        fields += [*framing, (b"connection", b"close")]
        head = self._http.send(h11.Request(method=self._method, target=target, headers=fields))
        assert head is not None
        return head

    def piece(self, data: bytes) -> bytes:
        """Frame a piece of the body; empty for an empty piece."""
        return self._http.send(h11.Data(data=data)) or b"" if data else b""

    def end(self) -> bytes:
        """Frame the end of the body."""
        return self._http.send(h11.EndOfMessage()) or b""

    # -- response ----------------------------------------------------------------------------

    def feed(self, data: bytes) -> BackendResponse | None:
        """Add bytes; returns the response's head when it is complete. Empty data means EOF.

        Raises `Refusal`: 502 for an invalid response to a plain request, 503 if the backend closed
        the connection.
        """
        if not data:
            raise backend_closed("The backend closed the connection without an answer")
        response = self._heads.feed(data)
        if response is not None and response.status == 101:
            raise bad_backend("The backend upgraded a request that did not ask for it")
        return response

    def head(self, response: BackendResponse, extra: Headers) -> bytes:
        """Build the response's head for the client. Headers in `extra` replace the backend's."""
        lines = [b"HTTP/1.1 %d %s" % (response.status, response.reason)]
        lines += map(b": ".join, end_to_end(response, extra))
        names = {name for name, _ in response.headers}
        lengths = [value for name, value in response.headers if name == b"content-length"]
        empty = self._method == "HEAD" or response.status in (204, 304)
        if lengths and b"transfer-encoding" not in names and response.status != 204:
            lines.append(b"content-length: " + lengths[0])
        elif not empty:
            self._chunked = True
            lines.append(b": ".join(_CHUNKED))
        lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def feed_body(self, data: bytes) -> tuple[bytes, bool]:
        """Add bytes of the response's body; returns them framed, and whether the body is complete.

        Empty data means EOF. Raises `Refusal` 502 for a truncated body, which the client must not
        take for a complete one.
        """
        self._http.receive_data(data)
        return self.read_body()

    def read_body(self) -> tuple[bytes, bool]:
        """Return the part of the body that came with the head, as `feed_body` does."""
        try:
            piece, whole = _read_data(self._http)
        except h11.RemoteProtocolError as error:
            raise bad_backend(f"The backend's answer broke off: {h11_error(error)}") from None
        if not self._chunked:
            return piece, whole
        framed = b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""
        return framed + (b"0\r\n\r\n" if whole else b""), whole
