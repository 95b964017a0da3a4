"""Searching, filtering and sorting the list of APIs."""

from __future__ import annotations

import time

import pytest

from trio_gw.admin.json_responses import FaultError
from trio_gw.portal.catalogue_query import (
    CatalogueEntry,
    CatalogueQuery,
    CatalogueRow,
    entry,
    read,
    select,
)


def row(name: str, **fields: object) -> CatalogueRow:
    """Make a row with usual values."""
    values: dict[str, object] = {
        "id": name,
        "title": f"{name}:1.0.0",
        "host": "localhost",
        "path": f"/{name.lower()}",
        "state": "PUBLISHED",
        "source": "apis",
        "topics": 1,
        "secured": True,
        "tier": "x",
    }
    return CatalogueRow(**{**values, **fields})  # type: ignore[arg-type]


ENTRIES = (
    entry(row("Chat", open=3), ("/rooms/{room}", "Talk to people")),
    entry(row("Bedroom", state="DEPRECATED", changed=9), ("/light",)),
    entry(row("Zoo", source="git", host="zoo.example", path="/Rooms"), ("/cages",)),
    entry(row("Roomba", changed=5), ()),
)


def titles(query: dict[str, str], entries: tuple[CatalogueEntry, ...] = ENTRIES) -> list[str]:
    """Return the titles that a query shows."""
    live = {"Zoo:1.0.0": 7, "Chat:1.0.0": 3}
    _, rows = select(entries, read(query), lambda one: live.get(one.title, 0))
    return [one.title.partition(":")[0] for one in rows]


def test_without_a_query_all_come_by_name() -> None:
    assert titles({}) == ["Bedroom", "Chat", "Roomba", "Zoo"]


def test_what_begins_with_a_word_comes_first_then_names_paths_topics() -> None:
    assert titles({"q": "ROOM"}) == ["Roomba", "Bedroom", "Zoo", "Chat"]


def test_every_word_must_be_there() -> None:
    assert titles({"q": "people chat"}) == ["Chat"]
    assert titles({"q": "people zoo"}) == []


def test_what_was_found_is_shown() -> None:
    _, rows = select(ENTRIES, read({"q": "talk"}), lambda _: 0)
    assert [one.hit for one in rows] == ["Talk to people"]
    _, rows = select(ENTRIES, read({"q": "roomba"}), lambda _: 0)
    assert [one.hit for one in rows] == [""]


def test_filters() -> None:
    assert titles({"state": "deprecated"}) == ["Bedroom"]
    assert titles({"source": "git"}) == ["Zoo"]
    assert titles({"host": "ZOO.example"}) == ["Zoo"]
    assert titles({"host": "zoo.example", "state": "CREATED"}) == []


def test_order() -> None:
    assert titles({"sort": "traffic"}) == ["Zoo", "Chat", "Bedroom", "Roomba"]
    assert titles({"sort": "changed"}) == ["Bedroom", "Roomba", "Chat", "Zoo"]


def test_pages() -> None:
    assert titles({"size": "3", "page": "2"}) == ["Zoo"]
    assert titles({"size": "3", "page": "9"}) == []


@pytest.mark.parametrize(
    "query",
    [{"page": "0"}, {"page": "x"}, {"size": "201"}, {"size": "-1"}, {"sort": "id"}, {"page": "²"}],
    ids=str,
)
def test_what_is_no_query_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(FaultError) as caught:
        read(query)
    assert caught.value.status == 422


def test_a_search_is_cut() -> None:
    assert len("".join(read({"q": "x" * 1000}).words)) == 200
    assert read({}) == CatalogueQuery()


def test_a_search_of_two_thousand_is_fast() -> None:
    many = tuple(
        entry(row(f"Api{number:04}"), (f"/rooms/{number}", "some words about it"))
        for number in range(2000)
    )
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        total, rows = select(many, read({"q": "rooms/19"}), lambda _: 0)
        best = min(best, time.perf_counter() - began)
    assert (total, len(rows)) == (111, 50)
    assert best < 0.02
