"""Finds the credentials of a handshake and removes them from the request.

Called by `proxy.admission` before anything else sees the request. Pure. A credential may be in one
place only. The gateway uses it and does not pass it on.
"""

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote_plus

import msgspec

from trio_gw.guard import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Kind = Literal["access token", "test key"]

QUERY_TOKEN = "access_token"  # noqa: S105 - the parameter's name (RFC 6750 §2.3)

# Subprotocols, in lower case, that announce a credential as the next one in the list: an access
# token, or a key of a test console. Browsers cannot set a header, so they use this.
MARKERS: Mapping[str, Kind] = {
    "bearer": "access token",
    "choreo-oauth2-token": "access token",
    "choreo-test-key": "test key",
}
# A subprotocol that holds the token itself, in base64url without padding, after this prefix and
# perhaps a dotted name, as in Kubernetes: `base64url.bearer.authorization.k8s.io.bXl0b2tlbg`.
ENCODED = "base64url.bearer.authorization."

_TOKEN_CHARACTERS = string.ascii_letters + string.digits + "-_"  # base64url
_JOSE_HEADER = "ey"  # base64url of the first characters of a JSON object with a member
_SHORTEST_HEADER = 16  # octets of a JOSE header in base64url: `{"alg":"x"}` has 15


class CredentialPlaces(NamedTuple):
    """Where one topic expects its credentials; header names are in lower case.

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
    """The credentials found. `bearer` values are as in the header: scheme, space, token."""

    bearer: tuple[bytes, ...] = ()
    internal_key: tuple[bytes, ...] = ()
    api_key: tuple[bytes, ...] = ()


class RemainingRequest(NamedTuple):
    """The query and the offered subprotocols without credentials.

    `marker` is the subprotocol that marked a token, as the client wrote it; empty without a token
    there, or when the token is a part of it.
    """

    query: str
    protocols: tuple[str, ...]
    marker: str


NOTHING_LEFT = RemainingRequest("", (), "")


def take(
    places: CredentialPlaces,
    values: Callable[[bytes], Sequence[bytes]],
    query: str,
    protocols: Sequence[str],
) -> tuple[Presented, RemainingRequest]:
    """Take the credentials out of a request; raises Refusal (400) if one is there twice.

    `values` gives the values of a header. Two headers of one name are left to the scheme, which
    takes neither.
    """
    bearer = tuple(values(places.bearer))
    internal = tuple(values(places.internal_key)) if places.internal_key else ()
    keys = [value for name in places.api_key_headers for value in values(name)]
    if not query and not protocols and len(keys) < 2:  # then there are no other places
        return Presented(bearer, internal, tuple(keys)), NOTHING_LEFT
    offered, rest = _split_protocols(protocols)
    parameters = (QUERY_TOKEN,) if places.query_token else ()
    tokens, query = _take_parameters(query, parameters)
    access = (*((bearer,) if bearer else ()), *((offered,) if offered else ()), *tokens)
    if len(access) > 1 or (internal and offered is not None and offered.kind == "test key"):
        raise refusals.ambiguous("The request holds more than one access token")
    if offered is not None:
        bearer = (b"Bearer " + offered.credential,)
        # Tokens of `/testkey` are access tokens; those of a test console are of another kind.
        if offered.kind == "test key" and places.internal_key:
            internal = (offered.credential,)
    bearer += tuple(b"Bearer " + token for token in tokens)
    more, query = _take_parameters(query, places.api_key_parameters)
    keys = [*more, *keys]
    if len(keys) > 1:
        raise refusals.ambiguous("The request holds more than one API key")
    left = RemainingRequest(query, rest, offered.marker if offered is not None else "")
    return Presented(bearer, internal, tuple(keys)), left


class _Offered(NamedTuple):
    """A credential among the subprotocols; `marker` may be chosen in the answer."""

    kind: Kind
    credential: bytes
    marker: str


def _split_protocols(protocols: Sequence[str]) -> tuple[_Offered | None, tuple[str, ...]]:
    """Find the credential among the offers, and the offers that a backend may see.

    A marker at the end of the list has no token after it and is an ordinary subprotocol. A text
    that looks like a token but has no marker is left out.
    Raises Refusal (400) if there are two.
    """
    found: list[_Offered] = []
    rest: list[str] = []
    names = iter(protocols)
    for name in names:
        lower = name.lower()
        if lower.startswith(ENCODED):
            found.append(_Offered("access token", _decoded(name), ""))
        elif (kind := MARKERS.get(lower)) and (credential := next(names, None)) is not None:
            found.append(_Offered(kind, credential.encode("latin-1"), name))
        elif not looks_like_token(name):
            rest.append(name)
    if len(found) > 1:
        raise refusals.ambiguous("The request offers more than one token as a subprotocol")
    return (found[0] if found else None), tuple(rest)


def _decoded(name: str) -> bytes:
    """Decode the token of a subprotocol that holds one; empty if it cannot be decoded."""
    encoded = name.rpartition(".")[2]
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return b""


def looks_like_token(text: str) -> bool:
    """Return whether a text holds what looks like a JWT (RFC 7515 §7.1), perhaps behind a prefix.

    Linear in the length of the text.
    """
    parts = text.split(".")
    for index, part in enumerate(parts[:-2]):
        header = part[len(part.rstrip(_TOKEN_CHARACTERS)) :]
        at = header.find(_JOSE_HEADER)
        if 0 <= at <= len(header) - _SHORTEST_HEADER and not parts[index + 1].strip(
            _TOKEN_CHARACTERS
        ):
            return True
    return False


def _take_parameters(query: str, names: tuple[str, ...]) -> tuple[list[bytes], str]:
    """Remove parameters of these names from a query; the others stay as written."""
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
