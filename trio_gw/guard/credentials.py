"""Where a handshake may hold its credentials, and taking them out of it.

Called by `proxy.admission` before anything else sees the request. Pure. A credential has one
place; the gateway uses it and nobody behind the gateway gets to see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_plus

import msgspec

from trio_gw.guard import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BEARER = "bearer"
QUERY_TOKEN = "access_token"  # noqa: S105 - the parameter's name (RFC 6750 §2.3)


class Places(NamedTuple):
    """The places of one topic's credentials; header names are in lower case.

    `api_keys` are headers and query parameters that may hold an API key.
    """

    bearer: bytes = b"authorization"
    internal_key: bytes = b""
    api_key_headers: tuple[bytes, ...] = ()
    api_key_parameters: tuple[str, ...] = ()
    query_token: bool = False

    @property
    def headers(self) -> frozenset[bytes]:
        """All headers that may hold a credential here."""
        return frozenset(filter(None, (self.bearer, self.internal_key, *self.api_key_headers)))


class Presented(msgspec.Struct, frozen=True):
    """What was found. `bearer` values are as in the header: scheme, blank, token."""

    bearer: tuple[bytes, ...] = ()
    internal_key: tuple[bytes, ...] = ()
    api_key: tuple[bytes, ...] = ()


class Rest(NamedTuple):
    """What is left of the query and the offered subprotocols.

    `marker` is the `bearer` among the subprotocols as the client wrote it, empty without a token
    there.
    """

    query: str
    protocols: tuple[str, ...]
    marker: str


NOTHING_LEFT = Rest("", (), "")


def take(
    places: Places,
    values: Callable[[bytes], Sequence[bytes]],
    query: str,
    protocols: Sequence[str],
) -> tuple[Presented, Rest]:
    """Take the credentials out of a request; raises Refusal (400) if one is there twice.

    `values` gives the values of a header. Two headers of one name are left to the scheme, which
    takes neither.
    """
    bearer = tuple(values(places.bearer))
    internal = tuple(values(places.internal_key)) if places.internal_key else ()
    keys = [value for name in places.api_key_headers for value in values(name)]
    if not query and not protocols and len(keys) < 2:  # then nothing else can be anywhere
        return Presented(bearer, internal, tuple(keys)), NOTHING_LEFT
    marker, offered, rest = _split_protocols(protocols)
    parameters = (QUERY_TOKEN,) if places.query_token else ()
    tokens, query = _take_parameters(query, parameters)
    if sum(map(bool, (bearer, offered, tokens))) > 1 or len(tokens) > 1:
        raise refusals.ambiguous("The request holds more than one access token")
    bearer += tuple(b"Bearer " + token for token in (*offered, *tokens))
    more, query = _take_parameters(query, places.api_key_parameters)
    keys = [*more, *keys]
    if len(keys) > 1:
        raise refusals.ambiguous("The request holds more than one API key")
    return Presented(bearer, internal, tuple(keys)), Rest(query, rest, marker)


def _split_protocols(protocols: Sequence[str]) -> tuple[str, list[bytes], tuple[str, ...]]:
    """Find `bearer, <token>` among the offers: what marks it, the token, the other offers.

    A `bearer` at the very end has no token behind it: it is a subprotocol like any other.
    """
    for index, name in enumerate(protocols[:-1]):
        if name.lower() == BEARER:
            rest = (*protocols[:index], *protocols[index + 2 :])
            if any(other.lower() == BEARER for other in rest):
                raise refusals.ambiguous("The request offers the subprotocol bearer twice")
            return name, [protocols[index + 1].encode("latin-1")], rest
    return "", [], tuple(protocols)


def _take_parameters(query: str, names: tuple[str, ...]) -> tuple[list[bytes], str]:
    """Take parameters of these names out of a query; the others stay as they are written."""
    if not names or not query:
        return [], query
    found, kept = [], []
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        if unquote_plus(name) in names:
            found.append(unquote_plus(value).encode())
        else:
            kept.append(piece)
    return found, "&".join(kept) if found else query
