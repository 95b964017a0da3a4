"""Topics: which path they match, in which order, and what of the path they capture.

The reference is a naive matcher, written from the rules (`support.topics`).
"""

from __future__ import annotations

import itertools
import re
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.topics import naive
from trio_gw.routing.topics import TopicMatcher, parameters_of, pattern_of, sort_key

# --- the reference --------------------------------------------------------------------------


def before(one: str, other: str) -> int:
    """Compare two channels by the rules, one by one."""
    for last in ("/*" in one[-2:], "/*" in other[-2:]), ("." not in one, "." not in other):
        if last[0] != last[1]:
            return 1 if last[0] else -1
    a, b = (re.sub(r"[A-Za-z0-9_]|\s", "", name).encode() for name in (one, other))
    return (a > b) - (a < b)


# --- order ----------------------------------------------------------------------------------

U17 = [
    "/pet/index.html",
    "/pet/pet.{anc}",
    "/pet/{petId}.com",
    "/pet/{pet}.{anc}",
    "/pet",
    "/pet/{id}",
    "/pet/{id}/price",
    "/pet/{id}/{price}",
    "/pet/*",
]


def test_the_order_of_the_reference() -> None:
    backwards = U17[::-1]
    for shift in range(len(U17)):
        assert sorted(backwards[shift:] + backwards[:shift], key=sort_key) == U17


plain_names = st.text("ab1_/-.{}*+", min_size=1, max_size=12).map(lambda text: "/" + text)


@given(st.lists(plain_names, max_size=8))
def test_the_order_follows_the_rules(names: list[str]) -> None:
    ordered = sorted(names, key=sort_key)
    assert all(before(a, b) <= 0 for a, b in itertools.combinations(ordered, 2))


@given(st.lists(st.text(max_size=12), max_size=8))
def test_the_order_is_the_same_however_the_names_arrive(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=sort_key) == sorted(backwards, key=sort_key)


@pytest.mark.parametrize("literal", ["/a~b", "/a|b", "/~", "/\u00fc", "/a~/b"])
def test_a_literal_is_never_shadowed_by_a_parameter(literal: str) -> None:
    """Differs from the reference, where `{x}` shadows `a~b`."""
    parameters = "/{x}" + "/{y}" * (literal.count("/") - 1)
    channels = sorted([parameters, literal], key=sort_key)
    assert TopicMatcher(channels).match(literal) == (channels.index(literal), ())


# --- single topics --------------------------------------------------------------------------

YES_NO = [
    # reference test U12
    ("/pet/{petId}", "/pet/5", True),
    ("/pet/{petId}", "/pet/5/", True),
    ("/pet/{petId}/", "/pet/5", True),
    ("/pet/{petId}/", "/pet/5/", True),
    ("/pet/{petId}/info", "/pet/5/info", True),
    ("/pet/{petId}/tst/{petId}", "/pet/5/tst/3", True),
    ("/pet/{petId}", "/pet/5/test", False),
    ("/pet/5", "/pett/5", False),
    ("/pet/*", "/pet/", True),
    ("/pet/*", "/pet", True),
    ("/pet/*", "/pet/foo/bar", True),
    ("/pet/*", "/pet123", False),
    ("/pet/{petId}.api", "/pet/findByIdstatus=availabe", False),
    ("/pet/{petId}.api", "/pet/pet1.api", True),
    ("/pet/pet{petId}", "/pet/findByIdstatus=availabe", False),
    ("/pet/pet{petId}", "/pet/pet1", True),
    # routing §2
    ("/notifications", "/notifications", True),
    ("/notifications", "/notifications/", True),
    ("/notifications", "/notifications//", False),
    ("/notifications", "/Notifications", False),
    ("/notifications", "/notifications/a", False),
    ("/notifications", "", False),
    ("/notifications", "/", False),
    ("/rooms/{roomID}", "/rooms/room1", True),
    ("/rooms/{roomID}", "/rooms/room1/", True),
    ("/rooms/{roomID}", "/rooms/", False),
    ("/rooms/{roomID}", "/rooms//", False),
    ("/rooms/{roomID}", "/rooms", False),
    ("/rooms/{roomID}", "/rooms/a/b", False),
    ("/*", "", True),
    ("/*", "/", True),
    ("/*", "/a/b", True),
    ("/*", "//", True),
    ("/a/*", "/a", True),
    ("/a/*", "/a/", True),
    ("/a/*", "/a/b", True),
    ("/a/*", "/ab", False),
    ("/a/*", "", False),
    ("/", "", True),
    ("/", "/", True),
    ("/", "//", False),
    ("/", "/a", False),
    ("/notifications?x={y}", "/notifications", True),
    # doubled slashes are literal
    ("/a//", "/a/", True),
    ("/a//", "/a//", True),
    ("/a//", "/a", False),
    ("/a//b", "/a//b", True),
    ("/a//b", "/a/b", False),
    ("//", "/", True),
    ("//", "", False),
    ("/{x}//{y}", "/1//2", True),
    ("/{x}//{y}", "/1/2", False),
    ("/a//*", "/a/", True),
    ("/a//*", "/a//b", True),
    ("/a//*", "/a", False),
    # a parameter takes at least one character, and nothing across a slash
    ("/x{a}", "/x", False),
    ("/{a}x", "/x", False),
    ("/{a}{b}", "/x", False),
    ("/{a}{b}", "/xy", True),
    ("/{a}-{b}", "/-", False),
    ("/{a}-{b}", "/--", False),
    ("/{a}-{b}", "/---", True),
    ("/{a}-{b}", "/a/-b", False),
    # everything else means itself
    ("/a.b", "/axb", False),
    ("/a+", "/aa", False),
    ("/(a)", "/(a)", True),
    ("/[ab]", "/a", False),
    ("/a*b", "/aab", False),
    ("/a*b", "/a*b", True),
    ("/*/b", "/x/b", False),
    ("/a%20b", "/a%20b", True),
    ("/a%20b", "/a b", False),
    ("/a%2Fb", "/a/b", False),
    ("/a%2Fb", "/a%2fb", False),
    ("/..", "/..", True),
]


