"""The built-in token issuer: `/testkey`, and `trio-gw token` (spec: routing §12.1).

`answer` is called by `proxy.builtin` with the parts of a request, `mint` by the command line.
No I/O and no clock. Passwords are kept as digests only, and every user is compared on every
attempt, so that the time taken does not tell a wrong password from an unknown user.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives import serialization

from trio_gw.guard.certificates import algorithms_for

if TYPE_CHECKING:
    from trio_gw.config.settings import TestKey
    from trio_gw.guard.certificates import KeyPair

_AUDIENCE = "http://org.wso2.apimgt/gateway"
_NO_HEADER = (
    "User is NOT authorized to generate a token."
    " Please provide a valid Authorization header to continue."
)
_WRONG = "Wrong username or password. Please provide valid credentials."
_MALFORMED = "Error occurred while processing the request."


class TestKeys:
    """Checks the users of `/testkey` and makes tokens with the gateway's own key."""

    def __init__(self, settings: TestKey, pair: KeyPair) -> None:
        self._issuer = settings.issuer
        self._validity = settings.validity
        self._users = [
            (user.username, _digest(user.username.encode()), _digest(user.password.encode()))
            for user in settings.users
        ]
        self._key = pair.private_key
        able = algorithms_for(pair.private_key.public_key())
        # Of the six that an RSA key can do, the one that the reference system uses.
        self._algorithm = "RS256" if "RS256" in able else min(able)
        self._x5t = _thumbprint(pair)

    def answer(self, authorization: bytes | None, body: bytes, now: float) -> tuple[int, str]:
        """Return status and text/plain body for a request with any method.

        `authorization` is the value of that header, None if there is none; `now` is in epoch
        seconds. Any scope is granted, as the body asks for it.
        """
        if authorization is None:
            return 401, _NO_HEADER
        scheme, _, credentials = authorization.strip().partition(b" ")
        if scheme.lower() != b"basic":
            return 401, _WRONG
        try:
            username, password = _basic(credentials.strip())
        except ValueError:
            return 400, _MALFORMED
        user = self._authenticated(username, password)
        if user is None:
            return 401, _WRONG
        return 200, self.mint(user, _requested_scope(body), now)

    def mint(self, user: str, scope: str | None, now: float) -> str:
        """Make a token for a user (spec: security §5); `now` is in epoch seconds."""
        issued = int(now)
        claims: dict[str, str | int] = {
            "iss": self._issuer,
            "aud": _AUDIENCE,
            "sub": user,
            "keytype": "PRODUCTION",
        }
        if scope is not None:
            claims["scope"] = scope
        claims |= {"iat": issued, "exp": issued + self._validity, "jti": str(uuid.uuid4())}
        return jwt.encode(
            claims,
            self._key,
            algorithm=self._algorithm,
            headers={"x5t": self._x5t},
            sort_headers=False,
        )

    def _authenticated(self, username: bytes, password: bytes) -> str | None:
        name, secret = _digest(username), _digest(password)
        found = None
        for user, expected_name, expected_secret in self._users:
            # Both are compared whatever the first says, and for every user.
            same_name = hmac.compare_digest(name, expected_name)
            if hmac.compare_digest(secret, expected_secret) & same_name:
                found = user
        return found


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _thumbprint(pair: KeyPair) -> str:
    """Make `x5t` as the reference system does: base64url of the *hex* SHA-1, with padding."""
    der = pair.certificate.public_bytes(serialization.Encoding.DER)
    hexadecimal = hashlib.sha1(der, usedforsecurity=False).hexdigest()
    return base64.urlsafe_b64encode(hexadecimal.encode()).decode()


def _basic(credentials: bytes) -> tuple[bytes, bytes]:
    """Decode Basic credentials (RFC 7617 §2), padded or not. Raises ValueError."""
    padding = b"=" * (-len(credentials) % 4)
    text = base64.b64decode(credentials + padding, validate=True)
    username, colon, password = text.partition(b":")
    if not colon:
        raise ValueError("no colon")
    return username, password


def _requested_scope(body: bytes) -> str | None:
    """Read `scope=…` out of the body; the last one counts, and nothing is percent-decoded."""
    scope = None
    for part in body.decode(errors="replace").split("&"):
        name, *values = part.rstrip("=").split("=")
        if name == "scope" and len(values) == 1:
            scope = values[0]
    return scope
