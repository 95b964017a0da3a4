"""A backend's response to the upgrade: its head, and the body of a refusal. No I/O.

Only this file, `wire.http` and `wire.exchange` use h11. Backends belong to the operator and are
trusted more than clients, so h11's leniency is accepted. `wire.handshake` checks what has to hold
before a tunnel opens. Called by `proxy.upstream`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import h11
import msgspec

from trio_gw.errors import Refusal, Side, router_refusal
from trio_gw.wire.fields import NO_CONTROLS, plain_fields, split_lines
from trio_gw.wire.http import MAX_HEAD, h11_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE = re.compile(rb"GET [\x21-\x7e]+ HTTP/1\.1")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_STATUS_101 = re.compile(rb"HTTP/1\.1 101(?: ((?:[ \t]|[^\x00\s])*))?")
MAX_INTERIM = 8  # 1xx responses that a backend may send before its final one


class BackendResponse(msgspec.Struct, frozen=True):
    """The head of a backend's response. `reason` is the reason phrase."""

    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]


class ResponseReader:
    """Builds one upgrade request, and reads the backend's response to it."""

    def __init__(self) -> None:
        self._request: tuple[str, Sequence[tuple[bytes, bytes]]] = ("", ())
        self._http: h11.Connection | None = None  # only if there is something to decide
        self._heads: ResponseHeads | None = None
        self._leftover = b""

    def request(self, target: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Build the upgrade request."""
        self._request = target, headers
        line = b"GET %s HTTP/1.1" % target.encode("ascii")
        fields = b"\r\n".join(map(b": ".join, headers))
        # Names and most values were checked in the client's head. No value may contain a line end.
        ends = len(headers) - 1
        whole = fields.count(b"\r") == fields.count(b"\n") == ends and b"\0" not in fields
        if whole and _LINE.fullmatch(line):
            return b"%s\r\n%s\r\n\r\n" % (line, fields)
        return self._request_with_h11()

    def _request_with_h11(self) -> bytes:
        """Let h11 build the request, and read the response."""
        target, headers = self._request
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        request = h11.Request(method=b"GET", target=target.encode("ascii"), headers=list(headers))
        head = self._http.send(request)
        end = self._http.send(h11.EndOfMessage())
        assert head is not None
        assert end is not None
        return head + end

    def _parse_101(self, data: bytes) -> BackendResponse | None:
        """Parse a 101 that arrived complete; None for anything else."""
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
        head = data[: max(end, 0)]
        lines = split_lines(head)
        if not lines or (status := _STATUS_101.fullmatch(lines[0])) is None:
            return None
        if (fields := plain_fields(lines[1:])) is None:
            return None
        self._leftover = data[end + 4 :]
        return BackendResponse(101, status[1] or b"", tuple(fields))

    def feed(self, data: bytes) -> BackendResponse | None:
        """Add bytes; returns the response's head when it is complete. Empty data means EOF.

        Raises `Refusal`: 502 if the backend does not speak HTTP, 503 if it closed the connection.
        """
        if not data:
            raise backend_closed("The backend closed the connection without an answer")
        if self._http is None:
            if (joined := self._parse_101(data)) is not None:
                return joined
            self._request_with_h11()
        if self._heads is None:
            assert self._http is not None
            self._heads = ResponseHeads(self._http)
        return self._heads.feed(data)

    def feed_body(self, data: bytes) -> tuple[bytes, bool]:
        """Add bytes of a refusal's body; returns its new part, and whether it is complete.

        A truncated body counts as complete, because only the status matters.
        """
        assert self._http is not None
        self._http.receive_data(data)
        return self.read_body()

    def read_body(self) -> tuple[bytes, bool]:
        """Return the part of the body that came with the head, as `feed_body` does."""
        assert self._http is not None
        body = bytearray()
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                return bytes(body), True
            if event is h11.NEED_DATA:
                return bytes(body), False
            if type(event) is not h11.Data:
                return bytes(body), True
            body += event.data

    @property
    def leftover(self) -> bytes:
        """Bytes after a 101: the backend's first frames."""
        return self._leftover if self._http is None else bytes(self._http.trailing_data[0])


class ResponseHeads:
    """Reads the heads of responses with h11: interim ones (1xx), and the final one.

    h11 gets a head when it is complete, so each byte is looked at a few times only, however small
    the pieces are in which a backend sends it.
    """

    def __init__(self, http: h11.Connection) -> None:
        self._http = http
        self._head = bytearray()  # not complete yet
        self._seen = 0  # bytes of it in which no end was found
        self._interim = 0

    def feed(self, data: bytes) -> BackendResponse | None:
        """Add bytes; returns the head of the final response, or of a 101, when it is complete.

        h11 then has the bytes behind it. Raises `Refusal` 502 for an invalid head.
        """
        self._head += data
        while True:
            end = _BLANK_LINE.search(self._head, max(self._seen - 2, 0))
            checked = self._head[max(self._seen - 1, 0) : None if end is None else end.start()]
            if _has_forbidden_bytes(bytes(checked)):
                raise bad_backend("The head of the backend's answer holds a control character")
            if end is None and len(self._head) <= MAX_HEAD:
                self._seen = len(self._head)
                return None
            size = len(self._head) if end is None else end.end()
            response = self._parse(bytes(self._head[:size]))
            del self._head[:size]
            self._seen = 0
            if response.status == 101 or response.status >= 200:
                if self._head:  # nothing would mean the end of the stream
                    self._http.receive_data(bytes(self._head))
                return response
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise too_many_interim()

    def _parse(self, head: bytes) -> BackendResponse:
        try:
            self._http.receive_data(head)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            what = f"The backend's answer is not valid HTTP: {h11_error(error)}"
            raise bad_backend(what) from None
        assert isinstance(event, (h11.InformationalResponse, h11.Response))
        return BackendResponse(event.status_code, event.reason, tuple(event.headers))


def _has_forbidden_bytes(head: bytes) -> bool:
    """Return whether a head contains control characters, such as ESC or half a line end.

    No client should get them, and some make the regular expressions of header lines very slow.
    """
    half = head.removesuffix(b"\r").count(b"\r") != head.removesuffix(b"\r").count(b"\r\n")
    return half or bool(head.translate(None, NO_CONTROLS))


def too_many_interim() -> Refusal:
    """Refuse because the backend sends too many interim responses."""
    return bad_backend("The backend sent too many interim answers")


def bad_backend(why: str) -> Refusal:
    """Refuse because the backend broke the protocol (spec: routing §9, UPE; as 502)."""
    message = "HTTP protocol error in upstream request"
    return router_refusal(502, "102515", message, why, by=Side.BACKEND, why=why)


def backend_closed(why: str) -> Refusal:
    """Refuse because the backend ended the connection (spec: routing §9, UC)."""
    message = "Upstream connection termination"
    return router_refusal(503, "102510", message, why, by=Side.BACKEND, why=why)
