"""Session tokens: the value of the portal's cookie, a JWT that is accepted nowhere else.

Each user has a key of his own, derived from the gateway's private key, his password as it stands in
the settings, and his role. So a session ends when one of these changes, or the user is removed. The
algorithm is fixed; no other token of the gateway is signed with these keys, or has this `typ`.
spec: portal §3.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, NamedTuple

import jwt
import jwt.types
from cryptography.hazmat.primitives import serialization

from trio_gw.guard.roles import Role, role_of
from trio_gw.portal.caller import Caller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.config.settings import AdminUser
    from trio_gw.guard.certificates import KeyPair

SLIDING = 15 * 60  # seconds that a session lives without a request
LONGEST = 12 * 3600  # seconds that it lives at most
RENEWED = 60  # seconds after which a request makes a new token
MAX_TOKEN = 1024  # bytes
_TYPE = "trio-gw-session"
_ALGORITHM = "HS256"
_CLAIMS = {"user", "role", "sid", "iat", "exp"}
_CHECKED_HERE = jwt.types.Options(
    verify_exp=False, verify_aud=False, verify_iss=False, verify_iat=False
)


class _Key(NamedTuple):
    role: Role
    secret: bytes


class SessionTokens:
    """Makes and checks tokens. `now` is in epoch seconds."""

    def __init__(self, users: Sequence[AdminUser], pair: KeyPair) -> None:
        private = pair.private_key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self.pair = pair
        main = hashlib.sha256(b"trio-gw portal session\0" + private).digest()
        self._keys = {user.username: _key(main, user) for user in users}

    def begin(self, user: str, now: float) -> tuple[str, Caller]:
        """Make the token of a new session."""
        role = self._keys[user].role
        session = secrets.token_urlsafe(16)
        return self._make(user, role, session, int(now), int(now) + SLIDING)

    def read(self, token: str, now: float) -> tuple[Caller, int] | None:
        """Return the caller, and when the session began; None if the token is not valid."""
        if len(token) > MAX_TOKEN:
            return None
        try:
            named = jwt.decode_complete(token, options={"verify_signature": False})
            user = named["payload"].get("user")
            key = self._keys.get(user) if isinstance(user, str) else None
            if key is None or named["header"].get("typ") != _TYPE:
                return None
            claims = jwt.decode(token, key.secret, [_ALGORITHM], options=_CHECKED_HERE)
        except (jwt.PyJWTError, ValueError, RecursionError, AttributeError):
            return None
        began, expires, session = claims.get("iat"), claims.get("exp"), claims.get("sid")
        if set(claims) != _CLAIMS or claims["role"] != key.role.name.lower():
            return None
        if not (isinstance(began, int) and isinstance(expires, int) and isinstance(session, str)):
            return None
        if not began - 60 <= now < min(expires, began + LONGEST):
            return None
        return Caller(claims["user"], key.role, session, expires), began

    def renew(self, caller: Caller, began: int, now: float) -> tuple[str, Caller] | None:
        """Make a token that lives longer; None if the given one is still new."""
        expires = min(int(now) + SLIDING, began + LONGEST)
        if expires < caller.expires + RENEWED:
            return None
        return self._make(caller.user, caller.role, caller.session, began, expires)

    def _make(
        self, user: str, role: Role, session: str, began: int, expires: int
    ) -> tuple[str, Caller]:
        claims = {
            "user": user,
            "role": role.name.lower(),
            "sid": session,
            "iat": began,
            "exp": expires,
        }
        token = jwt.encode(claims, self._keys[user].secret, _ALGORITHM, headers={"typ": _TYPE})
        return token, Caller(user, role, session, expires)


def _key(main: bytes, user: AdminUser) -> _Key:
    # The parts are digests, so that no two users have the same text.
    parts = (user.username, user.password, user.role)
    text = b"".join(hashlib.sha256(part.encode()).digest() for part in parts)
    return _Key(role_of(user.role), hmac.digest(main, text, "sha256"))
