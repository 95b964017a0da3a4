"""The last connections that ended and the last that were refused, in memory, for operators.

An observer: one tuple per connection in a ring of fixed size. It refers to no session, so it keeps
nothing alive but short texts.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.proxy.access_log import ending_of
from trio_gw.telemetry.logs import cut

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.proxy.sessions import Session

KEPT = 500  # endings, and as many refusals
MAX_TEXT = 200  # characters


class EndingRow(msgspec.Struct, frozen=True, array_like=True):
    """One connection that is over. `code` is a close code, or 0 if it never was a WebSocket.

    `serial` grows from ending to ending in one worker, also across its restarts.
    """

    serial: int
    at: float  # epoch seconds
    id: str
    peer: str
    address: str
    request: str
    api: str
    version: str
    topic: str
    subject: str
    application: str
    phase: str
    status: int
    error: str
    by: str
    code: int
    reason: str
    seconds: float
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int


class Endings(NamedTuple):
    """Rows, and how many between the first of them and the serial that was asked for are lost."""

    rows: list[EndingRow]
    lost: int


class EndingLog:
    """An observer that keeps how connections ended."""

    def __init__(self, kept: int = KEPT) -> None:
        self._closed: deque[tuple[object, ...]] = deque(maxlen=kept)
        self._refused: deque[tuple[object, ...]] = deque(maxlen=kept)
        # Greater than that of an earlier process with this number, however busy it was.
        self._first = self.serial = int(time.time() * 1e6)

    def opened(self, session: Session) -> None:
        """Nothing to do."""

    def ended(self, session: Session) -> None:
        """Keep how a session ended; a port probe or a health check is not kept."""
        route, publish, ending = session.route, session.publish, ending_of(session)
        if (route is None and ending is None) or session.request == "-":
            return
        self.serial = serial = self.serial + 1
        caller, subscribe = session.caller, session.subscribe
        if route is None:
            api = version = topic = ""
        else:
            api, version, topic = route.api.name, route.api.version, route.topic.name
        if caller is None or caller.anonymous:
            subject = application = ""
        else:
            subject, application = caller.subject, caller.application.name
        request, by, code, reason = session.request, "", 0, ""
        if ending is not None:
            by, code, reason = ending.by, ending.code, ending.reason
        if len(request) + len(subject) + len(application) + len(reason) > MAX_TEXT:
            texts = (cut(text, MAX_TEXT) for text in (request, subject, application, reason))
            request, subject, application, reason = texts
        counts: tuple[int, ...] = (0, 0, 0, 0)
        ring = self._refused
        if publish is not None and subscribe is not None:
            counts = publish.messages, subscribe.messages, publish.octets, subscribe.octets
            ring = self._closed
        ring.append(
            (
                *(serial, time.time(), session.request_id, session.peer, session.info.address),
                *(request, api, version, topic, subject, application, session.phase),
                *(session.status, session.code, by, code, reason, session.age, *counts),
            )
        )

    def after(self, serial: int = 0) -> Endings:
        """Return what ended after this serial; 0 for all that is kept."""
        rows = sorted(_after(self._closed, serial) + _after(self._refused, serial))
        if not serial:
            return Endings([EndingRow(*row) for row in rows], 0)  # type: ignore[arg-type]
        passed = self.serial - max(serial, self._first)
        return Endings([EndingRow(*row) for row in rows], passed - len(rows))  # type: ignore[arg-type]


def _after(ring: Iterable[tuple[object, ...]], serial: int) -> list[tuple[object, ...]]:
    return [row for row in ring if row[0] > serial]  # type: ignore[operator]
