"""Rules of users and their passwords, wherever the settings list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config import passwords
from trio_gw.config.addresses import is_loopback, parse_address
from trio_gw.config.rules.faults import Fault, dotted, duplicates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_gw.config.rules.faults import KeyPath
    from trio_gw.config.settings import Settings, User

_DEFAULT_PASSWORD = "admin"  # noqa: S105 - known to everyone, hence the rule below


def check(table: str, users: Sequence[User]) -> Iterator[Fault]:
    """Yield what is wrong with the entries of `[[<table>.users]]` themselves."""
    for index, user in enumerate(users):
        path = (table, "users", index)
        if not user.username or ":" in user.username:
            # RFC 7617 §2: Basic credentials end the user name at the first colon.
            yield Fault(
                (*path, "username"), f"{dotted(path)}.username is empty or has a colon in it"
            )
        yield from _password((*path, "password"), user)
    yield from duplicates(f"{table}.users", "username", [user.username for user in users])


def default_password(
    settings: Settings, table: str, users: Sequence[User], kind: str, listeners: Sequence[str]
) -> Iterator[Fault]:
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
        if _is_default(user):
            yield Fault(
                ("listen", exposed[0]),
                f"{named} can be reached from other machines while the {kind}"
                f" {user.username!r} still has the default password",
                f"set a password with TRIO_GW_{table.upper()}_USERS_{index}_PASSWORD or in"
                f" [[{table}.users]], or listen on localhost",
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
