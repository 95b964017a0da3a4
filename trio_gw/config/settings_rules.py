"""The rules for settings in addition to their types.

Called by `settings_file.load` with decoded settings. Pure: it opens no file and resolves no name.
A `SettingsFault` gives the path of a key; the loader knows the file and the line. Each group of
tables has a module in `rules/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.rules import (
    control_plane,
    general,
    git,
    limits,
    observing,
    portal,
    tls,
    tokens,
    users,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.faults import SettingsFault
    from trio_gw.config.settings import Settings

_GROUPS = (
    general.check,
    tokens.check,
    users.testkey,
    users.admin,
    portal.check,
    git.check,
    control_plane.check,
    tokens.backend_jwt,
    general.backends,
    general.cors,
    tls.check,
    limits.check,
    limits.deny,
    observing.check,
)


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield every rule that these settings break."""
    for group in _GROUPS:
        yield from group(settings)
