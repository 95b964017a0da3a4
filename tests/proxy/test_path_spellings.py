"""The spellings of a path that are refused, judged by the request to the backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trio_gw.config.api import ApiKeyPlace, ApiProject, Cluster, Endpoint, Topic, UriMapping
from trio_gw.config.settings import Environment
from trio_gw.errors import Refusal
from trio_gw.proxy import path_confusion
from trio_gw.routing.compiler import compile_table

if TYPE_CHECKING:
    from trio_gw.routing.route import Match
    from trio_gw.routing.table import RouteTable

DEFAULT = (Environment("Default", "localhost"),)


def topic(name: str, mapping: str | None = "", query: Any = None, **more: Any) -> Topic:
    """Make a topic whose backend path is its own name, unless told otherwise."""
    path = name.replace("{", "{uri.var.") if mapping == "" else mapping
    return Topic(name, None if path is None else UriMapping(path, query), **more)


def opened(name: str, mapping: str | None = "", query: Any = None) -> Topic:
    return topic(name, mapping, query, secured=False)


def table(*topics: Topic, **more: Any) -> RouteTable:
    project = ApiProject(
        folder="M",
        id="M",
        name="M",
        version="1.0.0",
        context="/m",
        topics=topics,
        production=Cluster((Endpoint("ws", "backend", 80),)),
        **more,
    )
    made, problems = compile_table((project,), DEFAULT)
    assert problems == ()
    return made


def refused(made: RouteTable, path: str, query: str = "") -> str:
    """Ask for a path below `/m/1.0.0`; return why it is refused, empty if it is not."""
    match = made.match("localhost", "/m/1.0.0" + path)
    assert match is not None, path
    first, again = (reason("/m/1.0.0" + path, query, match) for _ in range(2))
    assert first == again  # which may be a remembered answer
    return first


def reason(path: str, query: str, match: Match) -> str:
    try:
        path_confusion.check(path, query, match)
    except Refusal as refusal:
        return f"{refusal.status} {refusal.why}"
    return ""


def let_in(made: RouteTable, path: str) -> bool:
    """Tell whether a client without a token gets to the backend."""
    match = made.match("localhost", "/m/1.0.0" + path)
    return match is not None and not match.route.secured and not refused(made, path)


ROOMS = table(
    topic("/r/admin"),
    opened("/r/lobby"),
    opened("/r/{id}"),
    topic("/r/{id}/keys"),
    opened("/r/{id}/{part}"),
)

# What the readers of docs/security.md take for another path; each by one step at least.
READ_AS_ADMIN = (
    *("%61dmin", "adm%69n", "%61%64%6D%69%6E", "admin%3Bx", "admin;x", "%61dmin;x%2fy", "admin;"),
    *("%2561dmin", "%25%36%31dmin", "admin%253Bx", "%61dmin%3Bx%252Fy", "ad%256Din;a;b"),
    *("ADMIN", "Admin", "aDm%49n", "%41dmin", "ADMIN;x"),
    *("%C1%A1dmin", "%E0%81%A1dmin", "%F0%80%81%A1dmin", "%25C1%25A1dmin", "%c0%a5%36%31dmin"),
    *("%EF%BD%81dmin", "%EF%BC%A1DMIN", "%F0%9D%90%9Admin", "%E2%93%90dmin", "%AAdmin"),
    *("adm%C4%B1n", "adm%C4%B0n", "%EF%BC%8Fadmin", "admin%EF%BC%9Bx", "%EF%BC%8561dmin"),
    *("admin%2F", "%2Fadmin", "%2f%2fadmin", "admin%252f", "%5Cadmin", "admin%5C", "%255Cadmin"),
    *("admin%23x", "admin%3Fx", "admin%2523x", "admin%253Fx=y", "admin%3F%2Fkeys", "admin%00"),
    *("admin%00.json", "admin%2500x", "admin%C0%80x"),
    *("ad%09min", "ad%0Amin", "ad%0D%0Amin", "%09admin", "admin%0a", "ad%2509min", "%1Fadmin"),
    *("admin%20", "%20admin", "admin+", "+admin", "admin.", "admin%2E", "admin%20.", "%20/admin"),
    *("ad%C2%ADmin", "ad%E2%80%8Bmin", "%EF%BB%BFadmin", "%FFadmin", "adm%80in", "%u0061dmin"),
    *("%25u0061dmin", "a%64min;jsessionid=%2Fx"),
)
READ_AS_KEYS = (
    *("x%2Fkeys", "x%2fKEYS", "x%5Ckeys", "x%5ckeys%5c", "x%252Fkeys", "x%255Ckeys", "x%C0%AFkeys"),
    *("x%E0%80%AFkeys", "x%EF%BC%8Fkeys", "x%EF%BC%BCkeys", "x/%6Beys", "x/keys;y", "x/KEYS"),
    *("x%2F%2Fkeys", "x%2F/keys", "x/keys%3Fy", "x%2Fy/%6Beys", "x;y%2Fz/%6Beys", "%20%2Fkeys"),
    "x%C0%AFy%3Bx%2Fy%5Ckeys",  # Tomcat with Latin-1, %2F passed through, and backslashes allowed
    *("x%3Ba%2Fb/keys%00", "x//keys", "x/%2Fkeys", "x/;a/keys", "x%09%2Fkeys", "%09%2Fkeys"),
)


@pytest.mark.parametrize("spelling", READ_AS_ADMIN)
def test_another_topic_by_another_spelling(spelling: str) -> None:
    assert not let_in(ROOMS, f"/r/{spelling}")


@pytest.mark.parametrize("spelling", READ_AS_KEYS)
def test_a_topic_below_by_another_spelling(spelling: str) -> None:
    assert not let_in(ROOMS, f"/r/{spelling}")


ORDINARY = (
    *("7", "lobby", "a%20b", "a+b", "a%2Bb", "a%2Fb", "group%2Fproject", "a%5Cb", "caf%C3%A9"),
    *("%E6%97%A5%E6%9C%AC", "%F0%9F%98%80", "me@example.com", "me%40example.com", "urn:x:1"),
    *("7;v=1", "a;b=c;d=e", "50%25", "x%25y", "a%3Ab", "a%26b", "a%3Db", "a,b", "(a)", "~me"),
    *("a'b", "v1.2.3", "f.json", "a%23b", "a%3Fb", "2024-01-01T00%3A00%3A00Z", "administrator"),
    *("badmin", "keys", "%7Bid%7D", "%22q%22", "a%2520b", "caf%E9", "ADMINS", "%C3%84%C3%96"),
)


@pytest.mark.parametrize("spelling", ORDINARY)
def test_ordinary_parameters_pass(spelling: str) -> None:
    assert not refused(ROOMS, f"/r/{spelling}")
    assert not refused(ROOMS, f"/r/{spelling}/part")


@pytest.mark.parametrize("spelling", READ_AS_ADMIN)
def test_where_all_ask_for_the_same_everything_passes(spelling: str) -> None:
    alike = table(topic("/r/admin"), topic("/r/{id}"), topic("/r/{id}/*", "/r/{uri.var.id}"))
    if alike.match("localhost", f"/m/1.0.0/r/{spelling}") is not None:
        assert not refused(alike, f"/r/{spelling}")


DOTS = (
    *("%252e%252e", "%252E.", ".%25%32%65", "%C0%AE%C0%AE", "%E0%80%AE.", "%EF%BC%8E%EF%BC%8E"),
    *("x%252f..", "..%252fx", "..%255Cx", "%E2%80%A5", "%25252e%25252e", "..%253Bx", ".%09."),
    *("..%00x", "x%2F.%2509.%2Fy", "..%2520", "..%23", "%25252525252525252e."),
)


@pytest.mark.parametrize("made", [ROOMS, table(topic("/r/{id}"))], ids=["differing", "alike"])
@pytest.mark.parametrize("spelling", DOTS)
def test_no_way_out_of_the_endpoint(made: RouteTable, spelling: str) -> None:
    assert refused(made, f"/r/{spelling}") == "400 The path must not hold . or .. segments"


# --- what is passed on ----------------------------------------------------------------------


def test_what_is_not_passed_on_is_not_judged() -> None:
    made = table(topic("/n/admin"), opened("/n/{id}", None), opened("/c/{id}", "/n/x"))
    assert not refused(made, "/n/%61dmin")
    assert not refused(made, "/c/..%252f")


def test_the_backends_paths_are_compared_too() -> None:
    """The mapping leads elsewhere, so the client's path looks like no other topic."""
    made = table(
        topic("/admin", "/ws/admin"),
        topic("/rooms/{id}/keys", "/ws/{uri.var.id}/keys"),
        opened("/open/{id}", "/ws/{uri.var.id}"),
    )
    assert refused(made, "/open/7%2Fkeys")
    assert refused(made, "/open/%61dmin")
    assert refused(made, "/open/admin")  # without escapes: it is that topic's path all the same
    assert not refused(made, "/open/7")


