"""Verifying a backend JWT with a served key set, as a backend does."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

import jwt


class Verified(NamedTuple):
    """What a token says, and the key that signed it."""

    head: dict[str, Any]
    claims: dict[str, Any]
    key: jwt.PyJWK


def verify(token: str, jwks: bytes) -> Verified:
    """Verify a token in either alphabet; fails if it is not signed by a key of the set.

    In the alphabet of RFC 7515 PyJWT does all of it. The other one it refuses to decode, as
    strict libraries do; then it verifies what has been decoded here. Times are not checked.
    """
    raw = [_decode(part) for part in token.split(".")]
    head = json.loads(raw[0])
    keys = jwt.PyJWKSet.from_json(jwks.decode()).keys
    (key,) = [key for key in keys if key.key_id == head.get("kid", key.key_id)]
    signed = token.rpartition(".")[0].encode()
    assert key.Algorithm.verify(signed, key.key, raw[2])
    claims: dict[str, Any] = json.loads(raw[1])
    if not set("+/") & set(token):
        options: Any = {"verify_exp": False, "verify_iat": False}
        assert jwt.decode(token, key, algorithms=[head["alg"]], options=options) == claims
    return Verified(head, claims, key)


def _decode(part: str) -> bytes:
    assert part.isascii()
    assert "=" not in part
    altchars = b"-_" if set("-_") & set(part) else b"+/"
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars, validate=True)
