"""Draws the screen as lines of styled text: the columns that fit, and the most important rows.

`formatting.plain` escapes all names of peers and projects before they reach the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from trio_gw.cli.top import control_plane
from trio_gw.cli.top.formatting import count, fitted, plain, rate, size, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trio_gw.cli.top.responses import ApiRates, Connection, Picture
    from trio_gw.cli.top.state import State

GAP = 2  # cells between columns
LEAST = 12  # minimum cells of a column without a width
ROOMY = 8  # lines for tables, so that two of them fit
KEYS = "q quit  s sort  p pause  / filter  ↑↓ select  x close"
_HEADING, _CURSOR, _FAULT, _CAUTION, _FAINT = "bold", "reverse", "bold red", "yellow", "dim"


class Column(NamedTuple):
    """A column. Without a `width` it uses the rest; a higher `rank` is dropped earlier."""

    title: str
    width: int = 0
    rank: int = 0
    sort: str = ""  # the order of rows by this column


APIS = (
    Column("API"),
    Column("conns", 6, 0),
    Column("in/s", 8, 2, "messages"),
    Column("out/s", 8, 2),
    Column("bytes/s", 8, 1, "rate"),
    Column("throttled/s", 12, 3, "dropped"),
    Column("refused", 8, 4),
)
CONNECTIONS = (
    Column("CONNECTION"),
    Column("topic"),
    Column("since", 7, 3, "age"),
    Column("in/s", 8, 2),
    Column("out/s", 8, 2),
    Column("bytes/s", 8, 0, "rate"),
    Column("messages", 9, 5, "messages"),
    Column("bytes", 8, 4, "bytes"),
    Column("dropped", 8, 6, "dropped"),
    Column("w", 2, 7),
)


def screen(state: State, url: str, clock: str, width: int, height: int) -> Text:
    """Draw the whole screen, of exactly `height` lines."""
    head = _head(state, url, clock, width)
    foot = [_prompt(state, width)]
    picture = state.picture
    body: list[Text] = []
    if picture is not None:
        left = max(0, height - len(head) - len(foot))
        faults = _problems(picture, width, max(0, min(4, left // 4)))
        left -= len(faults)
        apis = _apis(state, width, max(3, left // 3)) if left >= ROOMY else []
        body = [*apis, *_connections(state, width, left - len(apis)), *faults]
    lines = [*head, *body][: height - 1]
    lines += [Text(" " * width)] * (height - 1 - len(lines))
    return Text("\n", no_wrap=True, end="").join([*lines, *foot])


def page(state: State, url: str, clock: str, width: int) -> Text:
    """Draw all rows once, at any length."""
    picture = state.picture
    assert picture is not None
    lines = _head(state, url, clock, width)
    lines += _apis(state, width, len(state.apis) + 3)
    lines += _connections(state, width, len(state.connections) + 3)
    lines += _problems(picture, width, len(picture.problems) + 3)
    for line in lines:
        line.rstrip()
    return Text("\n", no_wrap=True, end="").join(lines)


def _head(state: State, url: str, clock: str, width: int) -> list[Text]:
    picture = state.picture
    items = [("trio-gw top", _HEADING), (plain(url), "")]
    if picture is not None:
        workers = f"{picture.workers} worker{'s' if picture.workers != 1 else ''}"
        if picture.ready < picture.workers:
            workers += f" ({picture.ready} ready)"
        items += [(f"version {plain(picture.version)}", ""), (f"up {span(picture.uptime)}", "")]
        items.append((workers, "" if picture.ready == picture.workers else _CAUTION))
        items.append((clock, ""))
        items.append((f"{picture.connections:,} connections", _HEADING))
        items.append((f"{'?' if picture.accepts is None else rate(picture.accepts)} accepts/s", ""))
        if (total := picture.total) is not None:
            items += [
                (f"messages/s {rate(total.messages_in)} in, {rate(total.messages_out)} out", ""),
                (f"{size(total.bytes)}/s", ""),
                (f"{rate(total.throttled)} throttled/s", _CAUTION if total.throttled else ""),
                (f"{total.refused:,} refused", ""),
            ]
        faults = len(picture.problems)
        items.append((f"{faults} problem{'s' if faults != 1 else ''}", _FAULT if faults else ""))
    if state.paused:
        items.append(("PAUSED", "reverse"))
    lines = _flowing(items, width)
    if picture is not None and picture.plane is not None:
        lines += _flowing(control_plane.items(picture.plane), width)
    if picture is not None and picture.apis is None:
        lines.append(_line("metrics are turned off (metrics.enabled): no counts by API", width))
        lines[-1].stylize(_CAUTION)
    if picture is not None and picture.missing:
        numbers = ", ".join(map(str, picture.missing))
        lines.append(_line(f"no response from worker {numbers}: its part is missing", width))
        lines[-1].stylize(_CAUTION)
    if state.trouble:
        lines.append(_line(plain(state.trouble), width))
        lines[-1].stylize(_FAULT)
    return [*lines, _line("", width)]


def _flowing(items: Iterable[tuple[str, str]], width: int) -> list[Text]:
    """Put items side by side, on as many lines as needed."""
    lines = [Text(no_wrap=True)]
    for text, style in items:
        used = lines[-1].cell_len
        if used and used + 3 + cell_len(text) > width:
            lines.append(Text(no_wrap=True))
            used = 0
        lines[-1].append("   " if used else "").append(fitted(text, width).rstrip(), style)
    return lines


def _apis(state: State, width: int, most: int) -> list[Text]:
    if state.picture is None or state.picture.apis is None or most < 3:
        return []
    found = state.apis
    rows = [_api_cells(one) for one in found[: most - 2]]
    styles = [_CAUTION if one.throttled else "" for one in found]
    return _table(APIS, rows, styles, len(found), state.sort, width)


def _api_cells(one: ApiRates) -> tuple[str, ...]:
    return (
        plain(one.name),
        count(one.connections),
        *(rate(one.messages_in), rate(one.messages_out), size(one.bytes)),
        rate(one.throttled),
        count(one.refused),
    )


def _connections(state: State, width: int, most: int) -> list[Text]:
    picture = state.picture
    if picture is None or most < 3:
        return []
    found = state.connections
    # The selected row is always visible.
    places = [place for place, one in enumerate(found) if one.id == state.selected]
    first = max(0, (places[0] if places else 0) - (most - 3))
    shown = found[first : first + most - 2]
    styles = [_CURSOR if one.id == state.selected else "" for one in shown]
    rows = [_connection_cells(one) for one in shown]
    return _table(CONNECTIONS, rows, styles, picture.matching, state.sort, width)


def _connection_cells(one: Connection) -> tuple[str, ...]:
    publish, subscribe = one.publish, one.subscribe
    return (
        plain(one.who),
        plain(f"{one.api or ''} {one.topic or one.request}".strip()),
        span(one.seconds),
        rate(publish.messages_per_second),
        rate(subscribe.messages_per_second),
        size(publish.bytes_per_second + subscribe.bytes_per_second),
        count(publish.messages + subscribe.messages),
        size(publish.bytes + subscribe.bytes),
        count(one.dropped),
        str(one.worker),
    )


def _problems(picture: Picture, width: int, most: int) -> list[Text]:
    if not picture.problems or most < 2:
        return []
    lines = []
    for problem in picture.problems[: most - 1]:
        line = _line(plain(str(problem)), width)
        line.stylize(_FAULT if problem.severity == "error" else _CAUTION)
        lines.append(line)
    left = len(picture.problems) - len(lines)
    title = _line("PROBLEMS" + (f" ({left} more)" if left else ""), width)
    title.stylize(_HEADING)
    return [title, *lines]


def _table(
    columns: Sequence[Column],
    rows: Sequence[tuple[str, ...]],
    styles: Sequence[str],
    there_are: int,
    sort: str,
    width: int,
) -> list[Text]:
    """Draw a table with its title and an empty line at the end, without the dropped columns."""
    needs = [
        max((cell_len(row[place]) for row in rows), default=0) for place in range(len(columns))
    ]
    kept, widths = _layout(columns, needs, width)
    titles = []
    for place in kept:
        column = columns[place]
        title = column.title + ("▼" if column.sort and column.sort == sort else "")
        if place == 0 and there_are > len(rows):
            title += f" ({len(rows)} of {there_are:,})"
        titles.append(title)
    lines = []
    for row in (titles, *([row[place] for place in kept] for row in rows)):
        cells = [
            fitted(cell, wide, right=bool(columns[place].width))
            for cell, wide, place in zip(row, widths, kept, strict=True)
        ]
        lines.append(_line((" " * GAP).join(cells), width))
    lines[0].stylize(_HEADING)
    for line, style in zip(lines[1:], styles, strict=False):
        line.stylize(style)
    return [*lines, _line("", width)]


def _layout(
    columns: Sequence[Column], needs: Sequence[int], width: int
) -> tuple[list[int], list[int]]:
    """Choose the columns that fit, and their widths."""
    kept = list(range(len(columns)))
    while True:
        fixed = sum(columns[place].width for place in kept) + GAP * (len(kept) - 1)
        open_ended = [place for place in kept if not columns[place].width]
        left = width - fixed
        if left >= LEAST * len(open_ended) or len(kept) == 1:
            break
        kept.remove(max(kept[1:], key=lambda place: (columns[place].rank, place)))
    widths = {place: columns[place].width for place in kept}
    first, *second = open_ended
    widths[first] = max(0, left)
    for other in second:
        widths[first] = _share(left, needs[first], needs[other])
        widths[other] = left - widths[first]
    return kept, [widths[place] for place in kept]


def _share(left: int, first: int, second: int) -> int:
    """Return the width of the first of two columns: half, or more if the other needs less."""
    half = left // 2
    if second > left - half:
        return max(left - second, min(first, half))
    return max(half, min(first, left - second))


def _prompt(state: State, width: int) -> Text:
    if state.asked is not None:
        line = _line(f"close {plain(state.asked.who)}? y/n", width)
        line.stylize(_CAUTION)
    elif state.typed is not None:
        line = _line(f"filter: {plain(state.typed)}█   (enter: use, esc: leave)", width)
    elif state.note:
        line = _line(plain(state.note), width)
    else:
        filtered = f"filter: {plain(state.filter)} (esc: none)   " if state.filter else ""
        line = _line(filtered + KEYS, width)
        line.stylize(_FAINT, len(filtered))
    return line


def _line(text: str, width: int) -> Text:
    return Text(fitted(text, width), no_wrap=True, end="")
