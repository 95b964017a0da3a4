"""The numbers of one process, and the exposition of those of all processes as OpenMetrics text.

Counting is addition in a dict: no locks, no waiting. Each process shows a snapshot of its numbers
on a page of shared memory once a second (`publish`); the one that is asked adds up the pages of
the others and its own numbers of this very moment. What a process that has died had counted stays
on its page (`retire`), and the one that takes its place goes on from there.
"""

from __future__ import annotations

import logging
import zlib
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import msgspec
import trio
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.utils import floatToGoString

from trio_gw.escaping import escape
from trio_gw.telemetry.families import FAMILIES, FIXED, OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from trio_gw.supervision.shared_memory import Pages
    from trio_gw.telemetry.families import Family

log = logging.getLogger("trio_gw.metrics")

CONTENT_TYPE = CONTENT_TYPE_LATEST
SERIES = 1000  # of one metric
MAX_LABEL = 200  # characters
AT_A_TIME = 200  # series that are written before others may work: some milliseconds
_END = b"# EOF\n"

Labels = tuple[str, ...]
Numbers = list[float]  # one; of a histogram the counts of its buckets, of all, and the sum
Snapshot = dict[str, dict[Labels, Numbers]]

_PAIRS = dict[str, list[tuple[Labels, Numbers]]]


class Metrics:
    """The numbers of this process. `probes` are called before they are read.

    What `common` returns is known to every process alike: it is told once, by who is asked.
    """

    def __init__(self, pages: Pages | None = None, index: int = 0, *, series: int = SERIES) -> None:
        self.worker = str(index + 1)
        self.probes: list[Callable[[], None]] = []
        self.common: Callable[[], Snapshot] = dict
        self._pages = pages
        self._index = index
        self._series = series
        self._all: Snapshot = {family.name: {} for family in FAMILIES}
        before = {} if pages is None else unpack(pages.read(index))
        for name, held in before.items():
            self._all[name].update(held)
        self._before = {name: {of: held[of][0] for of in held} for name, held in before.items()}
        self._too_big = False

    def add(self, family: Family, labels: Labels = (), amount: float = 1) -> None:
        """Add to a counter, or to a gauge."""
        self._numbers(family, labels)[0] += amount

    def put(self, family: Family, labels: Labels, value: float) -> None:
        """Set a gauge, or a counter that is kept elsewhere, since this process began."""
        before = self._before.get(family.name)
        self._numbers(family, labels)[0] = value + (before.get(labels, 0) if before else 0)

    def clear(self, family: Family) -> None:
        """Forget all series of a gauge, before those that still exist are `put`."""
        self._all[family.name].clear()

    def observe(self, family: Family, labels: Labels, seconds: float) -> None:
        """Add a value to a histogram."""
        numbers = self._numbers(family, labels)
        if (place := bisect_left(family.buckets, seconds)) < len(family.buckets):
            numbers[place] += 1
        numbers[-2] += 1
        numbers[-1] += seconds

    def observe_all(self, family: Family, labels: Labels, values: list[float]) -> None:
        """Add many values to a histogram, in any order; sorts them."""
        numbers = self._numbers(family, labels)
        values.sort()
        below = 0
        for place, bound in enumerate(family.buckets):
            upto = bisect_right(values, bound, below)
            numbers[place] += upto - below
            below = upto
        numbers[-2] += len(values)
        numbers[-1] += sum(values)

    def _numbers(self, family: Family, labels: Labels) -> Numbers:
        held = self._all[family.name]
        numbers = held.get(labels)
        if numbers is not None:
            return numbers
        assert len(labels) == len(family.labels), family.name
        if len(held) >= self._series:
            labels = tuple(
                value if name in FIXED else OTHER
                for name, value in zip(family.labels, labels, strict=True)
            )
        return held.setdefault(labels, [0.0] * (len(family.buckets) + 2 if family.buckets else 1))

    def snapshot(self) -> Snapshot:
        """Read all numbers, as of now."""
        for probe in self.probes:
            probe()
        return self._all

    def publish(self) -> None:
        """Show the numbers to the other processes; called once a second."""
        if self._pages is not None:
            self._show(self.snapshot())

    def _show(self, snapshot: Snapshot) -> None:
        if self._pages is None:
            return
        page = pack(snapshot)
        if len(page) <= self._pages.size:
            self._pages.write(self._index, page)
        elif not self._too_big:
            self._too_big = True
            log.error("there are too many series to share; set metrics.series lower")

    def shown(self) -> dict[int, Snapshot]:
        """Read what the other processes showed last."""
        if self._pages is None:
            return {}
        others = (page for page in range(self._pages.count) if page != self._index)
        return {page: unpack(self._pages.read(page)) for page in others}

    def exposition(self) -> bytes:
        """Write the numbers of all processes (OpenMetrics text, `CONTENT_TYPE`)."""
        return b"".join(self._pieces())

    async def tell(self) -> bytes:
        """Do so little by little, for where there are many series others would have to wait."""
        pieces = []
        for piece in self._pieces():
            pieces.append(piece)
            await trio.lowlevel.checkpoint()
        return b"".join(pieces)

    def _pieces(self) -> Iterator[bytes]:
        """Write what all processes counted up to now, some series at a time.

        What is told once may not be taken back when this process dies: it is shown first.
        """
        own = self.snapshot()
        self._show(own)
        merged = merge([own, *self.shown().values(), self.common()])
        for family in FAMILIES:
            held = list(merged.get(family.name, {}).items())
            yield _written(family, held[:AT_A_TIME])
            for at in range(AT_A_TIME, len(held), AT_A_TIME):
                piece = _written(family, held[at : at + AT_A_TIME])
                while piece.startswith(b"# "):  # its name and meaning once more
                    piece = piece.partition(b"\n")[2]
                yield piece
        yield _END


