"""The event stream of the portal: `GET /portal/events?topics=stats,apis,problems,endings`.

Each stream has a task of its own that looks once a second and writes what is new; what several
streams need is asked for once (`live_feed`). Nothing is queued for a reader: one that does not take
its events within a few seconds is dropped. spec: portal §3.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from starlette.responses import Response

from trio_gw.admin.json_responses import FaultError
from trio_gw.admin.operation_views import ending_row
from trio_gw.escaping import escape_json
from trio_gw.portal.operate.live_feed import LiveFeed
from trio_gw.portal.routes import Kind, PortalRoute, Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from trio_gw.portal.request import PortalRequest
    from trio_gw.portal.services import PortalServices

INTERVAL = 1.0  # seconds between two looks
COMMENT = 15.0  # seconds without an event, until a comment shows that the stream is alive
CHECK = 5.0  # seconds between two looks at the session
WARN = 120.0  # seconds before the end of the session
SLOW = 8.0  # seconds to take one event
RETRY = 2000  # milliseconds until a browser connects again

# The least role of each topic.
TOPICS = {
    "stats": Role.CONSUMER,
    "apis": Role.CONSUMER,
    "problems": Role.PUBLISHER,
    "endings": Role.ADMIN,
}
_SERIAL = re.compile(r"([0-9]{1,4})\.([0-9]{1,18})")

_feeds: list[tuple[PortalServices, LiveFeed]] = []  # one: a worker has one portal


async def events(request: PortalRequest) -> Response:
    """Open a stream."""
    topics = [one for one in request.query.get("topics", "stats").split(",") if one]
    for topic in topics:
        if topic not in TOPICS:
            raise FaultError(422, f'there is no topic "{topic[:40]}", but {", ".join(TOPICS)}')
        if request.caller.role < TOPICS[topic]:
            raise FaultError(403, f"the topic {topic} needs the role {TOPICS[topic].name.lower()}")
    given = request.http.headers.get("last-event-id") or request.query.get("after", "")
    return EventStream(request, frozenset(topics), serials(given))


def feed_of(services: PortalServices) -> LiveFeed:
    """Return the feed of this gateway; one per worker."""
    if not _feeds or _feeds[0][0] is not services:
        assert services.context.workers is not None
        _feeds[:] = [(services, LiveFeed(services.context.workers, services.context.aggregate))]
    return _feeds[0][1]


def serials(text: str) -> dict[int, int]:
    """Read the id of an event: the last serial of each worker, `1.17…-2.17…`."""
    return {int(worker): int(serial) for worker, serial in _SERIAL.findall(text[:2000])}


def event(name: str, data: object, number: str = "") -> bytes:
    """Write one event."""
    text = escape_json(msgspec.json.encode(data)).decode()
    head = f"id: {number}\n" if number else ""
    return f"{head}event: {name}\ndata: {text}\n\n".encode()


class EventStream(Response):
    """Writes events until the client leaves, is too slow, or its session ends."""

    media_type = "text/event-stream"

    def __init__(
        self, request: PortalRequest, topics: frozenset[str], after: Mapping[int, int]
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request = request
        self._topics = topics
        self._after = dict(after)
        self._feed = feed_of(request.services)
        self._seen: dict[str, Any] = {}
        self._written = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream (ASGI)."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)

        async def leave(scope: trio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave, nursery.cancel_scope)
            await self._run(send)
            nursery.cancel_scope.cancel()

    async def _run(self, send: Send) -> None:
        async def write(data: bytes) -> None:
            self._written = trio.current_time()
            with trio.move_on_after(SLOW) as deadline:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if deadline.cancelled_caught:
                raise _TooSlowError

        try:
            await write(f"retry: {RETRY}\n\n".encode())
            due = check = trio.current_time()
            while True:
                now = trio.current_time()
                if now >= check:
                    check = now + CHECK
                    if not await self._session(write):
                        return
                await self._look(write)
                if trio.current_time() - self._written >= COMMENT:
                    await write(b": alive\n\n")
                due = max(due + INTERVAL, trio.current_time() + INTERVAL / 4)
                await trio.sleep_until(due)
        except _TooSlowError:
            return

    async def _session(self, write: Callable[[bytes], Awaitable[None]]) -> bool:
        """Tell that the session ends soon; returns False if it has ended."""
        request = self._request
        caller, _ = await request.services.sessions.caller(request.http)
        if caller.role < request.caller.role:
            await write(event("session", {"expires": None}))
            return False
        # The cookie of this request: another request may have renewed the session since.
        left = request.caller.expires - time.time()
        if 0 < left < WARN and "session" not in self._seen:
            self._seen["session"] = True
            await write(event("session", {"expires": request.caller.expires}))
        return True

    async def _look(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        found = await self._feed.stats() if "stats" in self._topics else None
        if found is not None and self._changed("at", found["at"]):
            await write(event("stats", self._stats(found)))
        if "apis" in self._topics:
            table = self._request.services.context.live.table.digest
            if self._changed("table", table):
                await write(event("apis", {"digest": table}))
        if "problems" in self._topics:
            problems = await self._feed.problems()
            if self._changed("problems", problems):
                await write(event("problems", problems))
        if "endings" in self._topics:
            rows, lost, self._after = await self._feed.endings(self._after)
            if rows or "endings" not in self._seen:
                self._seen["endings"] = True
                number = "-".join(f"{worker}.{last}" for worker, last in self._after.items())
                listed = [ending_row(worker, row) for worker, row in rows]
                await write(event("endings", {"rows": listed, "lost": lost}, number))

    def _changed(self, name: str, value: object) -> bool:
        before, self._seen[name] = self._seen.get(name), value
        return before != value

    def _stats(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return what this caller may see; of the APIs what has changed for this stream."""
        totals, at = found["totals"], found["at"]
        if self._request.caller.role < Role.PUBLISHER:
            shown = {name: totals[name] for name in ("open", "messages_in", "messages_out")}
            return {"at": at, "totals": shown}
        before: dict[str, list[float]] = self._seen.get("apis", {})
        apis = {name: row for name, row in found["apis"].items() if before.get(name) != row}
        apis.update({name: [0, 0, 0] for name in before.keys() - found["apis"].keys()})
        self._seen["apis"] = found["apis"]
        return {"at": at, "totals": totals, "apis": apis}


class _TooSlowError(Exception):
    """The reader does not take its events."""


ROUTES = (PortalRoute("GET", "/events", Role.CONSUMER, events, Kind.STREAM),)
