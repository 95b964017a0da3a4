"""Rules of `[testkey]`: its users, its issuer, and who may reach it with which password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config import passwords
from trio_gw.config.rules.faults import Fault, dotted, duplicates
from trio_gw.config.rules.general import LISTENERS
from trio_gw.config.settings import is_loopback, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.rules.faults import KeyPath
    from trio_gw.config.settings import Settings, User

_DEFAULT_PASSWORD = "admin"  # noqa: S105 - known to everyone, hence the rule below


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of the test keys."""
    yield from _testkey(settings)
    yield from _default_password(settings)


def _testkey(settings: Settings) -> Iterator[Fault]:
    testkey = settings.testkey
    if not testkey.issuer:
        yield Fault(("testkey", "issuer"), "testkey.issuer is empty")
    if testkey.validity < 1:
        yield Fault(("testkey", "validity"), "testkey.validity must be 1 second or more")
    for index, user in enumerate(testkey.users):
        path = ("testkey", "users", index)
        if not user.username or ":" in user.username:
            # RFC 7617 §2: Basic credentials end the user name at the first colon.
            yield Fault(
                (*path, "username"), f"{dotted(path)}.username is empty or has a colon in it"
            )
        yield from _password((*path, "password"), user)
    names = [user.username for user in testkey.users]
    yield from duplicates("testkey.users", "username", names)
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


def _password(path: KeyPath, user: User) -> Iterator[Fault]:
    if not user.password:
        yield Fault(path, f"{dotted(path)} is empty")
    elif passwords.is_hash(user.password):
        try:
            passwords.parse(user.password)
        except ValueError as error:
            yield Fault(
                path, f"{dotted(path)} is no usable hash: {error}", "run trio-gw hash-password"
            )


def _is_default(user: User) -> bool:
    if not passwords.is_hash(user.password):
        return user.password == _DEFAULT_PASSWORD
    try:
        return passwords.parse(user.password).matches(_DEFAULT_PASSWORD.encode())
    except ValueError:
        return False  # reported already


def _default_password(settings: Settings) -> Iterator[Fault]:
    """Refuse default credentials where others can reach them (spec: mission §2)."""
    open_listeners = []
    for name in LISTENERS:
        try:
            host, _ = parse_address(getattr(settings.listen, name))
        except ValueError:
            continue  # off, or already reported
        if not is_loopback(host):
            open_listeners.append(name)
    if not settings.testkey.enabled or not open_listeners:
        return
    listeners = " and ".join(f"listen.{name}" for name in open_listeners)
    for index, user in enumerate(settings.testkey.users):
        if _is_default(user):
            yield Fault(
                ("listen", open_listeners[0]),
                f"{listeners} can be reached from other machines while the test-key user"
                f" {user.username!r} still has the default password",
                f"set a password with TRIO_GW_TESTKEY_USERS_{index}_PASSWORD or in"
                " [[testkey.users]], or listen on localhost",
            )
