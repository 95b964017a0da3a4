"""The WebSocket opening handshake, end to end (RFC 6455 §4). No I/O.

The gateway does not terminate WebSocket. Key, subprotocols and extensions go from the client to the
backend, and the response comes back, so frames need no recoding. The gateway checks both strictly.
A tunnel opens only for a request that can be nothing but an upgrade, and a response that proves
that the backend understood it.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from trio_gw.errors import router_refusal
from trio_gw.wire.end_to_end import KNOWN, MAX_KNOWN, end_to_end
from trio_gw.wire.fields import NONE, by_name, has_token, tokens
from trio_gw.wire.http import bad_request
from trio_gw.wire.response import bad_backend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.errors import Headers
    from trio_gw.wire.head import RequestHead
    from trio_gw.wire.response import BackendResponse

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A lexeme of Sec-WebSocket-Extensions: a token, a quoted text, or punctuation. The alternatives
# exclude one another, so no header makes it slow.
_LEXEME = re.compile(rf'[ \t]*(?:({_TOKEN.pattern})|("[^"\\]*(?:\\.[^"\\]*)*")|([,;=]))')
# RFC 6455 §9.1 as a state machine: the last lexeme, and what may follow. `T`: token, `Q`: quoted.
_GRAMMAR = {
    "": {"T": "name", ",": ""},
    "name": {";": "semicolon", ",": ""},
    "semicolon": {"T": "parameter"},
    "parameter": {"=": "equals", ";": "semicolon", ",": ""},
    "equals": {"T": "value", "Q": "value"},
    "value": {";": "semicolon", ",": ""},
}
_COMPLETE = frozenset(("", "name", "parameter", "value"))

NOT_WEBSOCKET = (
    "This is a WebSocket topic: connect with a WebSocket client (ws:// or wss://), version 13"
)
NEEDS_HTTP11 = (
    "The request came over HTTP/1.0, and WebSockets need HTTP/1.1 (RFC 6455 section 4.1). If nginx"
    " is in front, its location needs three lines: proxy_http_version 1.1;"
    " proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
)
_MISSING = "`{}` is missing: a proxy in front must pass it on, and a client must send it"

RSV1, ALL_RSV = 0x40, 0x70
_DEFLATE = "permessage-deflate"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")


class Upgrade(msgspec.Struct, frozen=True):
    """What a client offers: its key, subprotocols and the names of its extensions."""

    key: bytes
    protocols: tuple[str, ...]
    extensions: tuple[str, ...]


class Accepted(msgspec.Struct, frozen=True):
    """What the backend accepted. `rsv`: the RSV bits that its extensions may use.

    `other_case`: the subprotocol was offered in another case (`ocpp1.6`, `OCPP1.6`).
    """

    protocol: str
    rsv: int
    other_case: bool = False


def is_upgrade(head: RequestHead) -> bool:
    """Return whether the request asks for a WebSocket, well-formed or not."""
    return has_token(head.values(b"upgrade"), b"websocket")


def check_request(head: RequestHead) -> Upgrade:
    """Check an upgrade request. Raises `Refusal` for an invalid one (RFC 6455 §4.2.1).

    505 for HTTP/1.0, 405 for anything but GET, 400 for a body, a malformed key or a repeated field,
    426 for a valid request that is no WebSocket upgrade of version 13.
    """
    if head.old:
        raise bad_request(NEEDS_HTTP11, 505)
    if head.method != "GET":
        allow = ((b"allow", b"GET, OPTIONS"),)
        raise bad_request("A topic is opened with GET (RFC 6455 section 4.1)", 405, allow)
    if head.values(b"transfer-encoding") or any(
        value.strip() != b"0" for value in head.values(b"content-length")
    ):
        raise bad_request("A WebSocket handshake has no body")
    _check_upgrade(head)
    keys = head.values(b"sec-websocket-key")
    if len(keys) != 1:
        raise bad_request(f"{'More than one' if keys else 'No'} Sec-WebSocket-Key header")
    if not _KEY.fullmatch(keys[0]):
        raise bad_request("Sec-WebSocket-Key must be one base64 value of 16 bytes")
    protocols: Sequence[str] = ()
    if offered := head.values(b"sec-websocket-protocol"):
        protocols = tokens(offered)
        if not all(map(_TOKEN.fullmatch, protocols)):
            raise bad_request(
                "Malformed Sec-WebSocket-Protocol header: a subprotocol is a name without blanks,"
                " quotes or characters beyond ASCII"
            )
        if len(set(protocols)) != len(protocols):
            raise bad_request(
                "Malformed Sec-WebSocket-Protocol header: it offers one subprotocol twice"
            )
    extensions = _extension_names(head.values(b"sec-websocket-extensions"))
    if extensions is None:
        raise bad_request(
            "Malformed Sec-WebSocket-Extensions header: write names with parameters, such as"
            " permessage-deflate; client_max_window_bits"
        )
    return Upgrade(keys[0], tuple(protocols), extensions)


def _extension_names(values: Sequence[bytes]) -> tuple[str, ...] | None:
    """Return the names in a Sec-WebSocket-Extensions field, None if it is malformed."""
    if not values:
        return ()
    text = b",".join(values)
    return _known_extensions(text) if len(text) <= MAX_KNOWN else _read_extensions(text)


def _read_extensions(value: bytes) -> tuple[str, ...] | None:
    text = value.decode("latin-1").rstrip(" \t")
    names: list[str] = []
    state, at = "", 0
    while at < len(text):
        if (lexeme := _LEXEME.match(text, at)) is None:
            return None
        token, quoted, punctuation = lexeme.groups()
        if token and not state:
            names.append(token)
        kind = "T" if token else "Q" if quoted else punctuation
        if (following := _GRAMMAR[state].get(kind)) is None:
            return None
        state, at = following, lexeme.end()
    return tuple(names) if state in _COMPLETE else None


_known_extensions = functools.lru_cache(maxsize=KNOWN)(_read_extensions)


def _check_upgrade(head: RequestHead) -> None:
    """Raise `Refusal` with the reason if this is no WebSocket upgrade of version 13."""
    connection = has_token(head.values(b"connection"), b"upgrade")
    if not is_upgrade(head):
        if not connection and not head.values(b"sec-websocket-key"):
            raise upgrade_required(NOT_WEBSOCKET)
        raise upgrade_required(_MISSING.format("Upgrade: websocket"))
    if not connection:
        raise upgrade_required(_MISSING.format("Connection: Upgrade"))
    versions = head.values(b"sec-websocket-version")
    if len(versions) > 1:
        raise bad_request("More than one Sec-WebSocket-Version header")
    if not versions or versions[0] != b"13":
        what = "is missing" if not versions else "is not 13"
        raise upgrade_required(
            f"`Sec-WebSocket-Version` {what}: only version 13 (RFC 6455) is spoken here",
            (b"sec-websocket-version", b"13"),
        )


def upgrade_required(description: str, *headers: tuple[bytes, bytes]) -> Exception:
    """Tell a plain HTTP client how to connect (RFC 9110 §15.5.22)."""
    return router_refusal(
        426,
        "426",
        "Upgrade Required",
        description,
        headers=((b"upgrade", b"websocket"), (b"connection", b"upgrade"), *headers),
        why=f"not a WebSocket upgrade: {description}",
    )


def request_id(head: RequestHead) -> bytes:
    """Return the client's own request id if it is a single, harmless one, else empty."""
    values = head.values(b"x-request-id")
    return values[0] if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]) else b""


