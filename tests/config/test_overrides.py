"""Environment variables that replace the backends and credentials of one API."""

from __future__ import annotations

import hashlib

import pytest

from trio_gw.config.api import BasicAuth, Endpoint
from trio_gw.config.backends import SideBackends
from trio_gw.config.overrides import Overrides, fingerprint

API = fingerprint("Chat", "1.0.0")
OLD = Endpoint("wss", "old.example", 443, "/v1")
BASIC = BasicAuth("user", "old secret")


def applied(
    side: SideBackends, kind: str = "production", **variables: str
) -> tuple[SideBackends, list[str]]:
    environ = {f"api_{API}_{name}": value for name, value in variables.items()}
    overrides = Overrides({**environ, "PATH": "/bin", "api_other": "x"}, API, "apis/chat")
    found = overrides.applied(kind, side)
    assert all(problem.file == "apis/chat" and problem.hint for problem in overrides.problems)
    return found, [f"{problem.severity}: {problem.what}" for problem in overrides.problems]


def test_the_fingerprint_is_the_hash_of_name_and_version() -> None:
    assert hashlib.sha1(b"Chat:1.0.0").hexdigest() == API  # noqa: S324


def test_nothing_set_changes_nothing() -> None:
    side = SideBackends((OLD,), failover=True, timeout=3.0, retries=2, basic=BASIC)
    assert applied(side) == (side, [])
    assert applied(side, sand_endpoint_0="ws://x") == (side, [])


@pytest.mark.parametrize(("kind", "short"), [("production", "prod"), ("sandbox", "sand")])
def test_endpoints_replace_the_whole_list(kind: str, short: str) -> None:
    side = SideBackends((OLD, OLD), failover=True, timeout=3.0, retries=2, basic=BASIC)
    new = {f"{short}_endpoint_0": "ws://a:1/x", f"{short}_endpoint_1": "wss://b"}
    found, problems = applied(side, kind, **new)
    assert problems == []
    assert found == SideBackends(
        (Endpoint("ws", "a", 1, "/x"), Endpoint("wss", "b", 443)),
        failover=False,  # they are used in turn
        timeout=3.0,
        retries=2,
        basic=BASIC,
    )


def test_they_also_make_a_list_where_there_was_none() -> None:
    found, problems = applied(SideBackends(), prod_endpoint_0="a.example:8080")
    assert (found.endpoints, problems) == ((Endpoint("ws", "a.example", 8080),), [])


@pytest.mark.parametrize("written", ['"ws://a"', "'ws://a'", " ws://a ", ' "ws://a" '])
def test_quotes_around_a_value(written: str) -> None:
    assert applied(SideBackends(), prod_endpoint_0=written)[0].endpoints == (
        Endpoint("ws", "a", 80),
    )


def test_a_gap_ends_the_list_and_is_told() -> None:
    found, problems = applied(SideBackends(), prod_endpoint_0="ws://a", prod_endpoint_2="ws://c")
    assert found.endpoints == (Endpoint("ws", "a", 80),)
    assert len(problems) == 1
    assert problems[0].startswith("warning: ")
    assert f"`api_{API}_prod_endpoint_1` is missing" in problems[0]


def test_a_wrong_url_is_an_error() -> None:
    """The variable replaces the list of the project, so that list must not be used instead."""
    _, problems = applied(SideBackends((OLD,)), prod_endpoint_0="ftp://u:secret@a")
    assert len(problems) == 1
    assert problems[0].startswith(f"error: environment variable `api_{API}_prod_endpoint_0`: ")
    assert "secret" not in problems[0]


@pytest.mark.parametrize(
    ("variables", "basic"),
    [
        ({"prod_basic_username": "u", "prod_basic_password": "p"}, BasicAuth("u", "p")),
        ({"prod_basic_username": "u"}, BasicAuth("u", "old secret")),
        ({"prod_basic_password": '"p"'}, BasicAuth("user", "p")),
        ({"prod_basic_password": ""}, BasicAuth("user", "")),
        ({"sand_basic_password": "p"}, BASIC),
    ],
)
def test_credentials(variables: dict[str, str], basic: BasicAuth) -> None:
    assert applied(SideBackends((OLD,), basic=BASIC), **variables) == (
        SideBackends((OLD,), basic=basic),
        [],
    )


def test_credentials_without_basic_have_no_effect_and_are_told() -> None:
    side = SideBackends((OLD,))
    found, problems = applied(side, prod_basic_username="u", prod_basic_password="secret")
    assert found == side
    assert [problem.split(":")[0] for problem in problems] == ["warning", "warning"]
    assert not any("secret" in problem for problem in problems)


@pytest.mark.parametrize(
    "variables", [{"prod_basic_username": "top:secret"}, {"prod_basic_password": "top\nsecret"}]
)
def test_credentials_that_cannot_be_sent(variables: dict[str, str]) -> None:
    _, problems = applied(SideBackends((OLD,), basic=BASIC), **variables)
    assert len(problems) == 1
    assert problems[0].startswith("error: ")
    assert "secret" not in problems[0]
