"""The backend's path and query (spec: routing §5), and what a client cannot change."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config import endpoint as endpoints
from trio_gw.config import mapping as notation
from trio_gw.config.api import Endpoint, UriMapping
from trio_gw.errors import Refusal
from trio_gw.routing.backend_target import BackendTarget

V2 = Endpoint("ws", "backend", 2360, "/v2")
BARE = Endpoint("ws", "backend", 80)


def build(
    mapping: str | UriMapping | None,
    query: str = "",
    endpoint: Endpoint = V2,
    **parameters: str,
) -> str:
    """Build a target; a mapping in the notation of `x-uri-mapping` is read as projects are."""
    if isinstance(mapping, str):
        mapping = notation.parse(mapping, frozenset(parameters))
    return BackendTarget(mapping).build(endpoint, parameters, query)


@pytest.mark.parametrize(
    ("mapping", "query", "target"),
    [
        (None, "", "/v2"),
        (None, "a=1", "/v2?a=1"),
        ("/rooms", "a=1", "/v2/rooms?a=1"),
        ("/rooms?room={uri.var.roomID}", "", "/v2/rooms?room=room1"),
        ("/rooms?room={uri.var.roomID}", "a=1", "/v2/rooms?room=room1"),
        ("/r/{uri.var.roomID}/x/", "", "/v2/r/room1/x/"),
        ("/", "", "/v2/"),
        ("/", "a", "/v2/?a"),
        ("/socket.io/", "", "/v2/socket.io/"),
        ("socket.io/?EIO=4&transport=websocket", "a=1", "/v2/socket.io/?EIO=4&transport=websocket"),
        ("/a%20b/%7e%2F?q=x+y%2Fz%7e&w=a;b", "", "/v2/a%20b/%7e%2F?q=x+y%2Fz%7e&w=a;b"),
    ],
)
def test_the_table(mapping: str | None, query: str, target: str) -> None:
    assert build(mapping, query, roomID="room1") == target


@pytest.mark.parametrize(
    ("mapping", "target"),
    [
        ("/abc-shops/shops/{uri.var.shopId}/pets/{uri.var.petId}", "/abc-shops/shops/1/pets/2"),
        (
            "/abc-shops/shops/{uri.var.shopId}/pets/{uri.var.petId}.pet",
            "/abc-shops/shops/1/pets/2.pet",
        ),
        ("/abc-shops/pets/{uri.var.petId}/shops/{uri.var.shopId}", "/abc-shops/pets/2/shops/1"),
        (
            "/abc-shops/pets/{uri.var.petId}/shops/{uri.var.shopId}/{uri.var.petId}",
            "/abc-shops/pets/2/shops/1/2",
        ),
        ("/abc-shops/pets/", "/abc-shops/pets/"),
    ],
)
def test_path_templates(mapping: str, target: str) -> None:
    """Reference test U15; a slash at the end stays, as the mapping has it."""
    assert build(mapping, endpoint=BARE, shopId="1", petId="2") == target


@pytest.mark.parametrize("mapping", [None, "/"])
def test_an_endpoint_without_path(mapping: str | None) -> None:
    assert build(mapping, endpoint=BARE) == "/"
    assert build(mapping, "a=1", endpoint=BARE) == "/?a=1"


def test_an_empty_mapping_path_still_makes_a_target() -> None:
    assert build(UriMapping(""), endpoint=BARE) == "/"
    assert build(UriMapping(""), "q", endpoint=BARE) == "/?q"
    assert build(UriMapping("")) == "/v2"


@pytest.mark.parametrize(
    ("url", "alone", "mapped", "passed", "passed_root"),
    [
        ("ws://h", "/", "/r/", "/x/y", "/"),
        ("ws://h/", "/", "/r/", "/x/y", "/"),
        ("ws://h/graphql", "/graphql", "/graphql/r/", "/graphql/x/y", "/graphql"),
        ("ws://h/a/", "/a/", "/a/r/", "/a/x/y", "/a/"),
        ("ws://h/a//", "/a//", "/a//r/", "/a//x/y", "/a//"),
        ("ws://h/%61%2Fb/", "/%61%2Fb/", "/%61%2Fb/r/", "/%61%2Fb/x/y", "/%61%2Fb/"),
        ("ws://h/a?k=%20v", "/a?k=%20v", "/a/r/?k=%20v", "/a/x/y?k=%20v", "/a?k=%20v"),
        ("ws://h?k=v", "/?k=v", "/r/?k=v", "/x/y?k=v", "/?k=v"),
    ],
)
def test_the_endpoint_is_asked_for_as_it_is_written(
    url: str, alone: str, mapped: str, passed: str, passed_root: str
) -> None:
    endpoint = endpoints.parse(url)
    assert build(None, endpoint=endpoint) == alone
    assert build("/r/", endpoint=endpoint) == mapped
    passing = BackendTarget(None, passed="/*")
    assert passing.build(endpoint, {}, "", "/x/y") == passed
    assert passing.build(endpoint, {}, "", "/") == passed_root
    assert passing.build(endpoint, {}, "", "") == passed_root


@pytest.mark.parametrize(
    ("mapping", "passed", "url"),
    [
        (None, None, "ws://backend:2360/v2"),
        (None, "/", "ws://backend:2360/v2"),
        (None, "/*", "ws://backend:2360/v2/*"),
        (None, "/rooms/{id}", "ws://backend:2360/v2/rooms/{id}"),
        ("/", None, "ws://backend:2360/v2/"),
        ("/r/{uri.var.id}/", None, "ws://backend:2360/v2/r/{id}/"),
        ("/r?id={uri.var.id}&kind=a%20b", None, "ws://backend:2360/v2/r?id={id}&kind=a%20b"),
    ],
)
def test_the_url_that_people_are_shown(mapping: str | None, passed: str | None, url: str) -> None:
    found = None if mapping is None else notation.parse(mapping, frozenset(("id",)))
    assert BackendTarget(found, passed=passed).url(V2) == url


def test_the_query_of_the_endpoint_is_kept_and_comes_first() -> None:
    keyed = Endpoint("wss", "backend", 443, "/v2", "key=%20x&y")
    assert build(None, endpoint=keyed) == "/v2?key=%20x&y"
    assert build(None, "a=1", endpoint=keyed) == "/v2?key=%20x&y&a=1"
    assert build("/r?id={uri.var.id}", "a=1", endpoint=keyed, id="7") == "/v2/r?key=%20x&y&id=7"


@given(st.text("abc&=+%;?/:@!$'()*,-._~\"<>[]\\^`{|}0189", min_size=1))
def test_the_clients_query_is_kept_byte_for_byte(query: str) -> None:
    assert build(None, query) == f"/v2?{query}"
    assert build("/rooms", query) == f"/v2/rooms?{query}"


def test_the_query_of_the_mapping() -> None:
    def mapped(*pairs: tuple[str, str], query: str = "client=1", **parameters: str) -> str:
        return build(UriMapping("/x", pairs), query, V2, **parameters).removeprefix("/v2/x?")

    assert mapped(("a", "1"), ("b", "2")) == "a=1&b=2"
    assert mapped(("a", "")) == "a="
    assert mapped(("a", "p {uri.var.id} q"), id="7") == "a=7", "the text around it is lost"
    assert mapped(("a", "{uri.var.x}{uri.var.y}"), x="1", y="2") == "a=2", "the last one wins"
    assert mapped(("a", "{uri.var.x}{uri.var.gone}"), x="1") == "a=1", "the last known one"
    assert mapped(("a", "{uri.var.gone}"), ("b", "1")) == "b=1"
    assert mapped(("a", "{uri.var.gone}")) == "client=1", "nothing to add, so the client's stays"
    assert build(UriMapping("/x", ()), "client=1") == "/v2/x?client=1"
    assert mapped(("a", "{uri.var.id}"), id="%C3%BC%20%26") == "a=%C3%BC%20%26", "not re-coded"


@given(
    st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=4),
)
def test_literals_of_the_mapping_arrive_as_they_were_meant(pairs: list[tuple[str, str]]) -> None:
    written = tuple((quote_plus(name), quote_plus(value)) for name, value in pairs)
    target = build(UriMapping("/x", written))
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    assert "#" not in target
    query = target.partition("?")[2]
    assert query == "&".join(map("=".join, written))
    assert parse_qsl(query, keep_blank_values=True) == pairs


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("1&admin=1", "1%26admin=1"),
        ("1#x", "1%23x"),
        ("a=b", "a=b"),
        ("1%26admin=1", "1%26admin=1"),
        ("1;admin=1", "1%3Badmin=1"),
        ("a+b", "a%2Bb"),
        ("a b", "a%20b"),
        ("a\r\nb", "a%0D%0Ab"),
        ('"<>\\^`{|}', "%22%3C%3E%5C%5E%60%7B%7C%7D"),
    ],
)
def test_a_path_parameter_adds_no_query_parameter(raw: str, value: str) -> None:
    assert build("/r?id={uri.var.id}&z=1", id=raw) == f"/v2/r?id={value}&z=1"


@given(st.text("ab&#=%+;?/ 26\r\n", min_size=1))
def test_a_path_parameter_is_one_value_whatever_it_holds(raw: str) -> None:
    target = build("/r?id={uri.var.id}&z=1", id=raw)
    assert not set(target) & set(" #\r\n")
    _, _, query = target.partition("?")
    assert [name for name, _ in parse_qsl(query.replace(";", "&"), keep_blank_values=True)] == [
        "id",
        "z",
    ]
    assert unquote(query.partition("&")[0]) == "id=" + unquote(raw)


@pytest.mark.parametrize(
    ("mapping", "parameters"),
    [
        ("/files/{uri.var.a}/x", {"a": ".."}),
        ("/files/{uri.var.a}", {"a": "."}),
        ("/files/{uri.var.a}", {"a": "%2e%2E"}),
        ("/files/{uri.var.a}", {"a": ".%2e"}),
        ("/files/{uri.var.a}", {"a": "..;x"}),
        ("/files/{uri.var.a}", {"a": "x%2f..%2fy"}),
        ("/files/{uri.var.a}", {"a": "x\\..\\y"}),
        ("/files/{uri.var.a}", {"a": "x%5c.."}),
        ("/files/{uri.var.a}{uri.var.b}/x", {"a": ".", "b": "."}),
        ("/files/.{uri.var.a}/x", {"a": "."}),
        ("/files/{uri.var.a}.", {"a": "%2E"}),
    ],
)
def test_parameters_make_no_dot_segments(mapping: str, parameters: dict[str, str]) -> None:
    """`{a}.json` asked for as `...json` must not climb out of the mapped path."""
    with pytest.raises(Refusal) as caught:
        build(mapping, "", V2, **parameters)
    assert caught.value.status == 400


@pytest.mark.parametrize("raw", ["...", "a..", "..a", ".a", "a.b", "%252e%252e", ";..", "~"])
def test_dots_that_are_no_dot_segments(raw: str) -> None:
    assert build("/files/{uri.var.a}/x", a=raw) == f"/v2/files/{raw}/x"


def test_a_name_that_is_asked_for_twice_is_the_last_of_that_name() -> None:
    assert build(UriMapping("/{uri.var.a}", (("q", "{uri.var.a}"),)), a="1") == "/v2/1?q=1"
