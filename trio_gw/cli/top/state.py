"""The state of the view, and what each key changes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from trio_gw.cli.top.responses import ApiRates, Connection, Picture

# The orders of connections, busiest first, and the columns that show them.
SORTS = ("rate", "messages", "bytes", "dropped", "age")
MOST_FILTER = 60  # characters


class CloseRequest(NamedTuple):
    """A request to close a connection."""

    id: str
    who: str


Action = Literal["quit", "look"] | CloseRequest


@dataclass
class State:
    """What is shown, and how. `press` returns what has to be done."""

    picture: Picture | None = None
    sort: str = SORTS[0]
    paused: bool = False
    filter: str = ""
    typed: str | None = None  # a filter that is being typed
    asked: CloseRequest | None = None  # a connection to close after confirmation
    selected: str = ""  # the id of a connection
    trouble: str = ""  # why there is no response
    note: str = ""  # the result of the last key
    _place: int = field(default=0, repr=False)  # the index of the selected connection

    @property
    def connections(self) -> list[Connection]:
        """Return the connections that are shown."""
        return [] if self.picture is None else self.picture.busiest

    @property
    def apis(self) -> list[ApiRates]:
        """Return the APIs that match the filter, in the order of the connections."""
        found = [] if self.picture is None else self.picture.apis or []
        wanted = self.filter.casefold()
        found = [one for one in found if wanted in one.name.casefold()]
        match self.sort:
            case "rate" | "bytes":
                found.sort(key=lambda one: -one.bytes)
            case "messages":
                found.sort(key=lambda one: -(one.messages_in + one.messages_out))
            case "dropped":
                found.sort(key=lambda one: -one.throttled)
        return found

    def take(self, picture: Picture) -> None:
        """Show a new picture."""
        self.picture, self.trouble = picture, ""
        self._select(0)

    def _select(self, step: int) -> None:
        ids = [one.id for one in self.connections]
        if not ids:
            self.selected = ""
            return
        if self.selected in ids:
            self._place = ids.index(self.selected)
        self._place = max(0, min(self._place + step, len(ids) - 1))
        self.selected = ids[self._place]

    def press(self, key: str) -> Action | None:
        """Handle a key; return what has to be done outside of this state."""
        self.note = ""
        if self.asked is not None:
            return self._confirm(key)
        if self.typed is not None:
            return self._type(key)
        match key:
            case "q":
                return "quit"
            case "s" | "S":
                step = 1 if key == "s" else -1
                self.sort = SORTS[(SORTS.index(self.sort) + step) % len(SORTS)]
                return "look"
            case "p" | " ":
                self.paused = not self.paused
                return None if self.paused else "look"
            case "/":
                self.typed = self.filter
            case "esc":
                if self.filter:
                    self.filter = ""
                    return "look"
            case "up" | "k":
                self._select(-1)
            case "down" | "j":
                self._select(1)
            case "x":
                for one in self.connections:
                    if one.id == self.selected:
                        self.asked = CloseRequest(one.id, one.who)
        return None

    def _confirm(self, key: str) -> Action | None:
        asked, self.asked = self.asked, None
        if key == "y":
            return asked
        self.note = "not closed"
        return None

    def _type(self, key: str) -> Action | None:
        assert self.typed is not None
        if key == "enter":
            self.filter, self.typed = self.typed.strip(), None
            return "look"
        if key == "esc":
            self.typed = None
        elif key == "backspace":
            self.typed = self.typed[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.typed) < MOST_FILTER:
            self.typed += key
        return None
