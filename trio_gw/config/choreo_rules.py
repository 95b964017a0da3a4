"""What may happen to a key of a Choreo Connect configuration. Called by `choreo_keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class To(NamedTuple):
    """The key becomes this setting; `change` converts the value, None if it cannot."""

    target: str
    change: Callable[[Any], Any] | None = None
    cannot: str = ""


class AddressPart(NamedTuple):
    """The key is one part of a listener's address: `enabled`, `host` or `port`."""

    target: str
    part: str


class Switch(NamedTuple):
    """The key enables a table; unless it is `true`, the table is left out."""

    target: str


class GroupPart(NamedTuple):
    """The key is one part of a group of receivers: `publish`, `login` or `kind`."""

    part: str


class Drop(NamedTuple):
    """The key has no meaning here; `why` explains it."""

    why: str


class Later(NamedTuple):
    """The key has no meaning in this version; `why` says what applies instead."""

    why: str


Rule = To | AddressPart | GroupPart | Switch | Drop | Later
