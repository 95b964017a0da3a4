"""Users of the admin API, authenticated by password or by a token made here.

Tokens are like those of the reference system (spec: adapter-rest §2.1): signed with the key of the
gateway, with exactly the claims `username`, `scope` and `exp`. Test keys and API tokens signed with
the same key have other claims, so they are not accepted here, and these tokens open no API.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import jwt
import jwt.types

from trio_gw.guard.accounts import Accounts
from trio_gw.guard.assertion import algorithm_of
from trio_gw.guard.roles import Role, role_of

if TYPE_CHECKING:
    from trio_gw.config.settings import Admin
    from trio_gw.guard.certificates import KeyPair

SCOPE = "admin"
_CLAIMS = {"username", "scope", "exp"}
_CHECKED_HERE = jwt.types.Options(verify_exp=False, verify_aud=False, verify_iss=False)
MAX_TOKEN = 4096  # bytes; ours have a few hundred


class Operators:
    """Checks users and tokens. `now` is in epoch seconds, `at` in those of a monotonic clock."""

    def __init__(self, settings: Admin, pair: KeyPair) -> None:
        self._accounts = Accounts(settings.users)
        self._roles = {user.username: role_of(user.role) for user in settings.users}
        self._validity = settings.token_validity
        self.use(pair)

    def use(self, pair: KeyPair) -> None:
        """Sign with this key from now on; tokens of the previous key become invalid."""
        self._key = pair.private_key
        self._algorithm = algorithm_of(pair)

    async def login(
        self, username: str, password: str, *, address: str, at: float, now: float
    ) -> str | None:
        """Return a token, None if name or password is wrong. Raises `SlowDownError`."""
        user = await self.authenticate(username, password, address=address, at=at)
        return None if user is None else self.mint(user, now)

    async def authenticate(
        self, username: str, password: str, *, address: str, at: float
    ) -> str | None:
        """Return the user's name, None if name or password is wrong. Raises `SlowDownError`."""
        return await self._accounts.authenticate(
            username.encode(), password.encode(), address=address, at=at
        )

    def role(self, user: str) -> Role:
        """Return the role of a user."""
        return self._roles.get(user, Role.NOBODY)

    def mint(self, user: str, now: float) -> str:
        """Make a token."""
        claims = {"username": user, "scope": SCOPE, "exp": int(now) + self._validity}
        return jwt.encode(claims, self._key, algorithm=self._algorithm, sort_headers=False)

    async def basic(self, credentials: str, *, address: str, at: float) -> str | None:
        """Return the user of these Basic credentials, None if they are wrong.

        Raises `SlowDownError`.
        """
        try:
            text = base64.b64decode(credentials + "=" * (-len(credentials) % 4), validate=True)
        except ValueError:
            return None
        username, colon, password = text.partition(b":")
        if not colon:
            return None
        return await self._accounts.authenticate(username, password, address=address, at=at)

    def bearer(self, token: str, now: float) -> str | None:
        """Return the user of a token, None if it is not valid."""
        if len(token) > MAX_TOKEN:
            return None
        try:
            claims = jwt.decode(
                token, self._key.public_key(), [self._algorithm], options=_CHECKED_HERE
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        user, expiry = claims.get("username"), claims.get("exp")
        if set(claims) != _CLAIMS or claims["scope"] != SCOPE:
            return None
        if not isinstance(expiry, int | float) or now >= expiry:
            return None
        return user if isinstance(user, str) and user in self._accounts else None