def check_response(upgrade: Upgrade, response: BackendResponse, *, strict: bool = True) -> Accepted:
    """Check a backend's 101. Raises `Refusal` 502 (RFC 6455 §4.1, the client's checks).

    An empty Sec-WebSocket-Protocol selects none. Unless `strict`, a subprotocol that was offered in
    another case is left to the client.
    """
    named = by_name(response.headers)
    upgraded = named.get(b"upgrade", NONE)
    if [value.lower() for value in upgraded] != [b"websocket"] and [
        token.lower() for token in tokens(upgraded)
    ] != ["websocket"]:
        raise bad_backend("The backend's 101 does not upgrade to websocket")
    if not has_token(named.get(b"connection", NONE), b"upgrade"):
        raise bad_backend("The backend's 101 has no Connection: Upgrade")
    if named.get(b"sec-websocket-accept") != [accept_key(upgrade.key)]:
        raise bad_backend("The backend's Sec-WebSocket-Accept does not match the key")
    protocols = list(filter(None, named.get(b"sec-websocket-protocol", NONE)))
    if len(protocols) > 1:
        raise bad_backend("The backend chose more than one subprotocol")
    protocol = protocols[0].decode("latin-1") if protocols else ""
    other_case = bool(protocol) and protocol not in upgrade.protocols
    if other_case and (
        strict or protocol.lower() not in {offered.lower() for offered in upgrade.protocols}
    ):
        raise bad_backend("The backend chose a subprotocol that was not offered")
    extensions = _extension_names(named.get(b"sec-websocket-extensions", NONE))
    if extensions == ():
        return Accepted(protocol, 0, other_case)
    if extensions is None or not set(extensions) <= set(upgrade.extensions):
        raise bad_backend("The backend chose an extension that was not offered")
    if len(set(extensions)) != len(extensions):
        raise bad_backend("The backend chose one extension twice")
    # permessage-deflate uses RSV1 (RFC 7692 §6). The bits of other extensions are not known.
    rsv = 0
    for name in extensions:
        rsv |= RSV1 if name == _DEFLATE else ALL_RSV
    return Accepted(protocol, rsv, other_case)


def accept_key(key: bytes) -> bytes:
    """Compute Sec-WebSocket-Accept (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def client_response(response: BackendResponse, extra: Headers = ()) -> bytes:
    """Build the client's 101 from the backend's (spec: routing §6.2).

    Headers in `extra` replace the backend's of the same name.
    """
    lines = [b"HTTP/1.1 101 Switching Protocols", b"upgrade: websocket", b"connection: Upgrade"]
    lines += map(b": ".join, end_to_end(response, extra))
    return b"\r\n".join(lines) + b"\r\n\r\n"
