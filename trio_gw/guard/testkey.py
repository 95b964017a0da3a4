"""The built-in token issuer: `/testkey`, and `trio-gw token` (spec: routing §12.1).

`answer` is called by `proxy.builtin` with the parts of a request, `mint` by the command line.
No I/O and no clock.

Passwords are kept as digests or scrypt hashes only. Every attempt costs the same, so that the
time taken tells nothing: every user is compared, and one key is derived for each cost that any
user's hash has, whether the user exists, has a hash of that cost, or none. Keys are derived in
a worker thread, one at a time; who fails often has to wait (`attempts`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import uuid
from typing import TYPE_CHECKING

import jwt
import msgspec
import trio

from trio_gw.config import passwords
from trio_gw.errors import Refusal, Side
from trio_gw.guard.attempts import Attempts
from trio_gw.guard.signing import algorithm_of, thumbprint

if TYPE_CHECKING:
    from trio_gw.config.settings import TestKey, User
    from trio_gw.errors import Headers
    from trio_gw.guard.certificates import KeyPair

_AUDIENCE = "http://org.wso2.apimgt/gateway"
_NO_HEADER = (
    "User is NOT authorized to generate a token."
    " Please provide a valid Authorization header to continue."
)
_WRONG = "Wrong username or password. Please provide valid credentials."
_MALFORMED = "Error occurred while processing the request."
_TEXT: Headers = ((b"content-type", b"text/plain"), (b"cache-control", b"no-store"))
MAX_WAITING = 32  # attempts that wait for the worker thread
LONGEST_WAIT = 10.0  # seconds for which one does


class _Account(msgspec.Struct, frozen=True):
    """A user as it is compared: `secret` is a digest, or with `hashed` a derived key."""

    username: str
    name: bytes
    secret: bytes
    hashed: passwords.ScryptHash | None = None

    def __repr__(self) -> str:
        return f"_Account({self.username!r})"


class TestKeys:
    """Checks the users of `/testkey` and makes tokens with the gateway's own key."""

    def __init__(self, settings: TestKey, pair: KeyPair) -> None:
        self._issuer = settings.issuer
        self._validity = settings.validity
        self._accounts = [_account(user) for user in settings.users]
        self._costs = {one.hashed.cost for one in self._accounts if one.hashed is not None}
        self._decoy = secrets.token_bytes(16)  # the salt where there is no user's own
        self._attempts = Attempts()
        self._deriving = trio.CapacityLimiter(1)
        self.use(pair)

    def use(self, pair: KeyPair) -> None:
        """Sign with this key from now on."""
        self._key = pair.private_key
        self._algorithm = algorithm_of(pair)
        self._x5t = thumbprint(pair)

    async def answer(
        self, authorization: bytes | None, body: bytes, now: float, *, address: str, at: float
    ) -> tuple[int, str]:
        """Return status and text/plain body for a request with any method.

        `authorization` is the value of that header, None if there is none. `address` is who
        asks; `now` is in epoch seconds, `at` in seconds of a clock that only goes forward. Any
        scope is granted, as the body asks for it. Raises `Refusal` when there were too many
        failed attempts.
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
        if wait := self._attempts.begin(address, at):
            raise _slow_down(wait, "too many failed attempts")
        try:
            user = await self._authenticated(username, password)
            if user is None:
                self._attempts.failed(address, at)
        finally:
            self._attempts.end(address)
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

    async def _authenticated(self, username: bytes, password: bytes) -> str | None:
        name, digest = _digest(username), _digest(password)
        salts = dict.fromkeys(self._costs, self._decoy)
        found = None
        for account in self._accounts:
            if hmac.compare_digest(name, account.name) and account.hashed is not None:
                salts[account.hashed.cost] = account.hashed.salt
        keys = await self._derive(password, salts)
        for account in self._accounts:
            # Both are compared whatever the first says, and for every user.
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
            raise _slow_down(1.0, "too many attempts at once")

        def derive() -> dict[passwords.Cost, bytes]:
            return {cost: cost.derive(password, salt) for cost, salt in salts.items()}

        # Only the wait for the thread can run out: what has begun is soon done.
        with trio.move_on_after(LONGEST_WAIT):
            return await trio.to_thread.run_sync(derive, limiter=self._deriving)
        raise _slow_down(LONGEST_WAIT, "too many attempts at once")


def _account(user: User) -> _Account:
    name = _digest(user.username.encode())
    if passwords.is_hash(user.password):
        hashed = passwords.parse(user.password)
        return _Account(user.username, name, hashed.key, hashed)
    return _Account(user.username, name, _digest(user.password.encode()))


def _slow_down(wait: float, why: str) -> Refusal:
    seconds = max(1, math.ceil(wait))
    return Refusal(
        429,
        "429",
        f"Too many attempts. Please try again in {seconds} s.".encode(),
        headers=(*_TEXT, (b"retry-after", b"%d" % seconds)),
        by=Side.CLIENT,
        why=why,
    )


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


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