@pytest.mark.parametrize(("channel", "rest", "matches"), YES_NO)
def test_one_topic(channel: str, rest: str, matches: bool) -> None:
    assert (TopicMatcher([channel]).match(rest) is not None) is matches
    assert (naive([channel], rest) is not None) is matches, "the reference of this file is wrong"


@pytest.mark.parametrize(
    ("channel", "rest", "captured"),
    [
        ("/pet/{id}", "/pet/%20a+b", ("%20a+b",)),
        ("/pet/{id}/", "/pet/5/", ("5",)),
        ("/{a}/{b}/{a}", "/1/2/3", ("1", "2", "3")),
        ("/{a}-{b}", "/1-2-3", ("1-2", "3")),
        ("/{a}{b}{c}", "/12345", ("123", "4", "5")),
        ("/x{a}.{b}y", "/x...y", (".", ".")),
        ("/{a}--{b}-{c}", "/1--2---3", ("1", "2--", "3")),
        ("/{a}/*", "/1/2/3", ("1",)),
        ("/v{major}.{minor}/{x}", "/v1.2.3/y", ("1.2", "3", "y")),
        ("/{pet-id}/{_x}", "/a/b", ("a", "b")),
    ],
)
def test_captures(channel: str, rest: str, captured: tuple[str, ...]) -> None:
    assert TopicMatcher([channel]).match(rest) == (0, captured)
    assert len(parameters_of(channel)) == len(captured)


def test_parameters_by_name() -> None:
    """Reference test U16, P1."""
    assert parameters_of("/abc/shop/{shopId}/pets/{petId}") == ("shopId", "petId")
    assert parameters_of("/abc/shop/pets") == ()
    assert parameters_of("/pre{pet-id}.{_x}/*") == ("pet-id", "_x")
    assert parameters_of("/a?b={c}") == ()
    assert pattern_of("/a?b?c") == "/a"


def test_no_topics() -> None:
    assert TopicMatcher([]).match("/a") is None
    assert TopicMatcher([]).match("") is None


def test_of_equal_topics_the_first_counts() -> None:
    channels = ["/{a}/x", "/{b}/x", "/{b}/x/"]
    assert TopicMatcher(channels).match("/1/x/") == (0, ("1",))


def test_a_longer_way_may_lead_to_a_better_topic() -> None:
    """The literal branch matches too, but a topic behind the parameter comes first."""
    channels = ["/{x}/b.c", "/a/{y}"]
    assert sorted(channels, key=sort_key) == channels
    assert TopicMatcher(channels).match("/a/b.c") == (0, ("a",))
    assert TopicMatcher(channels).match("/a/b.d") == (1, ("b.d",))


