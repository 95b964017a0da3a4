"""Who is connected: one `Session` per accepted connection, from its first byte to its last.

Ending a session asks its lanes for a Close frame; the driver does the rest. Who ends one from
outside, and why, is the business of `sweeper`.
"""

from __future__ import annotations

import random
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.errors import CloseCode, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from trio_gw.config.settings import Timeouts
    from trio_gw.errors import Ending, Side
    from trio_gw.guard.caller import Caller
    from trio_gw.guard.clients import ClientPeer
    from trio_gw.guard.limits import Gates
    from trio_gw.relay.lane import Lane
    from trio_gw.relay.rate_limit import RateLimit
    from trio_gw.routing.route import Route
    from trio_gw.telemetry.tracing import Trace

END_RATE = 200  # sessions ended a second at least, so that few of them end at once


class RequestInfo(msgspec.Struct, frozen=True):
    """What a request says of itself, for whoever reports on it. Never a credential, never long."""

    vhost: str = ""
    authority: str = ""
    user_agent: str = ""
    forwarded_for: str = ""
    address: str = ""  # of the client, as far as the proxies in front can be trusted


_NOBODY = RequestInfo()
_FREE: Mapping[Side, RateLimit] = MappingProxyType({})


class Session:
    """One accepted connection, from its first byte to its last. Owned by `proxy.connection`."""

    __slots__ = (
        "_clock",
        "abort",
        "active_at",
        "admitted_at",
        "backend",
        "backend_path",
        "caller",
        "certificate",
        "code",
        "counted",
        "denied",
        "end_requested",
        "ending",
        "gates",
        "info",
        "limit",
        "octets",
        "opened_at",
        "peer",
        "phase",
        "phase_ends",
        "places",
        "publish",
        "rate_limits",
        "reported",
        "request",
        "request_id",
        "route",
        "started",
        "status",
        "subscribe",
        "throttled",
        "trace",
    )  # fmt: skip

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._clock = trio.lowlevel.current_clock()
        self.opened_at = self.active_at = self._clock.current_time()
        self.started = time.time()  # the same moment, in epoch seconds
        self.phase = Phase.HEAD
        self.phase_ends: list[
            tuple[Phase, float]
        ] = []  # phases left during the handshake, and when
        self.request = "-"  # method and path, never the query: it may hold a token
        # Until the request brings its own. It is no secret, so it may be guessed.
        self.request_id = f"{random.getrandbits(128):032x}"
        self.info = _NOBODY
        self.backend = ""  # scheme, host and port of the endpoint that was chosen
        self.backend_path = ""
        self.code = ""  # of the refusal
        self.denied = ""  # which kind of deny condition refused or ended this one, if one did
        self.limit = ""  # on connections, if one of those refused this one
        self.counted: list[int] = []  # what `stats_observer` has counted of its lanes
        self.reported: list[int] = []  # what `analytics_observer` has told of them
        # Messages that did not pass, by direction, level, tier and action, still to be reported.
        self.throttled: dict[tuple[str, str, str, str], int] | None = None
        self.abort: Callable[[str], None] | None = None  # ends a plain request, for a reason
        self.trace: Trace | None = None  # until the handshake is over
        self.status = 0
        self.octets = 0
        self.route: Route | None = None
        self.caller: Caller | None = None
        # Shown in the TLS handshake; from the authenticate phase on only if the API accepts it.
        self.certificate: ClientPeer | None = None
        self.admitted_at = 0.0  # epoch seconds of the moment the caller was let in
        self.end_requested: tuple[int, str] | None = None  # what `end` was called with
        self.ending: Ending | None = None
        self.publish: Lane | None = None
        self.subscribe: Lane | None = None
        self.places: tuple[int, ...] = ()  # among the connections there may be
        self.gates: Gates | None = None  # what decides whether a message may pass
        self.rate_limits: Mapping[Side, RateLimit] = _FREE  # where what passes is limited

    @property
    def holding(self) -> bool:
        """Tell whether messages wait until they may pass."""
        return any(rate_limit.paused for rate_limit in self.rate_limits.values())

    @property
    def dropped(self) -> int:
        """Count the messages that a limit let vanish."""
        return sum(rate_limit.policer.dropped for rate_limit in self.rate_limits.values())

    @property
    def age(self) -> float:
        """Tell how many seconds ago the connection was accepted."""
        return self._clock.current_time() - self.opened_at

    def enter(self, phase: Phase) -> None:
        """Note that the next phase begins."""
        self.phase_ends.append((self.phase, self._clock.current_time()))
        self.phase = phase

    def relay(self, publish: Lane, subscribe: Lane) -> None:
        """Note that bytes flow from here on, through these lanes."""
        self.enter(Phase.RELAY)
        self.publish, self.subscribe = publish, subscribe
        self.active_at = self.phase_ends[-1][1]
        if self.end_requested is not None:
            self._end(*self.end_requested)

    def end(self, code: int, reason: str, *, denied: str = "") -> None:
        """Ask both lanes for a Close at their next frame boundary, or as soon as there are lanes.

        The first call counts. `denied` is the kind of deny condition that is the reason.
        """
        if self.end_requested is None:
            self.end_requested, self.denied = (code, reason), denied
            self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        for lane in (self.publish, self.subscribe):
            if lane is not None:
                lane.end(code, reason)
        # At a shutdown an answer that is under way has what time there is.
        if self.abort is not None and code != CloseCode.RESTART:
            self.abort(reason)


class Sessions:
    """All sessions of this process."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._all: dict[int, Session] = {}
        self._last_left = trio.Event()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._all.values()))

    def open(self, peer: str) -> _SessionContext:
        """Register a connection for as long as the context lasts."""
        return _SessionContext(self, Session(peer))

    def _enter(self, session: Session) -> None:
        self._all[id(session)] = session

    def _leave(self, session: Session) -> None:
        del self._all[id(session)]
        if not self._all:
            self._last_left.set()

    async def end(
        self,
        sessions: Iterable[Session],
        code: CloseCode,
        reason: str,
        *,
        within: float | None = None,
        denied: str = "",
    ) -> None:
        """End these, spread so that their clients do not all return in one moment.

        Takes `within` seconds at most (default: `timeouts.drain`), and no time for a few.
        """
        chosen = list(sessions)
        random.shuffle(chosen)
        window = min(self._timeouts.drain if within is None else within, len(chosen) / END_RATE)
        for session in chosen:
            session.end(code, reason, denied=denied)
            await trio.sleep(window / len(chosen))

    async def drain(self) -> None:
        """End all sessions, spread so that the clients do not all return at once.

        Returns when the last one has left; the caller sets the limit.
        """
        await self.end(self, CloseCode.RESTART, "gateway is shutting down")
        while self._all:
            self._last_left = trio.Event()
            await self._last_left.wait()


class _SessionContext:
    """A session from its beginning to its end; a generator would take ten calls more."""

    __slots__ = ("_session", "_sessions")

    def __init__(self, sessions: Sessions, session: Session) -> None:
        self._sessions = sessions
        self._session = session

    def __enter__(self) -> Session:
        self._sessions._enter(self._session)
        return self._session

    def __exit__(self, *_: object) -> None:
        self._sessions._leave(self._session)