def pack(snapshot: Snapshot) -> bytes:
    """Write a snapshot for a page."""
    pairs = {name: list(held.items()) for name, held in snapshot.items() if held}
    return zlib.compress(msgspec.msgpack.encode(pairs), 1)


def unpack(page: bytes) -> Snapshot:
    """Read a page; one that nobody has written to yet is empty."""
    if not page:
        return {}
    pairs = msgspec.msgpack.decode(zlib.decompress(page), type=_PAIRS)
    return {name: dict(held) for name, held in pairs.items()}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Add up snapshots."""
    merged: Snapshot = {}
    for snapshot in snapshots:
        for name, held in snapshot.items():
            into = merged.setdefault(name, {})
            for labels, numbers in held.items():
                before = into.get(labels)
                into[labels] = (
                    list(numbers)
                    if before is None
                    else [one + other for one, other in zip(before, numbers, strict=True)]
                )
    return merged


def retire(pages: Pages, index: int) -> None:
    """Keep of a process that has ended what it had counted; for the supervisor.

    One page, written once: nobody ever meets that twice, or not at all.
    """
    kinds = {family.name: family.kind for family in FAMILIES}
    counted = unpack(pages.read(index))
    pages.write(index, pack({name: counted[name] for name in counted if kinds[name] != "gauge"}))


class _Series:
    """What the library asks for: some series of a metric."""

    def __init__(self, family: Family, held: Sequence[tuple[Labels, Numbers]]) -> None:
        self._family = family
        self._held = held

    def collect(self) -> Iterator[Metric]:
        """Yield the one metric."""
        yield _shown(self._family, self._held)


def _written(family: Family, held: Sequence[tuple[Labels, Numbers]]) -> bytes:
    """Write a metric with these of its series."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Series(family, held))
    text: bytes = generate_latest(registry)
    return text.removesuffix(_END)


def _shown(family: Family, held: Sequence[tuple[Labels, Numbers]]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(
            family.name, family.help, labels=family.labels, unit=family.unit
        )
        for labels, numbers in held:
            total, buckets = 0.0, []
            for bound, count in zip(family.buckets, numbers, strict=False):
                total += count
                buckets.append((floatToGoString(bound), total))
            buckets.append(("+Inf", numbers[-2]))
            histogram.add_metric(_short(labels), buckets, numbers[-1])
        return histogram
    made: CounterMetricFamily | GaugeMetricFamily
    if family.kind == "counter":
        made = CounterMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
    else:
        made = GaugeMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
    for labels, numbers in held:
        made.add_metric(_short(labels), numbers[0])
    return made


def _short(labels: Labels) -> list[str]:
    return [escape(label[:MAX_LABEL]) for label in labels]