def test_a_mapping_that_is_the_end_of_a_longer_path() -> None:
    made = table(topic("/a/r/admin", "/r/admin"), opened("/r/{id}"))
    assert refused(made, "/r/admin")
    assert not refused(made, "/r/lobby")


def test_an_endpoint_without_a_mapping_is_a_topic_too() -> None:
    made = table(topic("/all", None), opened("/{id}"))
    assert refused(made, "/;x")
    assert refused(made, "/%2F")
    assert not refused(made, "/x")


def test_an_open_name_for_what_is_closed_elsewhere() -> None:
    """Both lead to the same paths: that is what the project says, not a confusion."""
    made = table(topic("/rooms/{id}"), opened("/public/{id}", "/rooms/{uri.var.id}"))
    assert not refused(made, "/public/7")
    assert not refused(made, "/public/%37")


def test_overlapping_topics_keep_their_order() -> None:
    made = table(opened("/users/{id}"), topic("/{tenant}/admin"))
    assert not refused(made, "/users/admin")


def test_a_wildcard_that_asks_for_more() -> None:
    made = table(topic("/r/*"), opened("/r/{id}"), opened("/r/{id}/{part}"))
    assert not refused(made, "/r/7")
    assert refused(made, "/r/7%2F8/9")
    assert refused(made, "/r/7%2F8%2F9")


