"""The deny conditions in force, from all sources (spec: frames §4.3).

Each process has one. Its sources are the tables `[[deny]]` of the settings, which SIGHUP reloads,
the file of the setting `denials`, which is watched, and a control plane. `proxy.deny_check` asks at
every handshake, and `proxy.sweeper` ends open connections to which a new condition applies.

The file has one condition per line, named as in the settings. A `#` at the start of a line or
after a space begins the reason, which is logged:

    address=203.0.113.0/24      # a flood of handshakes
    address=!10.0.0.0/8         # every address but these
    user=mallory@carbon.super

As with `revocations`, a file with a faulty line, or a missing file, lifts no condition. The valid
lines of a faulty file are in force.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from trio_gw.config.conditions import KINDS, condition, nobody_left
from trio_gw.errors import Problem
from trio_gw.guard import lists
from trio_gw.guard.denials import NOTHING, Denials
from trio_gw.watch.files import Reloaded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.conditions import Condition
    from trio_gw.guard.caller import Caller

log = logging.getLogger("trio_gw.denials")

SETTINGS, FILE, CONTROL_PLANE = "settings", "file", "control plane"  # origins
MAX_BYTES = 4 << 20  # some 200,000 addresses
MAX_FAULTS = 20  # each is a line of the log


class Blocklist:
    """The conditions in force: one set per source, replaced as a whole.

    `current` is empty if there are none, so that handshakes need not ask. `changed` is set at the
    next change, then replaced by a new event.
    """

    def __init__(self) -> None:
        self._by_origin: dict[str, Denials] = {}
        self.current: tuple[Denials, ...] = ()
        self.changed = trio.Event()

    def of(self, origin: str) -> Denials:
        """Return the conditions of a source."""
        return self._by_origin.get(origin, NOTHING)

    def listed(self) -> Iterator[tuple[str, Condition]]:
        """Yield all conditions, with the source of each."""
        for origin, denials in self._by_origin.items():
            for one in denials.conditions:
                yield origin, one

    def publish(self, origin: str, denials: Denials) -> bool:
        """Replace the conditions of a source; return whether that changed anything."""
        if denials.conditions == self.of(origin).conditions:
            return False
        self._put(origin, denials)
        return True

    def change(self, origin: str, added: Iterable[Condition], removed: Iterable[Condition]) -> None:
        """Add conditions of a source and remove others; cheap, however many there are."""
        self._put(origin, self.of(origin).changed(added, removed))

    def _put(self, origin: str, denials: Denials) -> None:
        self._by_origin[origin] = denials
        self.current = tuple(one for one in self._by_origin.values() if len(one))
        changed, self.changed = self.changed, trio.Event()
        changed.set()
        log.info("%d deny conditions are in force", sum(map(len, self.current)))

    def find(self, api: ApiProject, address: str, caller: Caller | None) -> Condition | None:
        """Find a condition that applies to a connection, by what is known of the caller."""
        for denials in self.current:
            base = api.base_path
            found = denials.place(base, address)
            if found is None and caller is not None:
                found = denials.caller(base, api.version, caller)
            if found is not None:
                return found
        return None


def parse(data: bytes, file: str) -> tuple[tuple[Condition, ...], tuple[Problem, ...]]:
    """Read a file of conditions: the conditions, and a problem for each invalid line."""
    found: list[Condition] = []
    problems: list[Problem] = []
    for number, text, reason in lists.lines(data):
        name, equals, value = (part.strip() for part in text.partition("="))
        kind = next((one for one in KINDS if one == name), None)
        if kind is None or not equals:
            what = f"{text[:100]!r} is no condition"
            hint = f"write it like address=203.0.113.7; conditions are {', '.join(KINDS)}"
            problems.append(Problem(file, number, 0, what, hint))
            continue
        if not lists.legible(text):
            what = "holds a control character or no UTF-8"
            problems.append(Problem(file, number, 0, what, "save the file as UTF-8 text"))
            continue
        invert = kind == "address" and value.startswith("!")
        try:
            found.append(condition(kind, value[invert:], invert=invert, reason=reason))
        except ValueError as error:
            problems.append(Problem(file, number, 0, *error.args))
    if nobody_left(found):
        what = (
            "denies every address: each inverted condition applies on its own, and no address is"
            " in all"
        )
        hint = "invert one range that holds all others"
        problems.append(Problem(file, 0, 0, what, hint, "warning"))
    return tuple(found), tuple(problems[:MAX_FAULTS])


def read(path: Path, *, held: bool = False) -> tuple[tuple[Condition, ...], tuple[Problem, ...]]:
    """Read such a file. A missing file counts as empty, unless conditions of it are `held`.

    Raises UnusableError for one that cannot be used at all.
    """
    stays, spare = "its conditions stay in force", "conditions that are no longer needed"
    return parse(lists.read(path, MAX_BYTES, stays, spare, held=held), str(path))


def from_file(path: Path, blocklist: Blocklist) -> Reloaded[Denials]:
    """Make the file a source, for `watch.files` to load when it changes."""

    def load() -> Denials:
        before = blocklist.of(FILE)
        conditions, problems = read(path, held=bool(before))
        for problem in problems:
            log.log(logging.WARNING if problem.severity == "warning" else logging.ERROR, problem)
        faulty = any(problem.severity == "error" for problem in problems)
        if faulty:
            # A condition that is repeated, perhaps with another reason, is kept once.
            said = {one.meaning for one in conditions}
            held = (one for one in before.conditions if one.meaning not in said)
            conditions = (*held, *conditions)
        return Denials(conditions)

    async def use(denials: Denials) -> bool:
        return blocklist.publish(FILE, denials)

    return Reloaded("deny conditions", (path,), load, use)
