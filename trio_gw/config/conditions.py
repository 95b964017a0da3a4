"""Deny conditions: callers that are refused regardless of their credentials (spec: frames §4.3).

Pure values. The settings hold them as written (`Deny`), a file has one per line; `condition` turns
either into a `Condition` or raises an error. `guard.denials` looks them up.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

TENANT = "carbon.super"  # of users without a tenant in their name
MAX_KEY = 1024  # characters
MAX_REASON = 200

Kind = Literal["api", "application", "user", "address", "subscription"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Deny(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[deny]]` of the settings: exactly one of the five keys is set; `reason` is for the log.

    With `invert` an address is denied if it is *not* the given one, or outside of the range.
    """

    api: str = ""
    application: str = ""
    user: str = ""
    address: str = ""
    subscription: str = ""
    invert: bool = False
    reason: str = ""

    @property
    def given(self) -> tuple[Kind, ...]:
        """Return the keys that are set."""
        return tuple(kind for kind in KINDS if getattr(self, kind))


class Range(NamedTuple):
    """Addresses of one version (4 or 6) as numbers, both ends included."""

    version: int
    first: int
    last: int


class Condition(msgspec.Struct, frozen=True):
    """One condition. `key` is in the form of the handshake; addresses also have a `range`."""

    kind: Kind
    key: str
    reason: str = ""
    invert: bool = False
    range: Range | None = None

    @property
    def meaning(self) -> tuple[Kind, str, bool]:
        """What it denies, without the reason."""
        return self.kind, self.key, self.invert

    def concerns(self, version: int, value: int) -> bool:
        """Return whether this condition denies an address."""
        if self.range is None:
            return False
        inside = self.range.version == version and self.range.first <= value <= self.range.last
        return inside is not self.invert

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.kind} {'any but ' if self.invert else ''}{self.key}{reason}"


def condition(kind: Kind, text: str, *, invert: bool = False, reason: str = "") -> Condition:
    """Read a condition; only addresses can be inverted.

    Raises ValueError with two texts: what is wrong, how to fix it.
    """
    key = text.strip()
    if not key or len(key) > MAX_KEY or not key.isprintable():
        what = f"{text[:100]!r} is not a printable text of 1 to {MAX_KEY} characters"
        raise ValueError(what, f"write {_EXAMPLES[kind]}")
    reason = reason.strip()[:MAX_REASON]
    if kind == "address":
        return Condition(kind, key, reason, invert, address_range(key))
    return Condition(kind, _spelled(kind, key), reason)


def address_range(text: str) -> Range:
    """Read an address, a network, or two addresses with a hyphen between them.

    IPv4-mapped IPv6 addresses count as IPv4. Raises ValueError like `condition`.
    """
    text = text.strip()
    first, hyphen, last = (part.strip() for part in text.partition("-"))
    try:
        if "%" in text:
            raise ValueError
        if hyphen:
            begin, end = number(first), number(last)
        elif "/" in text:
            network = ipaddress.ip_network(text, strict=False)
            begin, end = _plain(network.network_address), _plain(network.broadcast_address)
        else:
            begin = end = number(text)
    except ValueError:
        what = f"{text[:100]!r} is not an IP address, a network or a range of addresses"
        raise ValueError(what, f"write {_EXAMPLES['address']}") from None
    if begin[0] != end[0]:
        what = f"{text[:100]!r} goes from one version of IP to the other"
        raise ValueError(what, "write one condition for each version")
    if begin[1] > end[1]:
        raise ValueError(f"{text[:100]!r} ends before it begins", f"write {last}-{first}")
    return Range(begin[0], begin[1], end[1])


def number(text: str) -> tuple[int, int]:
    """Read an address as its IP version and its number. Raises ValueError if it is none."""
    # Link-local ones name an interface.
    return _plain(ipaddress.ip_address(text.partition("%")[0]))


def user_name(subject: str, tenant: str = "") -> str:
    """Return the name of a user in conditions and counters: `alice@carbon.super`."""
    return subject if "@" in subject else f"{subject}@{tenant or TENANT}"


def nobody_left(conditions: Iterable[Condition]) -> bool:
    """Return whether inverted conditions contradict each other, so that every address is denied."""
    allowed: Range | None = None
    for one in conditions:
        if not one.invert or one.range is None:
            continue
        if allowed is None:
            allowed = one.range
            continue
        first, last = max(allowed.first, one.range.first), min(allowed.last, one.range.last)
        if allowed.version != one.range.version or first > last:
            return True
        allowed = Range(allowed.version, first, last)
    return False


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[int, int]:
    if address.version == 6 and (mapped := address.ipv4_mapped) is not None:
        address = mapped
    return address.version, int(address)


_EXAMPLES: dict[Kind, str] = {
    "api": "a base path with its version, like /chat/1.0.0",
    "application": "owner and name, like alice:Chat client",
    "user": "a user, like alice@carbon.super",
    "address": "it like 203.0.113.7, 203.0.113.0/24, 2001:db8::/32 or 203.0.113.5-203.0.113.20",
    "subscription": "it like /chat/1.0.0:1.0.0:alice-Chat client:PRODUCTION",
}


def _spelled(kind: Kind, key: str) -> str:
    """Check a key that is not an address; return it in the form of the handshake."""
    good = True
    if kind == "api":
        key = key.rstrip("/")
        good = key.startswith("/")
    elif kind == "application":
        good = ":" in key and not key.endswith(":")
    elif kind == "user":
        key = user_name(key)
    elif kind == "subscription":
        rest, _, key_type = key.rpartition(":")
        key = f"{rest}:{key_type.upper()}"
        good = key.startswith("/") and rest.count(":") >= 2 and "-" in rest and bool(key_type)
    if not good:
        what = f"{key[:100]!r} is no {kind} as conditions name it"
        raise ValueError(what, f"write {_EXAMPLES[kind]}")
    return key