def test_topics_that_differ_in_case() -> None:
    made = table(topic("/rooms/admin"), topic("/rooms/{id}"), opened("/Rooms/{id}"))
    assert not refused(made, "/Rooms/7")
    assert refused(made, "/Rooms/admin")
    assert refused(made, "/Rooms/AdMin")


def test_a_reading_with_its_own_case() -> None:
    """Read with case it is the wildcard's, without it is an open topic's."""
    made = table(opened("/r/{id}"), opened("/r/{id}/keys"), topic("/r/*"))
    assert refused(made, "/r/7%2FKEYS")
    assert not refused(made, "/r/7%2Fkeys")


def test_both_base_paths_of_a_default_version() -> None:
    made = table(topic("/r/admin"), opened("/{a}/r/{b}"), default_version=True)
    match = made.match("localhost", "/m/1%2E0.0/r/admin")
    assert match is not None
    assert not match.route.secured
    with pytest.raises(Refusal, match="another topic"):
        path_confusion.check("/m/1%2E0.0/r/admin", "", match)


def test_a_topic_that_is_written_with_escapes() -> None:
    made = table(topic("/r/caf%C3%A9"), opened("/r/{id}"))
    for spelling in ("caf%c3%a9", "caf%C3%89", "%63af%C3%A9", "cafe%CC%81", "caf%25C3%25A9"):
        assert refused(made, f"/r/{spelling}"), spelling
    assert not refused(made, "/r/cafe")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *(("/q/%61dmin", ""), ("/q/ADMIN", ""), ("/q/admin%2523x", ""), ("/q/adm%2569n", "")),
        *(("/q/x%26room=admin", ""), ("/q/x%2526room=admin", ""), ("/q/x%3Broom=admin", "")),
        *(("/q/admin", ""), ("/q/admin%00x", ""), ("/q/+admin", ""), ("/q/%EF%BD%81dmin", "")),
        *(("/any", "room=admin"), ("/any", "x=1&ROOM=Admin"), ("/any", "room[]=admin")),
        *(("/any", "room=7&room=%61dmin"), ("/any", "%72oom=admin"), ("/any", "a;room=admin")),
        *(("/p/%3Froom=admin", ""), ("/p/x%253Froom=admin", "")),
    ],
)
def test_what_a_query_says(path: str, query: str) -> None:
    made = table(
        topic("/admin", "/ws", (("room", "admin"),)),
        topic("/boss", "/ws/x", (("room", "admin"), ("as", "boss"))),
        opened("/q/{id}", "/ws", (("room", "{uri.var.id}"),)),
        opened("/any", "/ws"),
        opened("/p/{id}", "/ws{uri.var.id}"),
        topic("/p2", "/wsx", (("room", "admin"),)),
    )
    assert "read as another topic" in refused(made, path, query)


