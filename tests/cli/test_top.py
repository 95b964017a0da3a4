"""`trio-gw top`, the parts without a terminal: rates, keys, words, and what fits."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from trio_gw.cli.top import formatting
from trio_gw.cli.top.drawing import page, screen
from trio_gw.cli.top.responses import (
    Answers,
    Api,
    Connection,
    Listing,
    Picture,
    Plane,
    Stats,
    Way,
    Worker,
    picture,
)
from trio_gw.cli.top.state import SORTS, CloseRequest, State
from trio_gw.cli.top.terminal import split
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence


PLANE = {
    "follower": 1,
    "current": True,
    "stale_seconds": 0.0,
    "from_cache": False,
    "pull": {"running": False, "error": None},
    "brokers": [
        {"address": "a:5672", "connected": False},
        {"address": "b:5672", "connected": True},
    ],
    "events": {"deploy": {"applied": 2}, "other": {"malformed": 1}},
    "workers": [{"served": {"apis": 3, "subscriptions": 5000}}],
}


def stats(clock: float, apis: Sequence[Api] | None = (), accepted: Sequence[int] = (1,)) -> Stats:
    workers = [Worker(place, "ready", 1, ever) for place, ever in enumerate(accepted, 1)]
    return Stats("1", clock, 60, workers, [], None if apis is None else list(apis))


def connection(name: str, **given: Any) -> Connection:
    values: dict[str, Any] = {"id": name, "peer": "127.0.0.1", "seconds": 1, "request": "GET /x"}
    values |= {"worker": 1, "publish": Way(), "subscribe": Way()} | given
    return Connection(**values)


def seen(after: Stats, *connections: Connection, before: Stats | None = None) -> Picture:
    listing = Listing(len(connections), len(connections), list(connections), [])
    return picture(before, Answers(after, listing, []))


# -- rates ---------------------------------------------------------------------------------------


def test_rates_are_differences_over_the_gateway_s_own_clock() -> None:
    old = Api("A", "1", 2, throttled=10, into=Way(100, 1000), out=Way(50, 500))
    new = Api("A", "1", 3, throttled=16, into=Way(140, 1600), out=Way(60, 700), refused=4)
    found = seen(stats(12, [new], (5, 9)), before=stats(10, [old], (4, 4)))
    assert found.apis is not None
    (row,) = found.apis
    assert (row.name, row.connections, row.refused) == ("A:1", 3, 4)
    assert (row.messages_in, row.messages_out) == (20, 5)
    assert (row.bytes, row.throttled) == (400, 3)
    assert found.accepts == 3
    assert found.total is not None
    assert found.total.bytes == 400


def test_what_began_anew_counts_from_nothing() -> None:
    old = Api("A", "1", into=Way(100))
    found = seen(stats(11, [Api("A", "1", into=Way(7))], (3,)), before=stats(10, [old], (900,)))
    assert found.apis is not None
    assert found.apis[0].messages_in == 7
    assert found.accepts == 3


@pytest.mark.parametrize("clock", [None, 10, 11])
def test_without_an_earlier_answer_there_are_no_rates(clock: float | None) -> None:
    before = None if clock is None else stats(clock, [], (1,))
    found = seen(stats(10, [Api("A", "1", into=Way(100))], (9,)), before=before)
    assert found.accepts is None
    assert found.apis is not None
    assert found.apis[0].messages_in == 0


def test_what_is_no_api_is_listed_once_it_was_asked_for() -> None:
    nobody = Api("", "", refused=0)
    assert seen(stats(1, [nobody])).apis == []
    found = seen(stats(1, [msgspec.structs.replace(nobody, refused=2)]))
    assert found.apis is not None
    (row,) = found.apis
    assert (row.name, row.refused) == ("(no such API)", 2)
    assert seen(stats(1, None)).apis is None


# -- keys ----------------------------------------------------------------------------------------


def test_terminals_send_keys_in_lumps() -> None:
    assert split("q") == ["q"]
    assert split("\x1b[A\x1bOBjk") == ["up", "down", "j", "k"]
    assert split("\x1b[1;5Cx\x1b[200~é\r\x7f") == ["x", "é", "enter", "backspace"]
    assert split("\x1b") == ["esc"]
    assert split("\x1b[") == []


def test_sorting_and_pausing() -> None:
    state = State()
    assert [(state.press("s"), state.sort)[1] for _ in SORTS] == [*SORTS[1:], SORTS[0]]
    assert (state.press("S"), state.sort) == ("look", SORTS[-1])
    assert (state.press("p"), state.paused) == (None, True)
    assert (state.press(" "), state.paused) == ("look", False)
    assert state.press("q") == "quit"


def test_a_filter_is_typed_used_and_taken_away() -> None:
    state = State()
    for key in ("/", "q", "s", "ü", "x", "backspace", "up"):
        assert state.press(key) is None  # none of them means what it does elsewhere
    assert (state.typed, state.filter) == ("qsü", "")
    assert (state.press("enter"), state.filter, state.typed) == ("look", "qsü", None)
    for key in ("/", "z", "esc"):
        state.press(key)
    assert (state.filter, state.typed) == ("qsü", None)
    assert (state.press("esc"), state.filter) == ("look", "")
    state.press("/")
    for _ in range(1000):
        state.press("a")
    assert state.typed == "a" * 60


def test_the_selection_stays_with_its_connection_and_closing_is_confirmed() -> None:
    state = State()
    assert state.press("x") is None  # there is none
    state.take(seen(stats(1), *map(connection, "abc")))
    assert state.selected == "a"
    state.press("down")
    state.take(seen(stats(2), *map(connection, "cab")))
    assert state.selected == "b"
    state.press("down")
    assert state.selected == "b"  # the last
    state.take(seen(stats(3), *map(connection, "ca")))
    assert state.selected == "a"  # the last of those that are left
    state.press("x")
    assert state.asked == CloseRequest("a", "127.0.0.1")
    assert state.press("Y") is None
    assert state.note == "not closed"
    assert state.press("y") is None  # nothing is asked any more
    state.press("x")
    assert state.press("y") == CloseRequest("a", "127.0.0.1")
    assert state.asked is None


# -- what is drawn -------------------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u200b\n\rend\u2028"


@given(st.text(max_size=60))
def test_no_text_reaches_the_terminal_with_anything_unseen_in_it(text: str) -> None:
    for char in formatting.plain(text):
        assert unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


@given(st.text(max_size=60), st.integers(0, 40), st.booleans())
def test_a_cell_is_as_wide_as_it_has_to_be(text: str, width: int, right: bool) -> None:
    assert cell_len(formatting.fitted(formatting.plain(text), width, right=right)) == width


def full() -> State:
    """A screen with everything on it, named by somebody who means no good."""
    old = Api("A" * 80, "1")
    apis = [
        Api("A" * 80, "1", 5, into=Way(10**8, 10**12), throttled=10**7),
        Api(EVIL, "1.0", 2, refused=12345678),
        *(Api(f"Name{number}", "1") for number in range(30)),
    ]
    listed = [
        connection(str(number), subject=subject, topic=topic, application=subject, seconds=10**8)
        for number, (subject, topic) in enumerate(
            [(EVIL, "/t"), ("漢字" * 30, EVIL), ("x" * 300, "y" * 300), *[("n", "/t")] * 60]
        )
    ]
    problems = [Problem(EVIL, 1, 1, EVIL * 5), *(Problem(f"f{n}", 0, 0, "x") for n in range(20))]
    plane = msgspec.convert(PLANE | {"brokers": [{"address": EVIL, "connected": True}]}, Plane)
    answers = Answers(stats(3, apis, (10**9, 2)), Listing(900, 63, listed, [2]), problems, plane)
    state = State(trouble=EVIL, filter="")
    state.take(picture(stats(1, [old], (1, 1)), answers))
    state.trouble = EVIL
    return state


@pytest.mark.parametrize("width", [1, 2, 10, 20, 40, 79, 80, 100, 132, 250])
@pytest.mark.parametrize("height", [1, 2, 5, 12, 24, 60])
def test_the_screen_fits_exactly(width: int, height: int) -> None:
    for change in ("", "x", "/", "/abc"):
        state = full()
        for key in change:
            state.press(key)
        drawn = screen(state, "https://" + "host" * 30, "12:00:00", width, height).plain
        lines = drawn.split("\n")
        assert len(lines) == height
        assert max(map(cell_len, lines)) <= width
        assert "\x1b" not in drawn
        assert "\u202e" not in drawn


def test_what_matters_stays_on_a_narrow_screen() -> None:
    wide = screen(full(), "https://h", "12:00:00", 140, 40).plain
    for word in ("throttled/s▼", "refused", "dropped", "messages", "topic", "PROBLEMS (18 more)"):
        assert word.rstrip("▼") in wide
    narrow = screen(full(), "https://h", "12:00:00", 50, 40).plain
    assert "bytes/s▼" in narrow
    assert "dropped" not in narrow
    assert "no response from worker 2: its part is missing" in narrow
    # The busiest first, however many there are, and how many are left out.
    assert "CONNECTION (" in wide
    assert " of 63)" in wide


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {},
            "control plane: current   events from b:5672   3 events   3 APIs   5,000 subscriptions",
        ),
        (
            {"current": False, "stale_seconds": 75.0, "from_cache": True, "brokers": []},
            "control plane: stale for 1m15s, served from the cache   no broker   3 events",
        ),
        ({"pull": {"running": True, "error": None}}, "subscriptions   pulling"),
        ({"pull": {"running": False, "error": "401"}}, "subscriptions   pull failed: 401"),
        (
            dict.fromkeys(PLANE) | {"workers": []},
            "control plane: the worker that follows it did not respond",
        ),
    ],
)
def test_the_control_plane_has_a_line(change: dict[str, Any], said: str) -> None:
    plane = msgspec.convert(PLANE | change, Plane)
    answers = Answers(stats(1), Listing(0, 0, [], []), [], plane)
    state = State(picture=picture(None, answers))
    drawn = screen(state, "https://h", "12:00:00", 140, 20).plain
    assert said in "\n".join(line.rstrip() for line in drawn.split("\n"))
    assert said in page(state, "https://h", "12:00:00", 140).plain


def test_without_a_control_plane_there_is_no_line() -> None:
    state = State(picture=seen(stats(1)))
    assert "control plane" not in screen(state, "https://h", "12:00:00", 140, 20).plain


def test_the_selected_connection_is_always_seen() -> None:
    state = full()
    assert state.picture is not None
    state.picture = msgspec.structs.replace(
        state.picture, busiest=[connection(f"c{n}", subject=f"user{n}") for n in range(50)]
    )
    for _ in range(45):
        state.press("down")
    assert "user45" in screen(state, "u", "c", 100, 24).plain
    assert "user0 " not in screen(state, "u", "c", 100, 24).plain


def test_a_page_lists_everything_and_is_plain_text() -> None:
    text = page(full(), "https://h", "12:00:00", 120).plain
    assert text.count("Name") == 30
    assert text.count("\nn 127.0.0.1 n ") == 60
    assert not any(line != line.rstrip() for line in text.split("\n"))


def test_numbers_for_people() -> None:
    assert [formatting.rate(n) for n in (0, 0.04, 9.94, 9.96, 12345, 2.5e6)] == (
        ["0", "0.0", "9.9", "10", "12,345", "2.5M"]
    )
    assert [formatting.size(n) for n in (0, 999, 999.5, 1500, 15_000, 999_500, 5e9, 5e15)] == (
        ["0 B", "999 B", "1.0 kB", "1.5 kB", "15 kB", "1.0 MB", "5.0 GB", "5,000 TB"]
    )
    assert [formatting.span(n) for n in (0, 59.9, 60, 3599, 3600, 86399, 86400, 1e7)] == (
        ["0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "115d17h"]
    )
    assert [formatting.count(n) for n in (0, 999_999, 12_345_678)] == ["0", "999,999", "12.3M"]
