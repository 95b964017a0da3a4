"""What all templates may use besides their values: filters and functions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trio_gw.escaping import escape
from trio_gw.portal.served_apis import api_address

if TYPE_CHECKING:
    from jinja2 import Environment


def utc(seconds: float) -> str:
    """Write a time as scripts read it: ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def plain(text: object) -> str:
    """Make control characters and those that reorder text visible."""
    return escape(str(text))


def install(environment: Environment) -> None:
    """Add the filters `utc` and `plain`, and the function `api_address`."""
    environment.filters["utc"] = utc
    environment.filters["plain"] = plain
    environment.globals["api_address"] = api_address
