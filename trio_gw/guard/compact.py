"""A token in compact form (RFC 7515 §7.1), decoded but not verified.

Called by `tokens`. Pure. If a JSON object repeats a name, the last value counts, as RFC 7519 §4
allows; tokens are decoded only here, so no second parser can see another value. Header fields that
say where to get a key (`jku`, `jwk`, `x5u`, `x5c`) are ignored.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

# The last second of the year 9999. A later date is a mistake, such as milliseconds, and would
# make a token that never ends.
LAST_DATE = 253402300799
MAX_DEPTH = 64  # nesting of objects and arrays; what is read must also be written again


class UndecodableError(Exception):
    """The text is not a signed token."""


class UnacceptableError(Exception):
    """A signed token that no key could make valid."""


class CompactToken(msgspec.Struct, frozen=True):
    """The parts of a token; the signature covers `signed`. The repr shows nothing."""

    alg: str
    kid: str | None
    issuer: str
    claims: dict[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "CompactToken(<hidden>)"


def parse(token: bytes, *, lasting: bool = False) -> CompactToken:
    """Split and decode a token; refuse what can be refused without a key.

    `lasting` tokens may come without an expiry time.
    Raises UndecodableError or UnacceptableError; neither ever holds a part of the token.
    """
    parts = token.split(b".")
    if len(parts) != 3:
        raise UndecodableError("not three parts")
    payload = _base64url(parts[1])
    header, claims = _json_object(_base64url(parts[0])), _json_object(payload)
    if header is None or payload is None or claims is None:
        raise UndecodableError("header or payload is not a JSON object in base64url")
    alg, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(alg, str) or not (kid is None or isinstance(kid, str)):
        raise UndecodableError("alg or kid is not text")
    if "crit" in header:
        # RFC 7515 §4.1.11: an extension that is not understood must not be ignored.
        raise UnacceptableError("the header has critical extensions")
    signature = _base64url(parts[2])
    if not signature or not isinstance(issuer, str):
        raise UnacceptableError("no issuer, or no signature in base64url")
    endless = lasting and "exp" not in claims
    if not endless and not is_date(claims.get("exp"), LAST_DATE):
        raise UnacceptableError("no usable expiry time")
    # The signature covers what was sent, padding included (RFC 7515 §5.2 step 8).
    return CompactToken(alg, kid, issuer, claims, payload, token[: -len(parts[2]) - 1], signature)


def is_date(value: object, latest: float) -> bool:
    """Return whether a claim is a NumericDate (RFC 7519 §2) that is not later than this."""
    # JSON has no NaN or infinity, and integers compare with floats exactly, however long.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -LAST_DATE <= value <= latest
    )


def _base64url(text: bytes) -> bytes | None:
    """Decode base64url with or without padding; None for other texts."""
    bare = text.rstrip(b"=")
    if len(text) - len(bare) > 2 or (text != bare and len(text) % 4):
        return None
    try:
        decoded = base64.b64decode(bare + b"=" * (-len(bare) % 4), b"-_", validate=True)
    except ValueError:
        return None
    # Only one spelling of each value: unused bits are zero, and `+` and `/` are not letters.
    return decoded if base64.urlsafe_b64encode(decoded).rstrip(b"=") == bare else None


def _json_object(data: bytes | None) -> dict[str, Any] | None:
    if data is None:
        return None
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and is_shallow(value, data) else None


def is_shallow(value: object, written: bytes) -> bool:
    """Return whether a JSON value, as `written`, is nested at most `MAX_DEPTH` levels."""
    if written.count(b"[") + written.count(b"{") <= MAX_DEPTH:
        return True
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return not any(isinstance(each, dict | list) for each in level)
