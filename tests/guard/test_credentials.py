"""Where credentials are found in a request, and the request after they are removed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.visits import lookup
from trio_gw.errors import Refusal
from trio_gw.guard.credentials import (
    CredentialPlaces,
    Presented,
    RemainingRequest,
    looks_like_token,
    take,
)

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
QUERY = CredentialPlaces(query_token=True, api_key_parameters=("key",), api_key_headers=(b"x-key",))


def test_headers_are_found_by_name() -> None:
    places = CredentialPlaces(b"x-token", b"internal-key", (b"x-key",))
    headers = [
        (b"authorization", b"Bearer no"),
        (b"x-token", b"Bearer yes"),
        (b"internal-key", b"a.b.c"),
        (b"x-key", b"d.e.f"),
    ]
    presented, rest = take(places, lookup(headers), "access_token=x&key=y", ("chat",))
    assert presented == Presented((b"Bearer yes",), (b"a.b.c",), (b"d.e.f",))
    assert rest == RemainingRequest("access_token=x&key=y", ("chat",), "")
    assert places.headers == {b"x-token", b"internal-key", b"x-key"}


def test_two_headers_of_one_name_are_left_to_the_scheme() -> None:
    headers = [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")]
    assert take(CredentialPlaces(), lookup(headers), "", ())[0].bearer == (b"Bearer a", b"Bearer b")


@pytest.mark.parametrize(
    ("offered", "token", "rest", "marker"),
    [
        (("bearer", "t"), b"Bearer t", (), "bearer"),
        (("bearer", "t", "chat", "echo"), b"Bearer t", ("chat", "echo"), "bearer"),
        (("chat", "bearer", "t"), b"Bearer t", ("chat",), "bearer"),
        (("chat", "Bearer", "t", "echo"), b"Bearer t", ("chat", "echo"), "Bearer"),
        (("bearer",), None, ("bearer",), ""),
        (("chat", "bearer"), None, ("chat", "bearer"), ""),
        (("bearers", "t"), None, ("bearers", "t"), ""),
        ((), None, (), ""),
        (("choreo-oauth2-token", "t"), b"Bearer t", (), "choreo-oauth2-token"),
        (("choreo-oauth2-token", "t", "chat.v1"), b"Bearer t", ("chat.v1",), "choreo-oauth2-token"),
        (("chat", "Choreo-OAuth2-Token", "t"), b"Bearer t", ("chat",), "Choreo-OAuth2-Token"),
        (("choreo-test-key", "t", "chat"), b"Bearer t", ("chat",), "choreo-test-key"),
        (("choreo-test-key",), None, ("choreo-test-key",), ""),
        (("base64url.bearer.authorization.k8s.io.dA", "chat"), b"Bearer t", ("chat",), ""),
        (("base64url.bearer.authorization.dA",), b"Bearer t", (), ""),
        (("base64url.bearer.authorization.k8s.io.!", "chat"), b"Bearer ", ("chat",), ""),
        (("base64url.bearer.authorization.k8s.io.d", "chat"), b"Bearer ", ("chat",), ""),
    ],
)
def test_a_token_among_the_subprotocols(
    offered: tuple[str, ...], token: bytes | None, rest: tuple[str, ...], marker: str
) -> None:
    presented, left = take(CredentialPlaces(), lookup([]), "", offered)
    assert presented.bearer == (() if token is None else (token,))
    assert left == RemainingRequest("", rest, marker)


@pytest.mark.parametrize(
    ("query", "token", "rest"),
    [
        ("access_token=t", b"Bearer t", ""),
        ("a=1&access_token=t&b=%20", b"Bearer t", "a=1&b=%20"),
        ("access%5Ftoken=t%2E", b"Bearer t.", ""),
        ("access_token=", b"Bearer ", ""),
        ("access_token", b"Bearer ", ""),
        ("Access_Token=t", None, "Access_Token=t"),
        ("xaccess_token=t", None, "xaccess_token=t"),
        ("a=access_token=t", None, "a=access_token=t"),
        ("&&a&=&", None, "&&a&=&"),
        ("", None, ""),
    ],
)
def test_a_token_in_the_query(query: str, token: bytes | None, rest: str) -> None:
    presented, left = take(QUERY, lookup([]), query, ())
    assert presented.bearer == (() if token is None else (token,))
    assert left.query == rest


def test_a_token_in_the_query_is_nothing_when_that_is_off() -> None:
    presented, left = take(CredentialPlaces(), lookup([]), "access_token=t", ())
    assert (presented, left.query) == (Presented(), "access_token=t")


@pytest.mark.parametrize(
    ("headers", "query", "protocols", "what"),
    [
        ([(b"authorization", b"Bearer a")], "", ("bearer", "t"), "access token"),
        ([(b"authorization", b"")], "access_token=t", (), "access token"),
        ([], "access_token=t", ("bearer", "t"), "access token"),
        ([], "access_token=t&access_token=t", (), "access token"),
        ([(b"x-key", b"k")], "key=k", (), "API key"),
        ([(b"x-key", b"k"), (b"x-key", b"k")], "", (), "API key"),
        ([], "key=k&k%65y=k", (), "API key"),
    ],
)
def test_two_places_are_one_too_many(
    headers: list[tuple[bytes, bytes]], query: str, protocols: tuple[str, ...], what: str
) -> None:
    with pytest.raises(Refusal) as caught:
        take(QUERY, lookup(headers), query, protocols)
    assert caught.value.status == 400
    assert what in json.loads(caught.value.body)["description"]


@pytest.mark.parametrize(
    "offered",
    [
        ("bearer", "t", "Bearer", "u"),
        ("bearer", "t", "choreo-oauth2-token", "u"),
        ("choreo-test-key", "t", "choreo-oauth2-token", "u"),
        ("bearer", "t", "base64url.bearer.authorization.k8s.io.dQ"),
    ],
)
def test_two_markers_are_one_too_many(offered: tuple[str, ...]) -> None:
    with pytest.raises(Refusal) as caught:
        take(CredentialPlaces(), lookup([]), "", offered)
    assert caught.value.status == 400


def test_a_test_key_stands_for_both_of_its_kinds() -> None:
    places = CredentialPlaces(internal_key=b"internal-key")
    presented, _ = take(places, lookup([]), "", ("choreo-test-key", "t"))
    assert presented == Presented((b"Bearer t",), (b"t",))
    with pytest.raises(Refusal):
        take(places, lookup([(b"internal-key", b"u")]), "", ("choreo-test-key", "t"))


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"auth-{TOKEN}",
        f"a.b.{TOKEN}",
        f"access_token.{TOKEN}",
        TOKEN.rpartition(".")[0] + ".",
        f"{TOKEN}.AAAA.AAAA",
        f"!{TOKEN}!",
        f"ey.{TOKEN}",
    ],
)
def test_what_looks_like_a_token_is_no_subprotocol(text: str) -> None:
    assert looks_like_token(text)
    presented, rest = take(
        CredentialPlaces(), lookup([(b"authorization", b"Bearer a")]), "", ("chat", text)
    )
    assert presented.bearer == (b"Bearer a",)
    assert rest == RemainingRequest("", ("chat",), "")


@pytest.mark.parametrize(
    "text",
    [
        *("chat.v1", "v1.2.3", "graphql-transport-ws", "eyes.wide.shut", "v12.stomp", "a.b.c"),
        *("com.example.keyboard-protocol-long.v1", TOKEN.partition(".")[0], "v4.channel.k8s.io"),
    ],
)
def test_other_subprotocols_do_not(text: str) -> None:
    assert not looks_like_token(text)


def test_looking_for_tokens_is_linear() -> None:
    for text in ("ey" * 30_000, "ey." * 20_000, "ey" * 15_000 + "." + "ey" * 15_000):
        assert not looks_like_token(text)


@given(
    st.lists(st.sampled_from(["a=1", "key=k", "access_token=t", "", "k%65y=z", "b"])),
    st.lists(st.sampled_from(["bearer", "Bearer", "t", "chat"]), unique=True),
)
def test_nothing_of_a_credential_is_left(pieces: list[str], offered: list[str]) -> None:
    try:
        presented, rest = take(QUERY, lookup([]), "&".join(pieces), offered)
    except Refusal:
        return
    assert not {"key=k", "access_token=t", "k%65y=z"} & set(rest.query.split("&"))
    assert len(presented.bearer) + len(presented.api_key) <= 2
    if rest.marker:
        assert set(rest.protocols) == set(offered) - {
            rest.marker,
            presented.bearer[0].removeprefix(b"Bearer ").decode(),
        }
