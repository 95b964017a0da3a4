"""The built-in token issuer: `/testkey`, and `trio-gw token` (spec: routing §12.1).

`answer` is called by `proxy.builtin` with the parts of a request, `mint` by the command line.
No I/O and no clock.

`accounts` checks passwords.
"""

from __future__ import annotations

import base64
import email
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import jwt

from trio_gw.errors import Refusal, Side
from trio_gw.guard.accounts import Accounts, SlowDownError
from trio_gw.guard.assertion import algorithm_of, thumbprint

if TYPE_CHECKING:
    from trio_gw.config.settings import TestKey
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


class TestKeys:
    """Checks the users of `/testkey` and makes tokens with the gateway's own key."""

    def __init__(self, settings: TestKey, pair: KeyPair) -> None:
        self._issuer = settings.issuer
        self._validity = settings.validity
        self._accounts = Accounts(settings.users)
        self.use(pair)

    def use(self, pair: KeyPair) -> None:
        """Sign with this key from now on."""
        self._key = pair.private_key
        self._algorithm = algorithm_of(pair)
        self._x5t = thumbprint(pair)

    async def answer(
        self,
        authorization: bytes | None,
        body: bytes,
        now: float,
        *,
        address: str,
        at: float,
        content_type: str = "",
    ) -> tuple[int, str]:
        """Return status and text/plain body for a request with any method.

        `authorization` is the value of that header, None if there is none. `address` is that of
        the client; `now` is in epoch seconds, `at` in seconds of a monotonic clock. Every scope
        that the body asks for is granted. Raises `Refusal` after too many failed attempts.
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
        try:
            user = await self._accounts.authenticate(username, password, address=address, at=at)
        except SlowDownError as error:
            raise _slow_down(error) from None
        if user is None:
            return 401, _WRONG
        return 200, self.mint(user, _requested_scope(body, content_type), now)

    def mint(
        self,
        user: str,
        scope: str | None,
        now: float,
        *,
        key_type: str = "PRODUCTION",
        validity: int = 0,
    ) -> str:
        """Make a token for a user (spec: security §5); `now` is in epoch seconds.

        `key_type` is `PRODUCTION` or `SANDBOX`, `validity` in seconds; 0 is that of the settings.
        """
        issued = int(now)
        claims: dict[str, str | int] = {
            "iss": self._issuer,
            "aud": _AUDIENCE,
            "sub": user,
            "keytype": key_type,
        }
        if scope is not None:
            claims["scope"] = scope
        claims |= {
            "iat": issued,
            "exp": issued + (validity or self._validity),
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(
            claims,
            self._key,
            algorithm=self._algorithm,
            headers={"x5t": self._x5t},
            sort_headers=False,
        )


def _slow_down(error: SlowDownError) -> Refusal:
    seconds = error.seconds
    return Refusal(
        429,
        "429",
        f"Too many attempts. Please try again in {seconds} s.".encode(),
        headers=(*_TEXT, (b"retry-after", b"%d" % seconds)),
        by=Side.CLIENT,
        why=error.why,
    )


def _basic(credentials: bytes) -> tuple[bytes, bytes]:
    """Decode Basic credentials (RFC 7617 §2), padded or not. Raises ValueError."""
    padding = b"=" * (-len(credentials) % 4)
    text = base64.b64decode(credentials + padding, validate=True)
    username, colon, password = text.partition(b":")
    if not colon:
        raise ValueError("no colon")
    return username, password


def _requested_scope(body: bytes, content_type: str) -> str | None:
    """Read `scope=…` from the body; the last one counts.

    A body declared as a form is decoded as one (WHATWG URL §5.1, RFC 7578); any other is read
    literally, as in the reference.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        scopes = _multipart(body, content_type)
    elif kind == "application/x-www-form-urlencoded":
        pairs = parse_qsl(body.decode(errors="replace"))
        scopes = [value for name, value in pairs if name == "scope"]
    else:
        pieces = [part.rstrip("=").split("=") for part in body.decode(errors="replace").split("&")]
        scopes = [piece[1] for piece in pieces if piece[0] == "scope" and len(piece) == 2]
    return scopes[-1] if scopes else None


def _multipart(body: bytes, content_type: str) -> list[str]:
    """Read the fields `scope` of a multipart form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = email.message_from_bytes(head + body)
    found = []
    for part in message.walk():
        text = part.get_payload(decode=True)  # None for a part that has parts
        named = part.get_param("name", header="content-disposition") == "scope"
        if named and isinstance(text, bytes):
            found.append(text.decode(errors="replace"))
    return found
