"""Builds the parts of one process that serve connections, from the settings. Called by `build`."""

from __future__ import annotations

import time
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config import tiers
from trio_gw.guard.introspection import Introspection
from trio_gw.guard.pending import Pending
from trio_gw.guard.schemes import Verifiers
from trio_gw.guard.tokens import Tokens
from trio_gw.proxy import descriptors, forwarding
from trio_gw.proxy.balancer import Balancers
from trio_gw.proxy.builtin import Builtin, PublicKeys, RequestWindow, testkey_cors
from trio_gw.proxy.cors_policy import CorsPolicies
from trio_gw.proxy.descriptors import DescriptorBudget
from trio_gw.proxy.dial import Dialer
from trio_gw.proxy.limiter_factory import LimiterFactory
from trio_gw.proxy.memory import Memory, gauges
from trio_gw.proxy.resolver import Resolver
from trio_gw.proxy.services import Services
from trio_gw.proxy.sessions import Sessions
from trio_gw.proxy.tls_failures import TlsFailures
from trio_gw.proxy.topic_policy import TopicPolicies
from trio_gw.proxy.upstream import Upstream
from trio_gw.relay.tunnel import Tunnels

if TYPE_CHECKING:
    from trio_gw.app.applications import Applications
    from trio_gw.app.key_material import KeyMaterial
    from trio_gw.config.settings import Settings
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.revocations import Revocations
    from trio_gw.proxy.limiter_factory import SharedCounters
    from trio_gw.routing.live import Live
    from trio_gw.workers.shared_state import SharedState


class DataPlane(NamedTuple):
    """The services of connections, and the parts that other modules use."""

    services: Services
    balancers: Balancers
    dialer: Dialer
    introspection: Introspection
    budgets: DescriptorBudgets


class DescriptorBudgets(NamedTuple):
    """The budgets of file descriptors, one for each use."""

    clients: DescriptorBudget
    backends: DescriptorBudget
    operators: DescriptorBudget


def build_data_plane(
    settings: Settings,
    keys: KeyMaterial,
    live: Live,
    revocations: Revocations,
    blocklist: Blocklist,
    *,
    shared_state: SharedState,
    shared: SharedCounters | None,
    exclusive: bool,
    applications: Applications | None = None,
) -> DataPlane:
    """Build the parts that serve the routes of `live`. None of them runs yet.

    `exclusive` means that no other process accepts connections from the same sockets. Tokens are
    issued to `applications`, if there are any.
    """
    timeouts, health = settings.timeouts, settings.health
    balancers = Balancers(unhealthy_after=health.unhealthy, healthy_after=health.healthy)
    # Used even when it caches nothing: it has its own threads, so that a DNS server that does not
    # answer blocks none of the threads that read files.
    trio.socket.set_custom_hostname_resolver(Resolver(settings.dns.refresh))
    public = None
    if keys.assertions is not None:
        window = RequestWindow(settings.backend_jwt.jwks_limit, settings.backend_jwt.jwks_window)
        public = PublicKeys(keys.assertions.jwks, window)
    pages = testkey_cors(settings.cors)
    introspection = Introspection(settings.issuers)
    entitlements = (lambda: live.entitlements) if settings.control_plane.url else None
    registers = settings.registers_applications
    guard = Verifiers(
        Tokens(keys.ring),
        revocations,
        introspection or None,
        internal_key=_signer(settings, settings.internal_key.issuer),
        api_key=_signer(settings, settings.api_key.issuer),
        entitlements=(lambda: live.entitlements) if registers else entitlements,
        tenant=settings.control_plane.tenant,
        registered=settings.application_issuer if registers else "",
    )
    trusted = tuple(ip_network(network, strict=False) for network in settings.trusted_proxies)
    limiter_factory = LimiterFactory(settings, shared, shared_state.index, entitlements)
    pending = Pending(
        limiter_factory.caps,
        settings.limits.pending,
        settings.limits.pending_per_address,
        partial(forwarding.is_in, networks=trusted) if trusted else lambda address: False,
    )
    budgets = _divide_descriptors(pending)
    dialer = Dialer(keys.backend_anchors, budgets.backends)
    tunnels = Tunnels(exclusive=exclusive, bypass=settings.relay.bypass)
    sessions = Sessions(timeouts)
    most = tiers.size(settings.limits.memory)
    limits = gauges(most, shared_state.memory)
    memory = Memory(limits, sessions, pending, budgets.clients, tunnels.waiting)
    services = Services(
        settings,
        live=live,
        guard=guard,
        blocklist=blocklist,
        tls=keys.tls,
        builtin=Builtin(
            keys.testkeys,
            time.time,
            shared_state,
            public,
            pages,
            lambda: memory.short,
            None if applications is None else applications.endpoint,
        ),
        sessions=sessions,
        upstream=Upstream(
            dialer=dialer,
            balancers=balancers,
            timeouts=timeouts,
            retry=settings.retry,
            strict_subprotocols=settings.strict_subprotocols,
        ),
        waits=tunnels.waits,
        tunnels=tunnels,
        cors=CorsPolicies(settings.cors),
        topic_policies=TopicPolicies(settings, live),
        limiter_factory=limiter_factory,
        pending=pending,
        memory=memory,
        tls_failures=TlsFailures(),
        trusted=trusted,
        assertions=keys.assertions,
    )
    return DataPlane(services, balancers, dialer, introspection, budgets)


def _divide_descriptors(pending: Pending) -> DescriptorBudgets:
    """Divide the file descriptors. Idle clients are evicted to make room for others."""
    most = descriptors.current_ceilings()
    make = partial(pending.make_room, "descriptors")
    return DescriptorBudgets(
        # More than the backends, so that a request gets a response: 503, or that of /health.
        DescriptorBudget(most.clients, most.traffic, most.traffic, make, pending.evicted),
        DescriptorBudget(most.backends, most.backends, most.traffic, make),
        DescriptorBudget(most.operators, most.operators, most.operators),
    )


def _signer(settings: Settings, name: str) -> str:
    """Return the issuer of the entry with this name or issuer; empty if `name` is empty."""
    found = [one.issuer for one in settings.issuers if name and name in (one.name, one.issuer)]
    return found[0] if found else ""
