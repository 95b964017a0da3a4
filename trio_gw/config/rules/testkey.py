"""Rules of `[testkey]`: its users and its issuer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.rules import users
from trio_gw.config.rules.faults import Fault
from trio_gw.config.rules.general import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of the test keys."""
    yield from _testkey(settings)
    if settings.testkey.enabled:
        kind = "test-key user"
        yield from users.default_password(
            settings, "testkey", settings.testkey.users, kind, TRAFFIC
        )


def _testkey(settings: Settings) -> Iterator[Fault]:
    testkey = settings.testkey
    if not testkey.issuer:
        yield Fault(("testkey", "issuer"), "testkey.issuer is empty")
    if testkey.validity < 1:
        yield Fault(("testkey", "validity"), "testkey.validity must be 1 second or more")
    yield from users.check("testkey", testkey.users)
    if not testkey.enabled:
        return
    if not testkey.users:
        yield Fault(
            ("testkey", "users"),
            "testkey has no users, so nobody can get a test key",
            "add [[testkey.users]], or set testkey.enabled = false",
            "warning",
        )
    if testkey.issuer not in [one.issuer for one in settings.issuers]:
        yield Fault(
            ("testkey", "issuer"),
            f"no entry of issuers trusts the test keys' issuer {testkey.issuer!r},"
            " so test keys open no API",
            f'add [[issuers]] with that issuer and certificate = "{settings.tls.cert}",'
            " or set testkey.enabled = false",
            "warning",
        )
