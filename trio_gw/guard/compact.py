"""A token in compact form (RFC 7515 §7.1), decoded and not yet believed.

Called by `tokens`. Pure. Where a JSON object repeats a name, the last one counts, as RFC 7519 §4
allows; a token is decoded here only, so no second parser can see another value. What the header
says about where to get a key (`jku`, `jwk`, `x5u`, `x5c`) is not even looked at.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

# The last second of the year 9999. A later date is a mistake, such as milliseconds, and would
# make a token that never ends.
LAST_DATE = 253402300799
MAX_DEPTH = 64  # of objects and arrays in each other; what is read has to be written again, too


class UndecodableError(Exception):
    """This is no signed token at all."""


class UnacceptableError(Exception):
    """A signed token, but one that no key could make good."""


class CompactToken(msgspec.Struct, frozen=True):
    """The parts of a token; `signed` is what the signature is over. The repr shows nothing."""

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
    """Split and decode a token, refusing what needs no key to be refused.

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
        # RFC 7515 §4.1.11: an extension that is not understood must not be passed over.
        raise UnacceptableError("the header has critical extensions")
    signature = _base64url(parts[2])
    if not signature or not isinstance(issuer, str):
        raise UnacceptableError("no issuer, or no signature in base64url")
    endless = lasting and "exp" not in claims
    if not endless and not is_date(claims.get("exp"), LAST_DATE):
        raise UnacceptableError("no usable expiry time")
    # Signed is what was sent, padding included (RFC 7515 §5.2 step 8).
    return CompactToken(alg, kid, issuer, claims, payload, token[: -len(parts[2]) - 1], signature)


def is_date(value: object, latest: float) -> bool:
    """Tell whether a claim is a NumericDate (RFC 7519 §2) that is not later than this."""
    # JSON has no NaN or infinity, and integers compare with floats exactly, however long.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -LAST_DATE <= value <= latest
    )


def _base64url(text: bytes) -> bytes | None:
    """Decode base64url with or without padding; None if it is anything else."""
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
    """Tell whether a JSON value, as it was `written`, is nested `MAX_DEPTH` levels at most."""
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
