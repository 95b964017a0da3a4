"""Rules of users and their passwords: `[testkey]` and `[admin]`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trio_gw.config import passwords
from trio_gw.config.addresses import is_host_name, is_loopback, parse_address
from trio_gw.config.faults import SettingsFault, dotted, duplicates
from trio_gw.config.rules.general import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_gw.config.faults import KeyPath
    from trio_gw.config.settings import Settings, User

ROLES = ("consumer", "publisher", "admin")
_DEFAULT_PASSWORD = "admin"  # noqa: S105 - publicly known, hence the rule below


def _users(table: str, users: Sequence[User]) -> Iterator[SettingsFault]:
    """Yield what is wrong with the entries of `[[<table>.users]]` themselves."""
    for index, user in enumerate(users):
        path = (table, "users", index)
        if not user.username or ":" in user.username:
            # RFC 7617 §2: Basic credentials end the user name at the first colon.
            yield SettingsFault(
                (*path, "username"), f"{dotted(path)}.username is empty or has a colon in it"
            )
        yield from _password((*path, "password"), user)
    yield from duplicates(f"{table}.users", "username", [user.username for user in users])


def _default_password(
    settings: Settings, table: str, users: Sequence[User], kind: str, listeners: Sequence[str]
) -> Iterator[SettingsFault]:
    """Refuse default credentials where others can reach them (spec: differences §2).

    `kind` says what these users are; `listeners` name those at which they count.
    """
    exposed = []
    for name in listeners:
        try:
            host, _ = parse_address(getattr(settings.listen, name))
        except ValueError:
            continue  # off, or already reported
        if not is_loopback(host):
            exposed.append(name)
    if not exposed:
        return
    named = " and ".join(f"listen.{name}" for name in exposed)
    for index, user in enumerate(users):
        if is_default(user):
            yield SettingsFault(
                ("listen", exposed[0]),
                f"{named} can be reached from other machines while the {kind}"
                f" {user.username!r} still has the default password",
                f"set a password with TRIO_GW_{table.upper()}_USERS_{index}_PASSWORD or in"
                f" [[{table}.users]], or listen on localhost",
            )


def _password(path: KeyPath, user: User) -> Iterator[SettingsFault]:
    if not user.password:
        yield SettingsFault(path, f"{dotted(path)} is empty")
    elif passwords.is_hash(user.password):
        try:
            passwords.parse(user.password)
        except ValueError as error:
            yield SettingsFault(
                path, f"{dotted(path)} is not a usable hash: {error}", "run trio-gw hash-password"
            )


def is_default(user: User) -> bool:
    """Return whether a user has the default password."""
    if not passwords.is_hash(user.password):
        return user.password == _DEFAULT_PASSWORD
    try:
        return passwords.parse(user.password).matches(_DEFAULT_PASSWORD.encode())
    except ValueError:
        return False  # reported already


def testkey(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of the test keys."""
    yield from _testkey(settings)
    if settings.testkey.enabled:
        kind = "test-key user"
        yield from _default_password(settings, "testkey", settings.testkey.users, kind, TRAFFIC)


def _testkey(settings: Settings) -> Iterator[SettingsFault]:
    testkey = settings.testkey
    if not testkey.issuer:
        yield SettingsFault(("testkey", "issuer"), "testkey.issuer is empty")
    if testkey.validity < 1:
        yield SettingsFault(("testkey", "validity"), "testkey.validity must be 1 second or more")
    yield from _users("testkey", testkey.users)
    if not testkey.enabled:
        return
    if not testkey.users:
        yield SettingsFault(
            ("testkey", "users"),
            "testkey has no users, so no test keys are issued",
            "add [[testkey.users]], or set testkey.enabled = false",
            "warning",
        )
    if testkey.issuer not in [one.issuer for one in settings.issuers]:
        yield SettingsFault(
            ("testkey", "issuer"),
            f"no entry of issuers trusts the test keys' issuer {testkey.issuer!r},"
            " so test keys open no API",
            f'add [[issuers]] with that issuer and certificate = "{settings.tls.cert}",'
            " or set testkey.enabled = false",
            "warning",
        )


LONGEST_TOKEN = 24 * 3600  # seconds a token may be good for


def admin(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of the admin API."""
    table = settings.admin
    yield from _users("admin", table.users)
    for index, user in enumerate(table.users):
        if user.role not in ROLES:
            yield SettingsFault(
                ("admin", "users", index, "role"),
                f"admin.users[{index}].role must be one of {', '.join(ROLES)}",
            )
    if not 1 <= table.token_validity <= LONGEST_TOKEN:
        yield SettingsFault(
            ("admin", "token_validity"),
            f"admin.token_validity must be from 1 to {LONGEST_TOKEN} seconds",
        )
    if not 1 <= table.max_upload <= 128:
        # No larger zip is read (feed.zip_directory).
        yield SettingsFault(("admin", "max_upload"), "admin.max_upload must be from 1 to 128 (MiB)")
    if not (math.isfinite(table.upload_timeout) and table.upload_timeout > 0):
        yield SettingsFault(
            ("admin", "upload_timeout"),
            "admin.upload_timeout must be more than 0 seconds, and finite",
        )
    for index, name in enumerate(table.hosts):
        if not is_host_name(name.removeprefix("*.")):
            yield SettingsFault(
                ("admin", "hosts", index),
                f"{name[:80]!r} is not a host name",
                'write it without scheme and port, like "gateway.example" or "*.example.com"',
            )
    if settings.apis and settings.apis == settings.deployed:
        yield SettingsFault(
            ("deployed",),
            "deployed and apis are the same folder",
            "name a separate folder for projects deployed over the REST API",
        )
    if not settings.listen.admin:
        return
    if not table.users:
        yield SettingsFault(
            ("admin", "users"),
            "admin has no users, so the REST API cannot be used",
            'add [[admin.users]], or turn it off with listen.admin = ""',
            "warning",
        )
    yield from _default_password(settings, "admin", table.users, "admin user", ("admin",))
