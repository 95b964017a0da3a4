"""The metrics of one process, and the exposition of all processes as OpenMetrics text.

Counting is an addition in a dict, without locks. Each process writes a snapshot of its numbers to a
page of shared memory once a second (`publish`). The process that serves a request adds the pages of
the others to its own current numbers. The counts of a process that died stay on its page
(`retire`), and the process that replaces it continues from there.
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
SERIES = 1000  # limit on the series of one metric
MAX_LABEL = 200  # characters
AT_A_TIME = 200  # series that are written without a checkpoint: some milliseconds
_END = b"# EOF\n"

Labels = tuple[str, ...]
Numbers = list[float]  # one number; for a histogram: counts of the buckets, total count, sum
Snapshot = dict[str, dict[Labels, Numbers]]

_PAIRS = dict[str, list[tuple[Labels, Numbers]]]


class Metrics:
    """The numbers of this process. `probes` are called before they are read.

    `common` returns numbers that every process knows; only the process that serves a request adds
    them.
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
        """Set a gauge, or a counter that another part of this process counts."""
        before = self._before.get(family.name)
        self._numbers(family, labels)[0] = value + (before.get(labels, 0) if before else 0)

    def clear(self, family: Family) -> None:
        """Remove all series of a gauge, before those that still exist are `put`."""
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
        """Return all current numbers."""
        for probe in self.probes:
            probe()
        return self._all

    def publish(self) -> None:
        """Publish the numbers to the other processes. Called once a second."""
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
        """Read what the other processes published last."""
        if self._pages is None:
            return {}
        others = (page for page in range(self._pages.count) if page != self._index)
        return {page: unpack(self._pages.read(page)) for page in others}

    def exposition(self) -> bytes:
        """Write the numbers of all processes (OpenMetrics text, `CONTENT_TYPE`)."""
        return b"".join(self._pieces())

    async def expose(self) -> bytes:
        """Like `exposition`, with checkpoints, because many series take long to write."""
        pieces = []
        for piece in self._pieces():
            pieces.append(piece)
            await trio.lowlevel.checkpoint()
        return b"".join(pieces)

    def _pieces(self) -> Iterator[bytes]:
        """Write the numbers of all processes, some series at a time.

        They are published first, so that no counter goes back if this process dies.
        """
        own = self.snapshot()
        self._show(own)
        merged = merge([own, *self.shown().values(), self.common()])
        for family in FAMILIES:
            held = list(merged.get(family.name, {}).items())
            yield _written(family, held[:AT_A_TIME])
            for at in range(AT_A_TIME, len(held), AT_A_TIME):
                piece = _written(family, held[at : at + AT_A_TIME])
                while piece.startswith(b"# "):  # its name and meaning again
                    piece = piece.partition(b"\n")[2]
                yield piece
        yield _END


def pack(snapshot: Snapshot) -> bytes:
    """Write a snapshot for a page."""
    pairs = {name: list(held.items()) for name, held in snapshot.items() if held}
    return zlib.compress(msgspec.msgpack.encode(pairs), 1)


def unpack(page: bytes) -> Snapshot:
    """Read a page. It is empty if it was never written."""
    if not page:
        return {}
    pairs = msgspec.msgpack.decode(zlib.decompress(page), type=_PAIRS)
    return {name: dict(held) for name, held in pairs.items()}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Add snapshots."""
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
    """Keep the counters of a process that has ended. Called by the supervisor.

    The page is written once, so no reader sees the counters twice, or not at all.
    """
    kinds = {family.name: family.kind for family in FAMILIES}
    counted = unpack(pages.read(index))
    pages.write(index, pack({name: counted[name] for name in counted if kinds[name] != "gauge"}))


class _Series:
    """Some series of a metric, in the form that the library requires."""

    def __init__(self, family: Family, held: Sequence[tuple[Labels, Numbers]]) -> None:
        self._family = family
        self._held = held

    def collect(self) -> Iterator[Metric]:
        """Yield the one metric."""
        yield _shown(self._family, self._held)


def _written(family: Family, held: Sequence[tuple[Labels, Numbers]]) -> bytes:
    """Write a metric with these series."""
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
