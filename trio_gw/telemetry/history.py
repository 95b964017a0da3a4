"""What one process did in the last minutes and hours: the numbers behind charts. No clock.

Rings of fixed size: totals in steps of 1 s, 10 s and 1 min, and for each API that has connections
or traffic in steps of 10 s. Steps are aligned to the epoch, so the rings of several processes can
be added. A restart begins anew.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Span = Literal["5m", "1h", "24h"]

# Columns of an API; those of the totals begin with the same.
COLUMNS = ("open", "opened", "refused", "throttled",
           "messages_in", "messages_out", "bytes_in", "bytes_out")  # fmt: skip
TOTALS = (*COLUMNS, "closed", "lag", "cpu", "memory")
OPEN, OPENED, REFUSED, THROTTLED, MESSAGES, BYTES = 0, 1, 2, 3, 4, 6
_CLOSED, _LAG, _CPU, _MEMORY = 8, 9, 10, 11
# All other columns are counts: they are added up over time.
LEVELS = ("open", "memory")  # the last value of a step stays
PEAKS = ("lag",)  # the largest value of a step stays

SPANS: dict[Span, tuple[int, int]] = {"5m": (1, 300), "1h": (10, 360), "24h": (60, 1440)}
API_STEP, API_STEPS = 10, 180  # half an hour
AT_A_TIME = 256  # rings that get their row in one second
MAX_APIS = 2000  # APIs with a ring; the one that was quiet for longest goes first

ApiName = tuple[str, str]  # name and version
Rows = list[list[float | None]]


class Series(msgspec.Struct):
    """Columns of numbers in steps of `step` seconds; `last` is the number of the last step.

    The step with the number n begins n * `step` seconds after the epoch. None: not measured.
    """

    step: int
    last: int
    columns: dict[str, list[float | None]]


class _Ring:
    """The last `length` rows of `width` numbers."""

    __slots__ = ("_empty", "_length", "_rows", "_width", "last", "step")

    def __init__(self, step: int, length: int, width: int, *, empty: float, kind: str) -> None:
        self.step = step
        self.last = -1
        self._length, self._width = length, width
        self._empty = array(kind, [empty] * width)
        self._rows = self._empty * length

    def put(self, number: int, row: Sequence[float]) -> None:
        """Append the row of a step; steps in between, if any, were not measured."""
        if number <= self.last:
            return  # the clock was set back
        first = self.last + 1 if self.last >= 0 else number
        for missed in range(max(first, number - self._length + 1), number):
            self._set(missed, self._empty)
        self._set(number, array(self._rows.typecode, row))
        self.last = number

    def spread(self, places: slice, count: int) -> None:
        """Divide the numbers of the last step evenly among the last `count` steps."""
        if count <= 1 or self.last < 0:
            return
        at = self.last % self._length * self._width
        for place in range(*places.indices(self._width)):
            share = self._rows[at + place] / count
            for number in range(self.last - min(count, self._length) + 1, self.last + 1):
                self._rows[number % self._length * self._width + place] = share

    def _set(self, number: int, row: array[float]) -> None:
        at = number % self._length * self._width
        self._rows[at : at + self._width] = row

    def read(self, last: int, count: int) -> Rows:
        """Return the rows of `count` steps up to `last`, as columns."""
        columns: Rows = [[] for _ in range(self._width)]
        for number in range(last - count + 1, last + 1):
            held = self.last - self._length < number <= self.last
            at = number % self._length * self._width
            row = self._rows[at : at + self._width] if held else self._empty
            for column, value in zip(columns, row, strict=True):
                column.append(None if math.isnan(value) else value)
        return columns


class History:
    """The history of one process. `add` counts, `tick` closes a second."""

    def __init__(self) -> None:
        self._totals = {
            span: _Ring(*of, len(TOTALS), empty=math.nan, kind="d") for span, of in SPANS.items()
        }
        self._apis: dict[ApiName, _Ring] = {}
        self._second = [0.0] * len(TOTALS)
        self._sums: dict[Span, list[float]] = {"1h": list(self._second), "24h": list(self._second)}
        self._counts: dict[ApiName, list[float]] = {}  # in this step of the APIs
        self._pending: list[tuple[ApiName, list[float]]] = []  # rows of the last step
        self._step = 0
        self._rates: dict[ApiName, list[float]] = {}  # in the step before
        self._open: dict[ApiName, int] = {}
        self._cpu = 0.0
        self._uncollected = 0  # seconds
        self.since = 0.0  # epoch seconds of the first second

    def add(self, api: ApiName, place: int, amount: float) -> None:
        """Count for an API, in one of the columns."""
        self._counts_of(api)[place] += amount
        self._second[place] += amount

    def _counts_of(self, api: ApiName) -> list[float]:
        counts = self._counts.get(api)
        if counts is None:
            counts = self._counts[api] = [0.0] * len(COLUMNS)
        return counts

    def add_topic(self, api: ApiName, opened: int, closed: int, traffic: Sequence[int]) -> None:
        """Count what happened on a topic; `traffic` is messages in, out, and bytes in, out."""
        counts, second = self._counts_of(api), self._second
        if opened or closed:
            counts[OPENED] += opened
            second[OPENED] += opened
            second[_CLOSED] += closed
            left = self._open.get(api, 0) + opened - closed
            if left > 0:
                self._open[api] = left
            else:
                self._open.pop(api, None)
        place = MESSAGES
        for amount in traffic:
            counts[place] += amount
            second[place] += amount
            place += 1

    def tick(
        self, now: float, *, lag: float, cpu: float, memory: float, collected: bool = True
    ) -> None:
        """End a second; `now` in epoch seconds, `cpu` in seconds of this process so far.

        If traffic was not `collected`, it comes with a later second, and is spread evenly then.
        """
        number = int(now) - 1
        self.since = self.since or now
        second = self._second
        second[OPEN] = sum(self._open.values())
        second[_LAG], second[_MEMORY] = lag, memory
        second[_CPU] = max(0.0, cpu - self._cpu) if self._cpu else 0.0
        self._cpu = cpu
        fine = self._totals["5m"]
        fine.put(number, second)
        if collected:
            fine.spread(slice(MESSAGES, _CLOSED), 1 + self._uncollected)
        self._uncollected = 0 if collected else self._uncollected + 1
        for span, sums in self._sums.items():
            peak = max(sums[_LAG], lag)
            for place, value in enumerate(second):
                sums[place] += value
            sums[OPEN], sums[_LAG], sums[_MEMORY] = second[OPEN], peak, memory
            step = SPANS[span][0]
            if (number + 1) // step != number // step:
                self._totals[span].put(number // step, sums)
                sums[:] = [0.0] * len(sums)
        self._second = [0.0] * len(TOTALS)
        if (number + 1) // API_STEP != number // API_STEP:
            self._end_step(number // API_STEP)
        self._keep(AT_A_TIME)

    def _end_step(self, number: int) -> None:
        """End a step of the APIs."""
        counts, self._counts = self._counts, {}
        for api in self._open.keys() - counts.keys():
            counts[api] = [0.0] * len(COLUMNS)
        for api, held in self._open.items():
            counts[api][OPEN] = held
        self._keep(len(self._pending))
        self._pending = list(counts.items())
        self._step = number
        self._rates = counts

    def _keep(self, most: int) -> None:
        """Put the rows of the last step into their rings: some each second, not all at once."""
        now, self._pending = self._pending[:most], self._pending[most:]
        for api, row in now:
            ring = self._apis.pop(api, None)
            if ring is None:
                ring = _Ring(API_STEP, API_STEPS, len(COLUMNS), empty=0.0, kind="f")
                if len(self._apis) >= MAX_APIS:
                    del self._apis[next(iter(self._apis))]
            self._apis[api] = ring  # at the end: the one that was quiet for longest is first
            ring.put(self._step, row)

    # -- reading ---------------------------------------------------------------------------

    def totals(self, span: Span, count: int = 0) -> Series:
        """Return the last `count` steps of a span, by default all."""
        ring = self._totals[span]
        columns = ring.read(ring.last, min(count or SPANS[span][1], SPANS[span][1]))
        return Series(ring.step, ring.last, dict(zip(TOTALS, columns, strict=True)))

    def of(self, api: ApiName, count: int = 0) -> Series:
        """Return the last steps of an API; they are zero before its first traffic."""
        self._keep(len(self._pending))
        last = self._totals["1h"].last
        ring = self._apis.get(api) or _Ring(API_STEP, API_STEPS, len(COLUMNS), empty=0.0, kind="f")
        columns = ring.read(last, min(count or API_STEPS, API_STEPS))
        return Series(API_STEP, last, dict(zip(COLUMNS, columns, strict=True)))

    def traffic(self) -> dict[str, list[float]]:
        """Return open connections, messages and bytes in the last step, of each API with any."""
        found: dict[str, list[float]] = {}
        for api in self._open.keys() | self._rates.keys():
            row = self._rates.get(api)
            sums = [0.0, 0.0, 0.0, 0.0] if row is None else row[MESSAGES:]
            messages, octets = sums[0] + sums[1], sums[2] + sums[3]
            found[":".join(api)] = [self._open.get(api, 0), messages, octets]
        return found


def merge(parts: Iterable[Series]) -> Series | None:
    """Add the series of several processes, up to the last step that all have ended."""
    found = [part for part in parts if part.last >= 0]
    if not found:
        return None
    newest = max(part.last for part in found)
    # A process that hangs does not hold the others up.
    found = [part for part in found if part.last >= newest - 2]
    last = min(part.last for part in found)
    merged: dict[str, list[float | None]] = {}
    for part in found:
        for name, values in part.columns.items():
            kept = values[: len(values) - (part.last - last)]
            if name in LEVELS:
                kept = _held(kept)
            merged[name] = (
                _added(merged[name], kept, max if name in PEAKS else sum)
                if name in merged
                else kept
            )
    return Series(found[0].step, last, merged)


def _held(column: list[float | None]) -> list[float | None]:
    """Fill gaps with the value before: a process that was busy has not lost its connections."""
    before: float | None = None
    result = []
    for value in column:
        before = value if value is not None else before
        result.append(before)
    return result


def _added(
    one: list[float | None],
    other: list[float | None],
    how: Callable[[list[float]], float],
) -> list[float | None]:
    """Add two columns that end at the same step."""
    length = max(len(one), len(other))
    empty: list[float | None] = [None]
    rows = zip(*(empty * (length - len(each)) + each for each in (one, other)), strict=True)
    result: list[float | None] = []
    for row in rows:
        held = [value for value in row if value is not None]
        result.append(how(held) if held else None)
    return result
