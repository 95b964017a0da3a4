"""Which check of a token a refusal is about, in the words of each reason that the guard has."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING

import jwt
import pytest

from trio_gw.guard import compact, keys, refusals, schemes, tokens
from trio_gw.portal.token_steps import CHECKS, Step, failed_check, passed_steps, token_steps

if TYPE_CHECKING:
    from trio_gw.errors import Refusal

TOKEN = jwt.encode(
    {
        "iss": "me",
        "exp": 2_000_000_000,
        "scope": "chat:read",
        "keytype": "SANDBOX",
        "application": {"name": "Shop"},
    },
    "k" * 32,
    "HS256",
).encode()
FAILURE = Step("credential", False, "403: refused", "do this", "900910")

REFUSED = {
    "token": [refusals.no_credential("no credential"), refusals.rejected("x", "not three parts")],
    "issuer": [refusals.invalid("the issuer is not trusted")],
    "signature": [refusals.invalid("the signature does not verify"), refusals.no_key("none")],
    "audience": [refusals.invalid("the token is for another audience")],
    "expiry": [refusals.expired(), refusals.invalid("the token is not valid yet")],
    "revocation": [refusals.revoked(), refusals.inactive()],
    "subscription": [
        refusals.not_subscribed("the token carries no subscriptions"),
        refusals.subscription_blocked(),
        refusals.subscription_inactive(),
    ],
    "key type": [refusals.rejected("x", "Sandbox key offered to an API with no sandbox endpoint")],
    "scopes": [refusals.out_of_scope("/a")],
    "": [refusals.blocked("x is denied"), refusals.api_blocked(), refusals.ambiguous("two")],
}


def test_each_refusal_is_about_a_check() -> None:
    for check, found in REFUSED.items():
        assert [failed_check(one) for one in found] == [check] * len(found), check


def test_each_reason_of_an_invalid_token_is_known() -> None:
    """A new reason needs a row, or is taken for a problem with the issuer."""
    known = {"issuer"}
    for module in (tokens, compact, schemes, keys):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            text = node.args[0]
            if name not in ("invalid", "UndecodableError", "UnacceptableError", "NotTrustedError"):
                continue
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                check = failed_check(refusals.invalid(text.value))
                assert check in CHECKS, text.value
                known.add(check)
    assert {"token", "signature", "expiry", "audience"} <= known


def test_checks_before_a_failure_pass_and_those_after_it_are_not_reached() -> None:
    steps = token_steps(TOKEN, refusals.out_of_scope("/a"), FAILURE, ("chat:write",))
    assert [(one.step, one.ok) for one in steps] == [
        *((name, True) for name in CHECKS[:-2]),
        ("scopes", False),
        ("key type", None),
    ]
    assert steps[-2].what == (
        "403: refused The topic asks for one of chat:write; the token has chat:read."
    )
    assert "me" in steps[1].what
    assert "2033-05-18" in steps[4].what
    assert "Shop" in steps[6].what


def test_a_refusal_of_another_kind_is_one_step() -> None:
    assert token_steps(TOKEN, refusals.api_blocked(), FAILURE, ()) == [FAILURE]


def test_a_good_token_passes_all() -> None:
    steps = passed_steps(TOKEN, ())
    assert [one.ok for one in steps] == [True] * len(CHECKS)


@pytest.mark.parametrize("token", [b"", b"a.b.c", b"\xff", TOKEN[:-10], b"." * 1000])
def test_what_is_no_token_is_described_too(token: bytes) -> None:
    refusal: Refusal = refusals.rejected("x", "not three parts")
    steps = token_steps(token, refusal, FAILURE, ("a",))
    assert (steps[0].step, steps[0].ok) == ("token", False)
    assert all(one.ok is None for one in steps[1:])
    assert b"".join(TOKEN.split(b".")[2:]) not in repr(steps).encode()


def test_claims_cannot_forge_a_line() -> None:
    token = jwt.encode({"iss": "a\n✓ b\u202e" + "x" * 500, "exp": 1e308}, "k" * 32, "HS256")
    steps = passed_steps(token.encode(), ())
    assert all("\n" not in one.what and "\u202e" not in one.what for one in steps)
    assert all(len(one.what) < 400 for one in steps)
