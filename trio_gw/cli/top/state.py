"""What the person at the keyboard wants to see, and what each key changes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from trio_gw.cli.top.reading import ApiRates, Connection, Picture

# How the gateway is asked to order connections, busiest first, and the column that shows it.
SORTS = ("rate", "messages", "bytes", "dropped", "age")
MOST_FILTER = 60  # characters


class Close(NamedTuple):
    """The wish to close a connection."""

    id: str
    who: str


Wish = Literal["quit", "look"] | Close


@dataclass
class State:
    """What is shown, and how. `press` says what has to be done for it."""

    picture: Picture | None = None
    sort: str = SORTS[0]
    paused: bool = False
    filter: str = ""
    typed: str | None = None  # a filter that is being typed
    asked: Close | None = None  # a connection to close, if that is confirmed
    selected: str = ""  # the id of a connection
    trouble: str = ""  # why there is no answer
    note: str = ""  # what came of the last key
    _place: int = field(default=0, repr=False)  # where the selected connection was listed

    @property
    def connections(self) -> list[Connection]:
        """List the connections that are shown."""
        return [] if self.picture is None else self.picture.busiest

    @property
    def apis(self) -> list[ApiRates]:
        """List the APIs that the filter leaves, in the order of the connections."""
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
        """Show this from now on."""
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

    def press(self, key: str) -> Wish | None:
        """Do what a key asks for; returns what is to be done beyond this."""
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
                        self.asked = Close(one.id, one.who)
        return None

    def _confirm(self, key: str) -> Wish | None:
        asked, self.asked = self.asked, None
        if key == "y":
            return asked
        self.note = "not closed"
        return None

    def _type(self, key: str) -> Wish | None:
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
