"""What settings must satisfy beyond their types.

Called by `settings_file.load` with decoded settings. Pure: it opens no file and resolves no
name. A `Fault` points at a key by its path; the loader knows the file and the line of it. Each
group of tables has a room of its own in `rules/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.rules import (
    admin,
    backend_jwt,
    backends,
    cors,
    deny,
    general,
    git,
    issuers,
    limits,
    observing,
    testkey,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.rules.faults import Fault
    from trio_gw.config.settings import Settings

_GROUPS = (
    general.check,
    issuers.check,
    testkey.check,
    admin.check,
    git.check,
    backend_jwt.check,
    backends.check,
    cors.check,
    tls.check,
    limits.check,
    deny.check,
    observing.check,
)


def check(settings: Settings) -> Iterator[Fault]:
    """Yield every rule that these settings break."""
    for group in _GROUPS:
        yield from group(settings)
