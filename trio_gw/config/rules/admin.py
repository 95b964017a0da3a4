"""Rules of `[admin]`: who may deploy, and how much is taken from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trio_gw.config.addresses import is_host_name
from trio_gw.config.rules import users
from trio_gw.config.rules.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

LONGEST = 24 * 3600  # seconds a token may be good for


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of the admin API."""
    admin = settings.admin
    yield from users.check("admin", admin.users)
    if not 1 <= admin.token_validity <= LONGEST:
        yield Fault(
            ("admin", "token_validity"),
            f"admin.token_validity must be from 1 to {LONGEST} seconds",
        )
    if not 1 <= admin.max_upload <= 128:
        # No larger zip is read (feed.zipdirectory).
        yield Fault(("admin", "max_upload"), "admin.max_upload must be from 1 to 128 (MiB)")
    if not (math.isfinite(admin.upload_timeout) and admin.upload_timeout > 0):
        yield Fault(
            ("admin", "upload_timeout"),
            "admin.upload_timeout must be more than 0 seconds, and finite",
        )
    for index, name in enumerate(admin.hosts):
        if not is_host_name(name.removeprefix("*.")):
            yield Fault(
                ("admin", "hosts", index),
                f"{name[:80]!r} is not a host name",
                'write it without scheme and port, like "gateway.example" or "*.example.com"',
            )
    if settings.apis and settings.apis == settings.deployed:
        yield Fault(
            ("deployed",),
            "deployed and apis are the same folder",
            "name a folder of its own for what is deployed over the REST API",
        )
    if not settings.listen.admin:
        return
    if not admin.users:
        yield Fault(
            ("admin", "users"),
            "admin has no users, so nobody can use the REST API",
            'add [[admin.users]], or turn it off with listen.admin = ""',
            "warning",
        )
    yield from users.default_password(settings, "admin", admin.users, "admin user", ("admin",))
