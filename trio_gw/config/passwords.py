"""Passwords in the settings: in plain text, or hashed with scrypt (RFC 7914).

A hash has the PHC string format that `trio-gw hash-password` prints:
`$scrypt$ln=14,r=8,p=5$<salt>$<hash>`, both parts base64 without padding. A value that begins with
`$scrypt$` is a hash, every other value is the password itself.

Deriving a key takes a tenth of a second and 16 MiB; the bounds below prevent that a settings file
requires much more.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import msgspec

PREFIX = "$scrypt$"
LENGTH = 32  # bytes of a derived key
MAX_MEMORY = 64 * 1024 * 1024  # bytes while deriving one key
MAX_WORK = 8 * MAX_MEMORY  # bytes processed while deriving one key

_HASH = re.compile(
    r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{1,128})\$([A-Za-z0-9+/]{1,128})"
)
_MIN_COST = 10  # a smaller ln does not protect against readers of the file
_SALT_LENGTH = 16


class Cost(msgspec.Struct, frozen=True):
    """The cost of deriving a key: `ln` is the logarithm of scrypt's N."""

    ln: int = 14
    r: int = 8
    p: int = 5

    @property
    def memory(self) -> int:
        """The bytes needed while a key is derived."""
        return 128 * self.r << self.ln

    def derive(self, password: bytes, salt: bytes) -> bytes:
        """Derive the key; slow, but other threads can run meanwhile."""
        # OpenSSL needs a little more than the table itself.
        room = self.memory + 128 * self.r * (self.p + 2) + 64 * 1024
        return hashlib.scrypt(
            password, salt=salt, n=1 << self.ln, r=self.r, p=self.p, maxmem=room, dklen=LENGTH
        )


class ScryptHash(msgspec.Struct, frozen=True):
    """A hashed password. Its repr shows neither salt nor key."""

    cost: Cost
    salt: bytes
    key: bytes

    def matches(self, password: bytes) -> bool:
        """Return whether this is the hash of that password; slow."""
        return hmac.compare_digest(self.cost.derive(password, self.salt), self.key)

    def __str__(self) -> str:
        salt, key = _encode(self.salt), _encode(self.key)
        return f"{PREFIX}ln={self.cost.ln},r={self.cost.r},p={self.cost.p}${salt}${key}"

    def __repr__(self) -> str:
        return f"ScryptHash({self.cost!r})"

    def __rich_repr__(self) -> list[tuple[str, Cost]]:
        return [("cost", self.cost)]


def is_hash(text: str) -> bool:
    """Return whether a password of the settings is a hash, well formed or not."""
    return text.startswith(PREFIX)


def parse(text: str) -> ScryptHash:
    """Read a hash. Raises ValueError with a text that says what is wrong, without the hash."""
    match = _HASH.fullmatch(text)
    if match is None:
        raise ValueError("it is not of the form $scrypt$ln=..,r=..,p=..$salt$hash")
    cost = Cost(*(int(number) for number in match.groups()[:3]))
    if cost.ln < _MIN_COST:
        raise ValueError(f"ln={cost.ln} is too weak, {_MIN_COST} is the least")
    if cost.memory > MAX_MEMORY:
        raise ValueError(
            f"ln={cost.ln},r={cost.r} would take more than {MAX_MEMORY >> 20} MiB for every attempt"
        )
    if cost.memory * cost.p > MAX_WORK:
        raise ValueError(f"ln={cost.ln},r={cost.r},p={cost.p} would take too long for an attempt")
    salt, key = (_decode(part) for part in match.groups()[3:])
    if len(salt) < _SALT_LENGTH // 2:
        raise ValueError("its salt has fewer than 8 bytes")
    if len(key) != LENGTH:
        raise ValueError(f"its last part is not {LENGTH} bytes in base64; it may have been cut off")
    return ScryptHash(cost, salt, key)


def make(password: bytes, salt: bytes) -> ScryptHash:
    """Hash a password; the salt is 16 new random bytes."""
    cost = Cost()
    return ScryptHash(cost, salt, cost.derive(password, salt))


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("its salt or its hash is not base64") from None
