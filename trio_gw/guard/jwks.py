"""JSON Web Key sets (RFC 7517): the keys that can verify signatures of the issuers.

Called by `keys` with a document from a file or a server. Pure. The document is untrusted, so sizes
are bounded, and an unusable key does not affect the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import msgspec

from trio_gw.guard.certificates import PublicKey, algorithms_for

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_KEYS = 100  # of one issuer; a token without `kid` is tried against each that fits
# The public members of a JWK (RFC 7518 §6); private ones are ignored.
_PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")


class Key(msgspec.Struct, frozen=True):
    """A public key, and the algorithms it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    public: PublicKey


class KeySetError(Exception):
    """A document is not a JWK set, or has no key that can be used."""


def parse_key_set(data: bytes, allowed: Iterable[str]) -> tuple[Key, ...]:
    """Read a JWK set (RFC 7517 §5): the keys that can verify one of the allowed algorithms.

    Keys of other types, keys for encryption and weak RSA keys are skipped. Raises KeySetError
    if none is left.
    """
    try:
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise KeySetError("it is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise KeySetError("it has no list named keys, so it is not a JWK set")
    if len(entries) > MAX_KEYS:
        raise KeySetError(f"it has more than {MAX_KEYS} keys")
    keys: list[Key] = []
    faults: list[str] = []
    for position, entry in enumerate(entries):
        parsed = _parse_key(entry, frozenset(allowed))
        if isinstance(parsed, Key):
            keys.append(parsed)
        else:
            faults.append(f"key {position} {parsed}")
    if not keys:
        raise KeySetError("; ".join(["it has no usable key", *faults[:3]]))
    return tuple(keys)


def _parse_key(entry: object, allowed: frozenset[str]) -> Key | str:
    """Read one JWK, or return the reason why it cannot be used."""
    if not isinstance(entry, dict):
        return "is not an object"
    kid, use, operations = entry.get("kid"), entry.get("use", "sig"), entry.get("key_ops")
    if use != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return "is not for signatures"
    if kid is not None and not isinstance(kid, str):
        return "has a kid that is not text"
    members: dict[str, Any] = {name: entry[name] for name in _PUBLIC_MEMBERS if name in entry}
    if members.get("kty") not in ("RSA", "EC", "OKP"):
        return "is not an RSA, EC or OKP key"
    # PyJWT uses the algorithm only to choose a parser; the code below decides what fits.
    parser = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}[members["kty"]]
    try:
        public = jwt.PyJWK(members, algorithm=parser).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return "cannot be read"
    able = algorithms_for(public)
    if not able:
        return "is too weak, or of a kind that is not supported"
    if (named := entry.get("alg")) is not None:
        able = able & {named} if isinstance(named, str) else frozenset()
    if not able & allowed:
        return "fits none of the issuer's algorithms"
    return Key(kid, able & allowed, public)
