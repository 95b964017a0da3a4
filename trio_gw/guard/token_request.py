"""Requests for tokens: their parts, and the credentials of the client (RFC 6749 §2.3, §3.2). Pure.

Used by `token_endpoint`. No message holds anything of the request.
"""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_plus

FORM_TYPE = "application/x-www-form-urlencoded"
CHALLENGE = (b"www-authenticate", b'Basic realm="oauth2"')
_ONCE = ("grant_type", "client_id", "client_secret", "scope")


class TokenRequest(NamedTuple):
    """The parts of a request. `address` is that of the client; `secure`: nobody can listen."""

    method: str
    authorization: tuple[bytes, ...]
    content_type: str
    body: bytes
    address: str
    secure: bool


class OAuthError(Exception):
    """A refused request (RFC 6749 §5.2). The description holds nothing of the request."""

    def __init__(
        self, status: int, error: str, description: str, *headers: tuple[bytes, bytes]
    ) -> None:
        self.status = status
        self.error = error
        self.description = description
        self.headers = headers
        super().__init__(f"{status} {error}")


class ClientCredentials(NamedTuple):
    """What a client shows. Its repr hides it."""

    consumer_key: str
    secret: str

    def __repr__(self) -> str:
        return "ClientCredentials(<hidden>)"


def _invalid(what: str) -> OAuthError:
    return OAuthError(400, "invalid_request", what)


def form(request: TokenRequest) -> dict[str, str]:
    """Read the body; each parameter at most once (RFC 6749 §3.2)."""
    if request.content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise _invalid(f"send the parameters as {FORM_TYPE}")
    try:
        text = request.body.decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=32, errors="strict")
    except ValueError:
        raise _invalid("the body is not a form") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in _ONCE and name in fields:
            raise _invalid(f"`{name}` is given twice")
        if value:  # an empty one counts as left out
            fields[name] = value
    return fields


def credentials(request: TokenRequest, fields: dict[str, str]) -> ClientCredentials:
    """Take key and secret from the header or from the form, not from both."""
    in_form = "client_secret" in fields
    if len(request.authorization) > 1 or (request.authorization and in_form):
        raise _invalid("send the secret once: by Basic, or in the form")
    if not request.authorization:
        if "client_id" not in fields or not in_form:
            what = "send consumer key and secret, by Basic or as client_id and client_secret"
            raise OAuthError(401, "invalid_client", what, CHALLENGE)
        return ClientCredentials(fields["client_id"], fields["client_secret"])
    scheme, _, encoded = request.authorization[0].strip().partition(b" ")
    if scheme.lower() != b"basic":
        raise _invalid("the scheme of the Authorization header is not Basic")
    try:
        padding = b"=" * (-len(encoded.strip()) % 4)
        text = base64.b64decode(encoded.strip() + padding, validate=True).decode()
    except ValueError:
        raise _invalid("the Basic credentials are malformed") from None
    key, colon, secret = text.partition(":")
    if not colon:
        raise _invalid("the Basic credentials have no colon")
    return ClientCredentials(unquote_plus(key), unquote_plus(secret))
