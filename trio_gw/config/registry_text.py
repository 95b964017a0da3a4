"""The text of the registry's file: JSON with one application on a line. Pure.

Applications are read and written one by one, so that a thread that does so holds up no other for
long, and one whose text has not changed is the same object as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import registry
from trio_gw.config.registry import RegisteredApplication, Registry, RevokedName, RevokedToken

if TYPE_CHECKING:
    from collections.abc import Mapping

_APPLICATION = msgspec.json.Decoder(RegisteredApplication)
_ENCODER = msgspec.json.Encoder()


class _RegistryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The members of the file; each application is decoded on its own."""

    serial: int = 0
    last_id: int = 0
    applications: tuple[msgspec.Raw, ...] = ()
    tokens: tuple[RevokedToken, ...] = ()
    names: tuple[RevokedName, ...] = ()
    ended: dict[str, int] = {}


class ReadRegistry(msgspec.Struct, frozen=True):
    """A registry, and its applications by their texts, for the next reading."""

    registry: Registry
    texts: Mapping[bytes, RegisteredApplication]


NOTHING = ReadRegistry(registry.NOTHING, {})


def encode(current: Registry) -> bytes:
    """Return a registry as text."""
    rest = {
        "serial": current.serial,
        "last_id": current.last_id,
        "tokens": current.tokens,
        "names": current.names,
        "ended": current.ended,
    }
    rows = [_ENCODER.encode(one) for one in current.applications.values()]
    head = _ENCODER.encode(rest)[:-1]
    between = b"\n" if rows else b""
    return b'%b,"applications":[%b%b%b]}\n' % (head, between, b",\n".join(rows), between)


def decode(data: bytes, before: ReadRegistry = NOTHING) -> ReadRegistry:
    """Read a registry; what is the same text as `before` is the same application.

    Raises ValueError with a description of the fault.
    """
    file = msgspec.json.decode(data, type=_RegistryFile)
    if len(file.applications) > registry.MAX_APPLICATIONS:
        raise ValueError(f"there are more than {registry.MAX_APPLICATIONS} applications")
    texts: dict[bytes, RegisteredApplication] = {}
    applications: dict[str, RegisteredApplication] = {}
    keys: set[str] = set()
    numbers: set[int] = set()
    for number, raw in enumerate(file.applications, 1):
        text = bytes(raw)
        found = before.texts.get(text)
        if found is None:
            try:
                found = _APPLICATION.decode(text)
            except msgspec.DecodeError as error:
                raise ValueError(f"application {number}: {error}") from None
        texts[text] = found
        own = {key.consumer_key for key in found.keys.values()}
        ids = {found.id, *(one.id for one in found.subscriptions)}
        if found.uuid in applications or keys & own or numbers & ids:
            raise ValueError(f"application {number}: its id or a key is that of another one")
        if max(ids) > file.last_id:
            raise ValueError(f"application {number}: an id is larger than `last_id`")
        applications[found.uuid] = found
        keys |= own
        numbers |= ids
    made = Registry(file.serial, file.last_id, applications, file.tokens, file.names, file.ended)
    return ReadRegistry(made, texts)
