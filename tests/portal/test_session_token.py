"""Session tokens: what is accepted as one, for how long, and what ends all of a user."""

from __future__ import annotations

import base64
import datetime
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from trio_gw.config.settings import Admin, AdminUser
from trio_gw.guard.certificates import ensure_certificate, load_pair
from trio_gw.guard.operators import Operators
from trio_gw.guard.roles import Role
from trio_gw.portal.session_token import LONGEST, RENEWED, SLIDING, SessionTokens

if TYPE_CHECKING:
    from trio_gw.guard.certificates import KeyPair

NOW = 1_800_000_000.0
USERS = (AdminUser("ada", "eing3Hai"), AdminUser("con", "Oosh8iek", "consumer"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    folder = tmp_path_factory.mktemp("certs")
    ensure_certificate(folder / "a.pem", folder / "a.key", datetime.datetime.now(datetime.UTC))
    return load_pair(folder / "a.pem", folder / "a.key")


def changed(token: str, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Change parts of a token and keep its signature."""
    parts = token.split(".")
    for place, more in enumerate((header, claims)):
        text = base64.urlsafe_b64decode(parts[place] + "==")
        data = {**json.loads(text), **more}
        parts[place] = base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")
    return ".".join(parts)


def test_a_token_names_its_user_and_role(pair: KeyPair) -> None:
    tokens = SessionTokens(USERS, pair)
    token, caller = tokens.begin("con", NOW)
    assert tokens.read(token, NOW) == (caller, int(NOW))
    assert (caller.user, caller.role, caller.expires) == ("con", Role.CONSUMER, NOW + SLIDING)
    again, other = tokens.begin("con", NOW)
    assert again != token
    assert other.session != caller.session


def test_a_session_slides_and_ends(pair: KeyPair) -> None:
    tokens = SessionTokens(USERS, pair)
    token, caller = tokens.begin("ada", NOW)
    assert tokens.read(token, NOW + SLIDING - 1)
    assert tokens.read(token, NOW + SLIDING) is None
    assert tokens.renew(caller, int(NOW), NOW + RENEWED - 1) is None
    now = NOW
    while (now := now + SLIDING - 10) < NOW + LONGEST:
        read = tokens.read(token, now)
        assert read is not None
        if renewed := tokens.renew(*read, now):
            token, caller = renewed
    assert caller.expires == NOW + LONGEST
    assert tokens.read(token, NOW + LONGEST - 1)
    assert tokens.read(token, NOW + LONGEST) is None


def test_an_edited_token_is_none(pair: KeyPair) -> None:
    tokens = SessionTokens(USERS, pair)
    token, _ = tokens.begin("con", NOW)
    assert tokens.read(changed(token, {}, {}), NOW) is None  # written anew, so it is not the same
    for claims in (
        *({"role": "admin"}, {"user": "ada"}, {"user": "ada", "role": "admin"}),
        *({"exp": int(NOW) + LONGEST}, {"sid": "x"}, {"iat": int(NOW) + 1}, {"user": ["con"]}),
    ):
        assert tokens.read(changed(token, {}, claims), NOW) is None, claims
    for alg in ("none", "None", "HS384", "RS256", "ES256", ""):
        assert tokens.read(changed(token, {"alg": alg}, {}), NOW) is None, alg
    assert tokens.read(token.rpartition(".")[0] + ".", NOW) is None
    for text in ("", ".", "..", "a.b.c", "x" * 2000, "é.é.é", token + "A"):
        assert tokens.read(text, NOW) is None


def test_a_token_of_another_algorithm_is_none(pair: KeyPair) -> None:
    """Whoever knows public things only, or the gateway's own key, can make no session with them."""
    tokens = SessionTokens(USERS, pair)
    token, _ = tokens.begin("ada", NOW)
    claims = jwt.decode(token, options={"verify_signature": False})
    kind = {"typ": "trio-gw-session"}
    made = [jwt.encode(claims, "", "none", headers=kind)]
    made.append(jwt.encode(claims, pair.private_key, "RS256", headers=kind))
    made.append(jwt.encode(claims, b"eing3Hai" * 4, "HS256", headers=kind))
    assert [tokens.read(one, NOW) for one in made] == [None] * 3


def test_no_other_token_is_a_session_and_no_session_is_another_token(pair: KeyPair) -> None:
    tokens = SessionTokens(USERS, pair)
    operators = Operators(Admin(users=USERS), pair)
    bearer = operators.mint("ada", NOW)
    assert operators.bearer(bearer, NOW) == "ada"
    assert tokens.read(bearer, NOW) is None
    session, _ = tokens.begin("ada", NOW)
    assert operators.bearer(session, NOW) is None


@pytest.mark.parametrize(
    "users",
    [
        (AdminUser("ada", "other"), USERS[1]),
        (AdminUser("ada", "eing3Hai", "consumer"), USERS[1]),
        (USERS[1],),
        (AdminUser("ada2", "eing3Hai"), USERS[1]),
    ],
    ids=["password", "role", "removed", "renamed"],
)
def test_a_changed_user_has_no_session_any_more(
    pair: KeyPair, users: tuple[AdminUser, ...]
) -> None:
    before, after = SessionTokens(USERS, pair), SessionTokens(users, pair)
    token, _ = before.begin("ada", NOW)
    assert after.read(token, NOW) is None
    token, _ = before.begin("con", NOW)
    assert after.read(token, NOW) is not None
