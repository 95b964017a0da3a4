"""The settings that a running gateway applies when it reloads them, and the others.

Called at SIGHUP. Only these are applied: the log level, the deny conditions and the repository of
`[git]`. All others are fixed at start, so a change of them is reported by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.faults import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.faults import KeyPath
    from trio_gw.config.settings import Settings

_ABSENT = object()


def take_over(now: Settings, read: Settings) -> Settings:
    """Return the settings to use from now on.

    A repository can be replaced, but not added or removed, because other sources depend on whether
    there is one. The folder with its last good commit cannot change either.
    """
    git = now.git
    if git.url and read.git.url:
        git = msgspec.structs.replace(read.git, folder=git.folder)
    log = msgspec.structs.replace(now.log, level=read.log.level)
    return msgspec.structs.replace(now, git=git, log=log, deny=read.deny)


def differences(now: Settings, read: Settings) -> list[str]:
    """Return the keys with different values: `listen.http`, `issuers[0].jwks`, `tiers.Gold`."""
    return [dotted(path) for path in _differing(now, read, ())]


def _differing(one: object, other: object, path: KeyPath) -> Iterator[KeyPath]:
    if one == other:
        return
    if isinstance(one, msgspec.Struct) and type(one) is type(other):
        for name in one.__struct_fields__:
            yield from _differing(getattr(one, name), getattr(other, name), (*path, name))
    elif isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*one, *other)):
            yield from _differing(one.get(name, _ABSENT), other.get(name, _ABSENT), (*path, name))
    elif (
        isinstance(one, tuple)
        and isinstance(other, tuple)
        and len(one) == len(other)
        and isinstance(one[0], msgspec.Struct)
    ):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _differing(*pair, (*path, index))
    else:
        yield path
