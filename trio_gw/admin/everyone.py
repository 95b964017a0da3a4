"""What all workers of this gateway say, put together by the one that was asked.

A worker that does not answer in time (`PATIENCE`) is named in the answer, by its number; what
the others said is told all the same. One that is known not to respond is not asked, but named. One
that has ended, and is being replaced, is not asked: its
connections have ended with it, and what it had counted is kept (`telemetry.metrics.retire`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import trio

from trio_gw.admin.questions import Close, Connections, Listing, Numbers, Problems, ordered
from trio_gw.errors import Problem
from trio_gw.proxy.fleet import State
from trio_gw.telemetry.metrics import merge, unpack

if TYPE_CHECKING:
    from trio_gw.admin.questions import Question
    from trio_gw.admin.witness import Witness
    from trio_gw.proxy.fleet import Fleet
    from trio_gw.proxy.neighbours import Neighbours
    from trio_gw.telemetry.metrics import Snapshot

log = logging.getLogger("trio_gw.admin")

PATIENCE = 2.0  # seconds
_GONE = (State.ABSENT, State.MISSING)

T = TypeVar("T")
Missing = list[int]  # numbers of workers


class Everyone(NamedTuple):
    """This worker and the others."""

    witness: Witness
    fleet: Fleet
    neighbours: Neighbours

    async def connections(self, asked: Connections) -> tuple[Listing, Missing]:
        """List connections of all workers in one order."""
        listings: list[Listing] = []

        async def own() -> None:
            listings.append(await self.witness.connections(asked))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(own)
            told, missing = await self._others(asked, asked.sample + PATIENCE)
        listings += self._read(told, Listing, missing).values()
        found = ordered([one for listing in listings for one in listing.connections], asked.sort)
        total = sum(listing.total for listing in listings)
        matching = sum(listing.matching for listing in listings)
        return Listing(total, matching, found[: asked.limit]), missing

    async def close(self, asked: Close) -> tuple[bool, Missing]:
        """End a connection, whichever worker has it; tells whether one had."""
        if self.witness.close(asked):
            return True, []
        told, missing = await self._others(asked, PATIENCE)
        return any(self._read(told, bool, missing).values()), missing

    async def problems(self) -> tuple[list[Problem], Missing]:
        """Tell what is wrong; most of it all workers know, and it is told once."""
        found = list(self.witness.problems())
        told, missing = await self._others(Problems(), PATIENCE)
        for problems in self._read(told, tuple[Problem, ...], missing).values():
            found += problems
        return list(dict.fromkeys(found)), missing

    async def numbers(self) -> tuple[Snapshot, Missing] | None:
        """Add up what all workers have counted, as of now; None if nothing is counted.

        Of one that does not answer it is what it showed last, up to a second before it fell silent.
        """
        metrics = self.witness.metrics
        if metrics is None:
            return None
        fresh, missing = await self._others(Numbers(), PATIENCE)
        snapshots = [metrics.snapshot()]
        shown = metrics.shown()
        states = self.fleet.states()
        for index, page in shown.items():
            # Of one that has ended meanwhile there is its page.
            here = index in fresh and states[index] not in _GONE
            snapshots.append(unpack(fresh[index]) if here else page)
        return merge(snapshots), missing

    async def _others(self, question: Question, within: float) -> tuple[dict[int, bytes], Missing]:
        """Ask them; returns what they answered by their index, and who did not."""
        gone = [index for index, state in enumerate(self.fleet.states()) if state in _GONE]
        asked = [index for index in self.neighbours.others if index not in gone]
        hung = self.fleet.unresponsive()
        if not asked:
            return {}, hung
        packet = msgspec.msgpack.encode(question)
        told = await self.neighbours.ask(packet, asked, within=within)
        return told, sorted(hung + [index + 1 for index in asked if index not in told])

    def _read(self, told: dict[int, bytes], kind: type[T], missing: Missing) -> dict[int, T]:
        """Decode answers; one that cannot be read is none."""
        read = {}
        for index, answer in told.items():
            try:
                read[index] = msgspec.msgpack.decode(answer, type=kind)
            except msgspec.DecodeError as error:
                log.error("worker %d does not say what it was asked: %s", index + 1, error)
                missing.append(index + 1)
        return read