def test_other_queries_pass() -> None:
    made = table(
        topic("/admin", "/ws", (("room", "admin"), ("as", "boss"))),
        opened("/q/{id}", "/ws", (("room", "{uri.var.id}"),)),
        opened("/any", "/ws"),
    )
    assert not refused(made, "/any", "room=admin&x=%26")
    assert not refused(made, "/q/admin", "as=boss")  # the mapping's query replaces the client's
    assert refused(made, "/q/admin%26as=boss")


# --- who asks for more ----------------------------------------------------------------------

KEY = (ApiKeyPlace("header", "x-key"),)


@pytest.mark.parametrize(
    ("admitted", "other", "more"),
    [
        ({"secured": False}, {"secured": False}, False),
        ({"secured": False}, {}, True),
        ({}, {"secured": False}, False),
        ({}, {"scopes": ("a",)}, True),
        ({"scopes": ("a",)}, {}, False),
        ({"scopes": ("a",)}, {"scopes": ("b",)}, True),
        ({"scopes": ("a",)}, {"scopes": ("a", "b")}, False),  # one of them is enough
        ({"scopes": ("a", "b")}, {"scopes": ("a",)}, True),
        ({"scopes": ("a", "b")}, {"scopes": ("b", "a")}, False),
        ({"api_keys": KEY}, {}, True),
        ({}, {"api_keys": KEY}, False),
        ({"secured": False}, {"secured": False, "tier": "Bronze"}, True),
        ({"max_message": 10}, {"max_message": 20}, True),
        ({"max_message": 10}, {}, False),
    ],
)
def test_what_is_more(admitted: dict[str, Any], other: dict[str, Any], more: bool) -> None:
    made = table(topic("/r/{id}", **admitted), topic("/r/x", **other))
    assert bool(refused(made, "/r/%78")) == more


# --- bounds ---------------------------------------------------------------------------------


def test_paths_with_too_many_readings_are_refused() -> None:
    assert "too many ways" in refused(
        ROOMS, "/r/" + "%3B%253B%5C%255C%2F%252F%3F%253F%C0%AF%EF%BC%8F" * 100
    )
    assert refused(ROOMS, "/r/" + "%2525252525252541" * 400)


def test_long_ordinary_paths_pass() -> None:
    assert not refused(ROOMS, "/r/" + "caf%C3%A9%20%2F+" * 200)
    assert not refused(ROOMS, "/r/" + "x" * 8000)


def test_many_paths_are_remembered_within_bounds() -> None:
    made = table(topic("/r/admin"), opened("/r/{id}"))
    for number in range(3000):
        assert not refused(made, f"/r/Room{number}")
    match = made.match("localhost", "/m/1.0.0/r/Room2999")
    assert match is not None
    assert match.route.access is not None
    assert match.route.access.is_known(match.route.rank, "/m/1.0.0/r/Room2999")
    assert not match.route.access.is_known(match.route.rank, "/m/1.0.0/r/Room0")
