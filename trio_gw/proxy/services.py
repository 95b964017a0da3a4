"""What all connections of one process share. Built at start, used by `connection`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from trio_gw.config.settings import Settings
    from trio_gw.guard.assertion import Assertions
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.pending import Pending
    from trio_gw.guard.schemes import Verifiers
    from trio_gw.guard.tls import ServerTls
    from trio_gw.proxy.builtin import Builtin
    from trio_gw.proxy.cors_policy import CorsPolicies
    from trio_gw.proxy.forwarding import Network
    from trio_gw.proxy.limiter_factory import LimiterFactory
    from trio_gw.proxy.memory import Memory
    from trio_gw.proxy.sessions import Session, Sessions
    from trio_gw.proxy.throttling import Throttling
    from trio_gw.proxy.tls_failures import TlsFailures
    from trio_gw.proxy.topic_policy import TopicPolicies
    from trio_gw.proxy.tracing_observer import TracingObserver
    from trio_gw.proxy.upstream import Upstream
    from trio_gw.relay.tunnel import Tunnels
    from trio_gw.relay.waits import Waits
    from trio_gw.routing.live import Live


class Observer(Protocol):
    """Is notified of every session, to count or report it. Never blocks or raises."""

    def opened(self, session: Session) -> None:
        """Called after the client has received its 101, before the lanes are used."""

    def ended(self, session: Session) -> None:
        """Called when the connection is over, also for sessions that were never relayed."""


class Services(NamedTuple):
    """The services that a connection needs. `trusted` lists the networks of trusted proxies."""

    settings: Settings
    live: Live
    guard: Verifiers
    blocklist: Blocklist
    tls: ServerTls
    builtin: Builtin
    sessions: Sessions
    upstream: Upstream
    waits: Waits
    tunnels: Tunnels
    cors: CorsPolicies
    topic_policies: TopicPolicies
    limiter_factory: LimiterFactory
    pending: Pending
    memory: Memory
    tls_failures: TlsFailures
    trusted: tuple[Network, ...] = ()
    assertions: Assertions | None = None
    observers: tuple[Observer, ...] = ()
    tracing_observer: TracingObserver | None = None
    throttling: Throttling | None = None