# --- any set of topics, any path ------------------------------------------------------------

words = st.sampled_from(["a", "b", "ab", "a.b", "~", "a~b", "-", ".", "..", "|", "*", "%2F", "x"])
parameter = st.sampled_from(["{p}", "{q}", "{p-q}", "{}"])
segments = st.one_of(
    words,
    parameter,
    st.lists(st.one_of(words, parameter, st.just("-")), min_size=1, max_size=5).map("".join),
    st.just(""),
)
names = st.builds(
    lambda parts, tail: "/" + "/".join(parts) + tail,
    st.lists(segments, min_size=1, max_size=4),
    st.sampled_from(["", "", "", "/", "//", "/*", "//*", "/*/", "?q={p}"]),
)


@st.composite
def paths(draw: st.DrawFn, channels: list[str]) -> str:
    """Draw a path that looks like one of the channels, then maybe spoil it."""
    texts = st.text("ab-.~", max_size=6)
    path = pattern_of(draw(st.sampled_from(channels))) if channels else "/a"
    path = re.sub(r"\{[^{}/]*\}", lambda _: draw(texts), path)
    if path.endswith("/*") and draw(st.booleans()):
        path = path[:-2] + draw(st.sampled_from(["", "/", "//", "/a", "/a/b", "a"]))
    path += draw(st.sampled_from(["", "", "", "/", "//", "a", "/a"]))
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(path)))
        path = path[:at] + draw(st.sampled_from(["", "/", "a", "-"])) + path[at + 1 :]
    return path if path.startswith("/") or not path else "/" + path


@given(st.data(), st.lists(names, max_size=10))
@settings(max_examples=examples(2500), deadline=None)
def test_it_agrees_with_the_reference(data: st.DataObject, channels: list[str]) -> None:
    channels.sort(key=sort_key)
    matcher = TopicMatcher(channels)
    for _ in range(4):
        rest = data.draw(paths(channels))
        assert matcher.match(rest) == naive(channels, rest)


@given(st.lists(st.text("ab-{}/*.", min_size=1, max_size=8).map(lambda s: "/" + s), max_size=6))
@settings(max_examples=examples(2000), deadline=None)
def test_it_agrees_whatever_stands_in_the_names(channels: list[str]) -> None:
    channels.sort(key=sort_key)
    matcher = TopicMatcher(channels)
    for rest in [*channels, "", "/", "/a", "/a-b", "/a/b", "/a//b/", "/-/a.b"]:
        assert matcher.match(rest) == naive(channels, rest)


# --- no input makes it slow -----------------------------------------------------------------

LONG = 8 * 1024
LETTERS = string.ascii_lowercase[:12]


@pytest.mark.parametrize(
    ("channels", "rest"),
    [
        (["/{a}-{b}-{c}-x"], "/" + "-" * LONG),
        (["/{a}-{b}-{c}-x"], "/" + "a-" * (LONG // 2) + "y"),
        (["/" + "".join(f"{{{x}}}-" for x in LETTERS) + "x"], "/" + "-" * LONG),
        (["/" + "".join(f"{{{x}}}" for x in LETTERS) + "x"], "/" + "a" * LONG),
        (["/{a}" + "ab" * 50 + "{b}" + "ab" * 50 + "{c}x"], "/" + "ab" * (LONG // 2)),
        (["/{a}" * 30], "/a" * 1000),
        (["/*"], "/" * LONG),
        (["/{a}/*", "/a/*"], "/a" * 4000),
        (["/{a}-{b}/*"] * 50, "/" + "a-" * 4000),
        # Every way through this tree is a dead end.
        (
            ["".join("/a" if bit == "1" else "/{x}" for bit in f"{i:08b}") for i in range(256)],
            "/a" * 8 + "/b",
        ),
        (
            ["".join("/a" if bit == "1" else "/{x}a" for bit in f"{i:08b}") for i in range(256)],
            "/aa" * 7 + "/b",
        ),
    ],
)
def test_no_input_makes_it_slow(channels: list[str], rest: str) -> None:
    matcher = TopicMatcher(channels)
    began = time.perf_counter()
    for _ in range(10):
        matcher.match(rest)
    assert time.perf_counter() - began < 1, "10 matches take milliseconds, not seconds"
