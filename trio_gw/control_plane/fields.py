"""Lenient reading of the JSON objects of API Manager, in REST answers and in messages. Pure.

A missing field or null gives the default. Numbers, texts and truth values are accepted in each
other's form, since releases of API Manager differ in this. Anything else is a `BadRowError`.
"""

from __future__ import annotations

import base64
import binascii
import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 4096  # characters of a field
MAPPED = 16 << 10  # characters of a map; what follows is left out
_INT64 = 1 << 63


class BadRowError(ValueError):
    """A row that cannot be used; the text says why, without values."""


def wrong_type(name: str, wanted: str) -> BadRowError:
    """Make the error for a field of the wrong type."""
    return BadRowError(f"`{name}` is not {wanted}")


class Fields:
    """The fields of one JSON object. Raises `BadRowError` unless it is an object."""

    __slots__ = ("values",)

    def __init__(self, values: object) -> None:
        if not isinstance(values, dict):
            raise BadRowError("it is not an object")
        self.values: Mapping[str, Any] = values

    def text(self, name: str, default: str = "", *, longest: int = LONGEST) -> str:
        """Return a text; a number counts as its digits."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(int(value)) if value == int(value) else str(value)
        if not isinstance(value, str):
            raise wrong_type(name, "a text")
        if len(value) > longest:
            raise BadRowError(f"`{name}` is longer than {longest:,} characters")
        return value

    def name(self, name: str, default: str = "") -> str:
        """Return a text that many rows have in common; it is in memory once."""
        return sys.intern(self.text(name, default))

    def required(self, name: str) -> str:
        """Return a text that must not be empty."""
        value = self.text(name)
        if not value:
            raise BadRowError(f"`{name}` is missing")
        return value

    def number(self, name: str, default: int | None = 0) -> int:
        """Return an integer of 64 bits; without a default it is required."""
        value = self.values.get(name)
        if isinstance(value, str):
            text = value.strip()
            digits = text.removeprefix("-")
            value = int(text) if digits.isascii() and digits.isdigit() and len(text) < 20 else text
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(name, "an integer")
        if not -_INT64 <= value < _INT64:
            raise wrong_type(name, "a number of 64 bits")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a truth value."""
        value = self.values.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.strip().lower())
        if not isinstance(value, bool):
            raise wrong_type(name, "true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; other elements are skipped."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise wrong_type(name, "a list")
        return tuple(each for each in value if isinstance(each, str) and len(each) <= LONGEST)

    def mapping(self, name: str) -> dict[str, str]:
        """Return a map of texts of limited size; entries that are not texts are skipped."""
        value = self.values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise wrong_type(name, "an object")
        found: dict[str, str] = {}
        size = 0
        for key, each in value.items():
            if isinstance(each, str):
                size += len(key) + len(each)
                if size > MAPPED:
                    break
                found[key] = each
        return found

    def inner(self, name: str) -> Fields | None:
        """Return an object inside of this one; None if there is none."""
        value = self.values.get(name)
        return None if value is None else Fields(value)

    def items(self, name: str) -> list[object]:
        """Return a list of anything."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise wrong_type(name, "a list")
        return value

    def names(self) -> tuple[str, ...]:
        """Return the names of all fields that are not too long."""
        return tuple(name for name in self.values if len(name) <= LONGEST)

    def lowered(self, **more: object) -> Fields:
        """Return the fields with names in lower case, and more fields that win over them."""
        return Fields({name.lower(): value for name, value in self.values.items()} | more)

    def has(self, name: str) -> bool:
        """Return whether there is a value."""
        return self.values.get(name) is not None


def parse(data: bytes | msgspec.Raw | str) -> object:
    """Decode JSON. Raises `BadRowError`."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise BadRowError("it is not valid JSON") from None


def packed(name: str, text: str) -> bytes:
    """Decode standard base64. Raises `BadRowError`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise wrong_type(name, "base64") from None
