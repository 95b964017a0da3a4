"""Conditions under which a decision of the Traffic Manager holds for a connection. Pure.

They come as base64 of a JSON array. Each entry names an address or a range of them, and headers,
query parameters and claims with regular expressions (spec: control-plane §8.3). An entry matches
if all its parts do. What cannot be read, or is too large, matches nothing.
"""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.guard.patterns import Pattern, compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trio_gw.guard.patterns import Budget

log = logging.getLogger("trio_gw.limits")

MAX_CONDITIONS = 16 * 1024  # characters of the base64 text
MAX_ENTRIES = 32
MAX_VALUES = 16  # headers, parameters or claims of one entry
MAX_NAME = 256  # characters


class ConditionSettings(msgspec.Struct, frozen=True):
    """Which parts of conditions count; the others are left out, as in the reference."""

    headers: bool = False
    query: bool = False
    claims: bool = False


class HandshakeFacts:
    """What conditions may look at. `address` is the number of the client's address.

    `values` are called when a condition asks for headers, query parameters or claims.
    """

    __slots__ = ("address", "claims", "headers", "query")

    def __init__(
        self,
        address: int,
        headers: Callable[[str], str | None] = lambda name: None,
        query: Callable[[str], str | None] = lambda name: None,
        claims: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self.address = address
        self.headers, self.query, self.claims = headers, query, claims


class _Addresses(msgspec.Struct, frozen=True):
    """The addresses from `first` to `last`, both included; or all others."""

    first: int
    last: int
    invert: bool

    def match(self, address: int) -> bool:
        return (self.first <= address <= self.last) != self.invert


class _Values(msgspec.Struct, frozen=True):
    """Names, and the expressions that all their values must match; or not all of them."""

    patterns: tuple[tuple[str, Pattern], ...]
    invert: bool

    def match(self, value_of: Callable[[str], str | None], budget: Budget) -> bool:
        for name, pattern in self.patterns:
            value = value_of(name)
            if not value or not pattern.found_in(value, budget):
                return self.invert and budget.left >= 0
        return not self.invert


class _Entry(msgspec.Struct, frozen=True):
    """One entry: all its parts must match."""

    addresses: _Addresses | None = None
    headers: _Values | None = None
    query: _Values | None = None
    claims: _Values | None = None

    def match(self, facts: HandshakeFacts, chosen: ConditionSettings, budget: Budget) -> bool:
        if self.addresses is not None and not self.addresses.match(facts.address):
            return False
        return all(
            part is None or not counts or part.match(value_of, budget)
            for part, counts, value_of in (
                (self.headers, chosen.headers, facts.headers),
                (self.query, chosen.query, facts.query),
                (self.claims, chosen.claims, facts.claims),
            )
        )


class ConditionGroup(msgspec.Struct, frozen=True):
    """The conditions of one decision: it holds if one of the entries matches."""

    entries: tuple[_Entry, ...] = ()

    def match(self, facts: HandshakeFacts, chosen: ConditionSettings, budget: Budget) -> bool:
        """Return whether one of the entries matches."""
        return any(entry.match(facts, chosen, budget) for entry in self.entries)


def parse_conditions(text: str) -> ConditionGroup | None:
    """Read the conditions of a decision; None if they cannot be read. Never raises."""
    try:
        return ConditionGroup(tuple(map(_entry, _entries(text))))
    except ValueError as error:
        log.warning("a throttling decision has no effect: %s", error)
        return None


def _entries(text: str) -> list[Any]:
    if len(text) > MAX_CONDITIONS:
        raise ValueError("its conditions are too large")
    try:
        listed = msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        raise ValueError("its conditions are not base64 of JSON") from None
    if not isinstance(listed, list) or len(listed) > MAX_ENTRIES:
        raise ValueError(f"its conditions are not an array of at most {MAX_ENTRIES}")
    return listed


def _entry(raw: object) -> _Entry:
    if not isinstance(raw, dict):
        raise ValueError("a condition is not an object")
    addresses = None
    if (specific := _part(raw, "ipspecific")) is not None:
        number = _number(specific, "specificIp")
        addresses = _Addresses(number, number, _inverted(specific))
    elif (within := _part(raw, "iprange")) is not None:
        first, last = _number(within, "startingIp"), _number(within, "endingIp")
        addresses = _Addresses(first, last, _inverted(within))
    return _Entry(
        addresses,
        headers=_values(_part(raw, "header"), fold=True),
        query=_values(_part(raw, "queryparametertype")),
        claims=_values(_part(raw, "jwtclaims")),
    )


def _part(raw: Mapping[str, object], name: str) -> dict[str, object] | None:
    part = raw.get(name)
    if part is not None and not isinstance(part, dict):
        raise ValueError(f"the condition {name} is not an object")
    return part


def _inverted(part: Mapping[str, object]) -> bool:
    return part.get("invert") in (True, "true")


def _number(part: Mapping[str, object], name: str) -> int:
    """Read an address as a number. JSON from Java may have numbers of 128 bits, also as text."""
    value = part.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 39:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 128:
        raise ValueError(f"{name} is not the number of an address")
    return value


def _values(part: Mapping[str, object] | None, *, fold: bool = False) -> _Values | None:
    values = None if part is None else part.get("values")
    if part is None or not values:
        return None
    if not isinstance(values, dict) or len(values) > MAX_VALUES:
        raise ValueError(f"values are not an object of at most {MAX_VALUES}")
    patterns = []
    for name, expression in values.items():
        if not isinstance(expression, str) or len(name) > MAX_NAME:
            raise ValueError("a value is not a text")
        if (pattern := compiled(expression)) is None:
            raise ValueError("a regular expression is wrong, too large or not supported")
        patterns.append((name.lower() if fold else name, pattern))
    return _Values(tuple(patterns), _inverted(part))
