"""Rules of hashed passwords of `/testkey` users."""

from __future__ import annotations

import pytest

from trio_gw.config import passwords
from trio_gw.config.rules import users
from trio_gw.config.settings import Listen, Settings, TestKey, User
from trio_gw.config.settings_file import load
from trio_gw.errors import UnusableError

SALT = bytes(16)
COST = passwords.Cost(10, 8, 1)
ADMIN = str(passwords.ScryptHash(COST, SALT, COST.derive(b"admin", SALT)))
OTHER = str(passwords.ScryptHash(COST, SALT, COST.derive(b"other", SALT)))
OPEN = Listen(http=":9090")


def settings(password: str, *, listen: Listen | None = None, enabled: bool = True) -> Settings:
    users = TestKey(enabled=enabled, users=(User("admin", password),))
    return Settings(testkey=users, listen=listen or Listen())


def test_a_good_hash_breaks_no_rule() -> None:
    assert list(users.testkey(settings(OTHER))) == []
    assert list(users.testkey(settings(OTHER, listen=OPEN))) == []


def test_an_unusable_hash_is_no_password() -> None:
    (fault,) = users.testkey(settings("$scrypt$ln=30,r=8,p=1$x$y", listen=OPEN))
    assert fault.path == ("testkey", "users", 0, "password")
    assert fault.what == (
        "testkey.users[0].password is not a usable hash:"
        " ln=30,r=8 would take more than 64 MiB for every attempt"
    )
    assert fault.hint == "run trio-gw hash-password"


@pytest.mark.parametrize("password", ["admin", ADMIN, str(passwords.make(b"admin", b"x" * 16))])
def test_the_default_password_is_found_in_any_form(password: str) -> None:
    assert list(users.testkey(settings(password))) == []  # on loopback
    assert list(users.testkey(settings(password, listen=OPEN, enabled=False))) == []
    (fault,) = users.testkey(settings(password, listen=OPEN))
    assert fault.path == ("listen", "http")
    assert "still has the default password" in fault.what


@pytest.mark.parametrize("password", ["admin", ADMIN])
def test_also_when_variables_say_so(password: str) -> None:
    variables = {"TRIO_GW_LISTEN_HTTPS": ":0", "TRIO_GW_TESTKEY_USERS_0_PASSWORD": password}
    with pytest.raises(UnusableError) as caught:
        load(None, variables)
    (problem,) = caught.value.problems
    assert problem.file == "TRIO_GW_LISTEN_HTTPS"
    assert ADMIN not in str(problem)
    load(None, variables | {"TRIO_GW_TESTKEY_USERS_0_PASSWORD": OTHER})
