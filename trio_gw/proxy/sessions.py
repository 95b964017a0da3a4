"""One `Session` per accepted connection, from its first byte to its last.

`Session.end` asks the lanes to send a Close frame; the relay driver does the rest. `sweeper`
decides which sessions to end, and why.
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
    from trio_gw.guard.caps import HeldConnection
    from trio_gw.guard.clients import ClientPeer
    from trio_gw.guard.rate_limits import SessionLimiters
    from trio_gw.proxy.session_throttle import Throttle
    from trio_gw.relay.lane import Lane
    from trio_gw.relay.rate_limit import RateLimit
    from trio_gw.routing.route import Route

END_RATE = 200  # sessions to end per second, at least; a few end at once


class RequestInfo(msgspec.Struct, frozen=True):
    """Facts about a request for logs and reports. No credentials; every text is bounded."""

    vhost: str = ""
    authority: str = ""
    user_agent: str = ""
    forwarded_for: str = ""
    address: str = ""  # of the client; from X-Forwarded-For if the proxy is trusted


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
        "caps_taken",
        "certificate",
        "code",
        "denied",
        "end_requested",
        "ending",
        "info",
        "limit",
        "limiters",
        "octets",
        "opened_at",
        "peer",
        "phase",
        "phase_ends",
        "publish",
        "rate_limits",
        "request",
        "request_id",
        "route",
        "started",
        "status",
        "subscribe",
        "throttle",
    )

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._clock = trio.lowlevel.current_clock()
        self.opened_at = self.active_at = self._clock.current_time()
        self.started = time.time()  # the same moment, in epoch seconds
        self.phase = Phase.HEAD
        # Phases of the handshake that are over, with the time of their end.
        self.phase_ends: list[tuple[Phase, float]] = []
        self.request = "-"  # method and path; not the query, which may contain a token
        # Replaced if the request has its own. It is not a secret, so it may be predictable.
        self.request_id = f"{random.getrandbits(128):032x}"
        self.info = _NOBODY
        self.backend = ""  # scheme, host and port of the chosen endpoint
        self.backend_path = ""
        self.code = ""  # of the refusal
        self.denied = ""  # kind of the deny condition that refused or ended this session
        self.limit = ""  # name of the cap on connections that refused this session
        self.abort: Callable[[str], None] | None = None  # ends a plain HTTP request
        self.status = 0
        self.octets = 0
        self.route: Route | None = None
        self.caller: Caller | None = None
        # From the TLS handshake; after the authenticate phase only if the API accepts it.
        self.certificate: ClientPeer | None = None
        self.admitted_at = 0.0  # epoch seconds when the caller was authenticated
        self.end_requested: tuple[int, str] | None = None  # arguments of `end`
        self.ending: Ending | None = None
        self.publish: Lane | None = None
        self.subscribe: Lane | None = None
        self.caps_taken: tuple[HeldConnection, ...] = ()  # returned by `LimiterFactory.take_caps`
        self.limiters: SessionLimiters | None = None  # decide whether a message may pass
        self.rate_limits: Mapping[Side, RateLimit] = _FREE  # the directions that are limited
        self.throttle: Throttle | None = None  # only with a Traffic Manager

    @property
    def holding(self) -> bool:
        """Whether messages are paused by a rate limit."""
        return any(rate_limit.paused for rate_limit in self.rate_limits.values())

    @property
    def dropped(self) -> int:
        """Number of messages that a rate limit has dropped."""
        return sum(rate_limit.policer.dropped for rate_limit in self.rate_limits.values())

    @property
    def age(self) -> float:
        """Seconds since the connection was accepted."""
        return self._clock.current_time() - self.opened_at

    def enter(self, phase: Phase) -> None:
        """Enter the next phase."""
        self.phase_ends.append((self.phase, self._clock.current_time()))
        self.phase = phase

    def relay(self, publish: Lane, subscribe: Lane) -> None:
        """Start to relay bytes through these lanes."""
        self.enter(Phase.RELAY)
        self.publish, self.subscribe = publish, subscribe
        self.active_at = self.phase_ends[-1][1]
        if self.end_requested is not None:
            self._end(*self.end_requested)

    def end(self, code: int, reason: str, *, denied: str = "") -> None:
        """Ask both lanes to send a Close at the next frame boundary, or as soon as the lanes exist.

        Only the first call has an effect. `denied` is the kind of deny condition that caused the
        end.
        """
        if self.end_requested is None:
            self.end_requested, self.denied = (code, reason), denied
            self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        for lane in (self.publish, self.subscribe):
            if lane is not None:
                lane.end(code, reason)
        # At shutdown a response in progress may use the time that is left.
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
        """Register a connection while the context is active."""
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
        code: int,
        reason: str,
        *,
        within: float | None = None,
        denied: str = "",
    ) -> None:
        """End these sessions, spread over time so that their clients do not all reconnect at once.

        Takes at most `within` seconds (default: `timeouts.drain`); a few sessions end immediately.
        """
        chosen = list(sessions)
        random.shuffle(chosen)
        window = min(self._timeouts.drain if within is None else within, len(chosen) / END_RATE)
        start, ended = trio.current_time(), 0
        while ended < len(chosen):
            # All that are due by now, so that a busy event loop does not delay the others.
            passed = (trio.current_time() - start) / window if window else 1.0
            due = max(ended + 1, min(len(chosen), int(passed * len(chosen))))
            for session in chosen[ended:due]:
                session.end(code, reason, denied=denied)
            ended = due
            await trio.sleep_until(start + window * ended / len(chosen))

    async def drain(self) -> None:
        """End all sessions, spread over time so that the clients do not all reconnect at once.

        Returns when the last session has ended; the caller sets the time limit.
        """
        await self.end(self, CloseCode.RESTART, "gateway is shutting down")
        while self._all:
            self._last_left = trio.Event()
            await self._last_left.wait()


class BackgroundEnds:
    """Ends sessions in a nursery, spread over `within` seconds; each session once."""

    def __init__(self, sessions: Sessions, nursery: trio.Nursery, within: float) -> None:
        self._sessions = sessions
        self._nursery = nursery
        self._within = within
        self._chosen: set[Session] = set()

    def __contains__(self, session: Session) -> bool:
        return session.end_requested is not None or session in self._chosen

    def end(
        self, sessions: Iterable[Session], code: CloseCode, reason: str, *, denied: str = ""
    ) -> None:
        """Start to end these sessions; do not wait."""
        chosen = [session for session in sessions if session not in self]
        self._chosen.update(chosen)
        self._nursery.start_soon(self._end, chosen, code, reason, denied)

    async def _end(self, chosen: list[Session], code: CloseCode, reason: str, denied: str) -> None:
        try:
            await self._sessions.end(chosen, code, reason, within=self._within, denied=denied)
        finally:
            self._chosen.difference_update(chosen)


class _SessionContext:
    """Context manager of one session; a generator-based one would cost ten more calls."""

    __slots__ = ("_session", "_sessions")

    def __init__(self, sessions: Sessions, session: Session) -> None:
        self._sessions = sessions
        self._session = session

    def __enter__(self) -> Session:
        self._sessions._enter(self._session)
        return self._session

    def __exit__(self, *_: object) -> None:
        self._sessions._leave(self._session)
