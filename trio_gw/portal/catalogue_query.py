"""The list of APIs: search, filters, order, pages. Pure: rows in, rows out.

Every word of the search must be found in a name, a path, a topic or a summary. What is found in
the name comes first, then what is found in the path, in a topic, elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.admin.json_responses import FaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SIZE = 50
LARGEST = 200
LONGEST = 200  # characters of a search
SORTS = ("name", "traffic", "changed")


class CatalogueRow(msgspec.Struct, frozen=True):
    """One API on one host, as the list shows it.

    `changed` is a time in epoch seconds, 0 if it is unknown. `hit` is what a search has found
    besides name and path: a topic, or words of a summary.
    """

    id: str
    title: str
    host: str
    path: str
    state: str
    source: str
    topics: int
    secured: bool
    tier: str
    changed: float = 0
    problems: int = 0
    open: int = 0
    hit: str = ""


class CatalogueEntry(NamedTuple):
    """A row, and the texts that are searched, as they are and in lower case."""

    row: CatalogueRow
    texts: tuple[str, ...]
    folded: tuple[str, ...]


class CatalogueQuery(NamedTuple):
    """What a reader asks for."""

    words: tuple[str, ...] = ()
    state: str = ""
    source: str = ""
    host: str = ""
    sort: str = "name"
    page: int = 1
    size: int = SIZE


def entry(row: CatalogueRow, texts: Iterable[str]) -> CatalogueEntry:
    """Prepare a row for searches: texts are title, path, topics, summaries."""
    every = (row.title, row.path, *texts)
    return CatalogueEntry(row, every, tuple(text.casefold() for text in every))


def read(query: Mapping[str, str]) -> CatalogueQuery:
    """Read the parameters of a request. Raises `FaultError` 422."""
    sort = query.get("sort", "") or "name"
    if sort not in SORTS:
        raise FaultError(422, f"sort is none of {', '.join(SORTS)}")
    return CatalogueQuery(
        tuple(query.get("q", "")[:LONGEST].casefold().split()),
        query.get("state", "").upper(),
        query.get("source", ""),
        query.get("host", "").lower(),
        sort,
        _number("page", query, 1, 1 << 20),
        _number("size", query, SIZE, LARGEST),
    )


def _number(name: str, query: Mapping[str, str], default: int, most: int) -> int:
    text = query.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise FaultError(422, f"{name} is not a number from 1 to {most}")
    return int(text)


def select(
    entries: Sequence[CatalogueEntry], asked: CatalogueQuery, live: Callable[[CatalogueRow], int]
) -> tuple[int, list[CatalogueRow]]:
    """Return how many rows there are, and those of the page. `live` counts open connections."""
    ranked: list[tuple[int, str, CatalogueEntry]] = []
    for each in entries:
        row = each.row
        if asked.state and row.state != asked.state:
            continue
        if asked.source and row.source != asked.source:
            continue
        if asked.host and row.host != asked.host:
            continue
        found = _rank(each.folded, asked.words)
        if found is not None:
            rank, place = found
            ranked.append((rank, each.texts[place] if place > 1 else "", each))
    ranked.sort(key=_order(asked.sort, live))
    first = (asked.page - 1) * asked.size
    shown = [
        msgspec.structs.replace(each.row, hit=hit, open=live(each.row))
        for _, hit, each in ranked[first : first + asked.size]
    ]
    return len(ranked), shown


def _rank(folded: tuple[str, ...], words: tuple[str, ...]) -> tuple[int, int] | None:
    """Return how good a match is (0 is best) and in which text; None if a word is missing."""
    worst, place = 0, 0
    for word in words:
        for at, text in enumerate(folded):
            if word in text:
                rank = 0 if at == 0 and text.startswith(word) else min(at, 2) + 1
                if rank > worst:
                    worst, place = rank, at
                break
        else:
            return None
    return worst, place


def _order(
    sort: str, live: Callable[[CatalogueRow], int]
) -> Callable[[tuple[int, str, CatalogueEntry]], tuple[float, int, str, str]]:
    def key(ranked: tuple[int, str, CatalogueEntry]) -> tuple[float, int, str, str]:
        rank, _, each = ranked
        row = each.row
        name = each.folded[0], row.host
        if sort == "traffic":
            return (-live(row), rank, *name)
        if sort == "changed":
            return (-row.changed, rank, *name)
        return (0, rank, *name)

    return key
