"""Which settings a running gateway takes over when they are read again, and which it does not.

Called at SIGHUP. What stands here is all that is renewed: how much is logged, who is denied, and
the repository of `[git]`. Everything else is built into the parts at their start, so a change of it
is told by name instead of being taken for done.
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
    """Return the settings to run with from now on.

    A repository can take the place of another, but neither come nor go: what is served beside
    it depends on whether there is one. Nor can the folder that keeps its last good commit.
    """
    git = now.git
    if git.url and read.git.url:
        git = msgspec.structs.replace(read.git, folder=git.folder)
    log = msgspec.structs.replace(now.log, level=read.log.level)
    return msgspec.structs.replace(now, git=git, log=log, deny=read.deny)


def differences(now: Settings, read: Settings) -> list[str]:
    """Name the keys whose values differ: `listen.http`, `issuers[0].jwks`, `tiers.Gold`."""
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
