"""Users and their passwords, checked in the same time for every user, with a limit on guesses.

Used by `testkey` and `operators`. Every attempt does the same work: a key is derived for each cost
that occurs among the users' hashes, also for an unknown user. Keys are derived in a worker thread,
one at a time. After several failures an address must wait (`attempts`).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.config import passwords
from trio_gw.guard.attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.config.settings import User

MAX_WAITING = 32  # attempts in the queue of the worker thread
LONGEST_WAIT = 10.0  # maximum seconds in the queue


class SlowDownError(Exception):
    """There were too many attempts; the next is allowed after `seconds`."""

    def __init__(self, wait: float, why: str) -> None:
        self.seconds = max(1, math.ceil(wait))
        self.why = why
        super().__init__(why)


class _Account(msgspec.Struct, frozen=True):
    """A user in the form for comparison: `secret` is a digest, or with `hashed` a derived key."""

    username: str
    name: bytes
    secret: bytes
    hashed: passwords.ScryptHash | None = None

    def __repr__(self) -> str:
        return f"_Account({self.username!r})"


class Accounts:
    """Checks passwords."""

    def __init__(self, users: Sequence[User]) -> None:
        self._accounts = [_account(user) for user in users]
        self._costs = {one.hashed.cost for one in self._accounts if one.hashed is not None}
        self._decoy = secrets.token_bytes(16)  # the salt for users without one
        self._attempts = Attempts()
        self._deriving = trio.CapacityLimiter(1)

    def __contains__(self, username: str) -> bool:
        return any(account.username == username for account in self._accounts)

    async def authenticate(
        self, username: bytes, password: bytes, *, address: str, at: float
    ) -> str | None:
        """Return the user's name, None if name or password is wrong.

        `address` is that of the client, `at` the time of a monotonic clock. Raises
        `SlowDownError` after too many failed attempts.
        """
        if wait := self._attempts.begin(address, at):
            raise SlowDownError(wait, "too many failed attempts")
        try:
            user = await self._authenticated(username, password)
            if user is None:
                self._attempts.failed(address, at)
        finally:
            self._attempts.end(address)
        return user

    async def _authenticated(self, username: bytes, password: bytes) -> str | None:
        name, digest = _digest(username), _digest(password)
        salts = dict.fromkeys(self._costs, self._decoy)
        found = None
        for account in self._accounts:
            if hmac.compare_digest(name, account.name) and account.hashed is not None:
                salts[account.hashed.cost] = account.hashed.salt
        keys = await self._derive(password, salts)
        for account in self._accounts:
            # Both are always compared, and for every user: equal time.
            same_name = hmac.compare_digest(name, account.name)
            secret = digest if account.hashed is None else keys[account.hashed.cost]
            if hmac.compare_digest(secret, account.secret) & same_name:
                found = account.username
        return found

    async def _derive(
        self, password: bytes, salts: dict[passwords.Cost, bytes]
    ) -> dict[passwords.Cost, bytes]:
        """Derive a key with each cost, away from the event loop."""
        if not salts:
            return {}
        if self._deriving.statistics().tasks_waiting >= MAX_WAITING:
            raise SlowDownError(1.0, "too many attempts at once")

        def derive() -> dict[passwords.Cost, bytes]:
            return {cost: cost.derive(password, salt) for cost, salt in salts.items()}

        # Only the wait for the thread can time out: a derivation that has begun ends soon.
        with trio.move_on_after(LONGEST_WAIT):
            return await trio.to_thread.run_sync(derive, limiter=self._deriving)
        raise SlowDownError(LONGEST_WAIT, "too many attempts at once")


def _account(user: User) -> _Account:
    name = _digest(user.username.encode())
    if passwords.is_hash(user.password):
        hashed = passwords.parse(user.password)
        return _Account(user.username, name, hashed.key, hashed)
    return _Account(user.username, name, _digest(user.password.encode()))


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
