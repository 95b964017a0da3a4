"""Which header fields pass from one side to the other. No I/O.

End-to-end fields pass, hop-by-hop fields do not. Fields that a backend trusts because a gateway
sets them never come from a client.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from trio_gw.wire.fields import tokens

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trio_gw.errors import Headers
    from trio_gw.wire.head import RequestHead
    from trio_gw.wire.response import BackendResponse

# How many names and offers of clients are cached, and the longest one.
KNOWN, MAX_KNOWN = 1024, 128

HOP_BY_HOP = frozenset(
    b"connection content-length keep-alive proxy-authenticate proxy-authorization"
    b" proxy-connection te trailer transfer-encoding upgrade".split()
)
_USUAL_OPTIONS = frozenset((b"upgrade", b"keep-alive, upgrade"))  # all of them are hop-by-hop
# Headers that a backend trusts because a gateway sets them. A client's own are never passed on.
_GATEWAY_NAMES = frozenset(b"forwarded host x-jwt-assertion x-real-ip x-request-id".split())
# Some frameworks take these for the requested path, because a rewriting server in front of them
# sets them (IIS, Zend and Symfony in older versions).
_GATEWAY_NAMES |= frozenset(b"x-original-url x-rewrite-url x-original-uri x-override-url".split())
# All with these prefixes: some proxies name the user in them (`X-Forwarded-User`).
_GATEWAY_PREFIXES = (b"x-forwarded-", b"x-envoy-", b"x-wso2-")
# Spellings that are equal in CGI and its successors: `X_Real.IP` becomes HTTP_X_REAL_IP, too.
_PLAIN = bytes.maketrans(b"!#$%&'*+.^_`|~", b"-" * 14)


def backend_headers(
    head: RequestHead,
    *,
    host: bytes,
    drop: Collection[bytes],
    added: Sequence[tuple[bytes, bytes]],
) -> list[tuple[bytes, bytes]]:
    """Build the headers of the upgrade request to the backend (spec: routing §6.1).

    End-to-end headers pass. Hop-by-hop headers do not, nor those in `drop` (credentials), nor those
    that a backend would trust as the gateway's, in any spelling of their punctuation. `host` is the
    value of the `Host` field.
    """
    dropped = _normalized(frozenset(drop))
    listed = _connection_options(head.values(b"connection"))
    headers = [
        (b"host", host),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
    ]
    for field in head.headers:
        name = field[0]
        plain = _known_name(name) if len(name) <= MAX_KNOWN else _passable_name(name)
        if plain and plain not in dropped and name not in listed:
            headers.append(field)
    headers += added
    return headers


def _passable_name(name: bytes) -> bytes:
    """Return a header's name in its normal spelling; empty if a client's is never passed on."""
    plain = name.translate(_PLAIN)
    ours = plain in HOP_BY_HOP or plain in _GATEWAY_NAMES or plain.startswith(_GATEWAY_PREFIXES)
    return b"" if ours else plain


_known_name = functools.lru_cache(maxsize=KNOWN)(_passable_name)


@functools.lru_cache(maxsize=KNOWN)
def _normalized(names: frozenset[bytes]) -> frozenset[bytes]:
    return frozenset(name.translate(_PLAIN) for name in names)


def _connection_options(values: Sequence[bytes]) -> set[bytes] | frozenset[bytes]:
    """Return the header names in `Connection`, without those of the handshake itself."""
    if not values or (len(values) == 1 and values[0].lower() in _USUAL_OPTIONS):
        return HOP_BY_HOP
    names = {token.lower().encode("latin-1") for token in tokens(values)}
    return {name for name in names if not name.startswith(b"sec-websocket-")}


def end_to_end(response: BackendResponse, extra: Headers = ()) -> list[tuple[bytes, bytes]]:
    """Return the end-to-end headers of a backend's response, and `extra`."""
    ours = [name for name, _ in extra]
    listed = _connection_options(
        [value for name, value in response.headers if name == b"connection"]
    )
    passed = [
        field
        for field in response.headers
        if (name := field[0]) not in HOP_BY_HOP
        and name not in ours
        and name not in listed
        and not name.startswith(b"x-envoy-")
        and (
            field[1] or name != b"sec-websocket-protocol"
        )  # clients take an empty one for a choice
    ]
    return [*passed, *extra]
