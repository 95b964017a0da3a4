"""Runs one gateway process: starts the tasks of its parts, accepts connections, drains them.

`run` is called by `trio-gw run`, and by tests in a nursery of their own. It reports that it has
started when the gateway is ready. `build` makes the parts.
"""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.app.build import TRIAL, Parts, build
from trio_gw.app.cache_folder import cache_folder
from trio_gw.app.key_material import trust_clients
from trio_gw.app.listeners import (
    TRAFFIC,
    Addresses,
    addresses_of,
    handler_of,
    log_addresses,
    metrics_names,
)
from trio_gw.feed.folder_source import folder_source
from trio_gw.feed.git_source import either
from trio_gw.feed.origins import APIS, DEPLOYED, GIT
from trio_gw.guard import blocklist as conditions
from trio_gw.guard.denials import declared
from trio_gw.proxy.blocked_apis import end_blocked
from trio_gw.proxy.health import watch
from trio_gw.proxy.listener import accept_all, contain_errors
from trio_gw.proxy.scrape import metrics_handler
from trio_gw.proxy.sweeper import Sweeper
from trio_gw.supervision.background import SHORT, BackgroundTasks, TaskName
from trio_gw.telemetry.metrics import CONTENT_TYPE
from trio_gw.watch.files import keep_loaded
from trio_gw.workers.shared_state import WorkerState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio_gw.app.worker_context import WorkerContext
    from trio_gw.config.api import Endpoint
    from trio_gw.config.settings import Settings
    from trio_gw.feed.catalog import Catalog
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.operators import Operators
    from trio_gw.guard.testkey import TestKeys
    from trio_gw.proxy.sessions import Sessions
    from trio_gw.routing.live import Live
    from trio_gw.telemetry.metrics import Metrics

log = logging.getLogger("trio_gw")

FIRST_COMMIT = 30.0  # seconds for which `/ready` waits for the first commit of a repository
FIRST_PULL = 30.0  # seconds for which the start waits for the first answer of a control plane


class Running(NamedTuple):
    """The parts of a running gateway that its caller may use."""

    addresses: Addresses
    live: Live
    catalog: Catalog
    sessions: Sessions
    testkeys: TestKeys | None
    operators: Operators
    metrics: Metrics | None
    blocklist: Blocklist
    renew: Callable[[Settings], Awaitable[None]]  # applies changed settings where that is possible


async def run(
    settings: Settings,
    base: Path,
    *,
    trial: Endpoint | None = None,
    stop: trio.Event | None = None,
    context: WorkerContext | None = None,
    background: BackgroundTasks | None = None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a gateway until cancelled, or until `stop` is set; then drain the connections.

    Relative paths of the settings are relative to `base`. With `trial` the gateway relays to this
    backend and watches no folder. One of several workers passes its `context`. `background` runs
    the background tasks.
    Raises `UnusableError` when the gateway cannot start.
    """
    background = background or BackgroundTasks()
    made = cache_folder(settings.control_plane, base)
    with made if context is None else contextlib.nullcontext(context.cache) as cache:
        parts = await build(
            settings, base, trial=trial, context=context, background=background, cache=cache
        )
        await _serve(parts, trio.Event() if stop is None else stop, task_status)


async def _serve(parts: Parts, stop: trio.Event, task_status: trio.TaskStatus[Running]) -> None:
    shared_state, sessions, timeouts = (
        parts.shared_state,
        parts.services.sessions,
        parts.settings.timeouts,
    )
    async with parts.observers.threads(), trio.open_nursery() as nursery:
        await _start_relay(parts, nursery)
        # A second nursery, so that accepting can end while connections are drained.
        async with trio.open_nursery() as accepting:
            if not shared_state.is_replacement:
                shared_state.state = WorkerState.STARTING
                _accept_clients(parts, accepting, nursery)
            await _start_checks(parts, nursery)
            await _start_sources(parts, nursery)
            await _join_workers(parts, nursery)
            if (git := parts.sources.git) is not None:
                with trio.move_on_after(FIRST_COMMIT):
                    await either(git.tried, stop)
                await parts.catalog.applied()
            if (plane := parts.sources.control_plane) is not None and not plane.served.is_set():
                with trio.move_on_after(FIRST_PULL):
                    await either(plane.served, stop)
                await parts.catalog.applied()
            if plane is None or plane.served.is_set():
                shared_state.state = WorkerState.READY
            else:  # The admin API shows why. `/ready` waits, and unknown paths answer 503.
                nursery.start_soon(_become_ready, parts, plane.served)
            if shared_state.is_replacement:
                # From now on deployments wait for this worker too. It loads what it missed.
                if parts.sources.trial is None:
                    await parts.sources.deployed.refresh()
                    await parts.catalog.applied()
                _accept_clients(parts, accepting, nursery)
            _accept_operators(parts, accepting, nursery)
            if parts.alone:
                log_addresses(parts.listeners)
            task_status.started(_running(parts))
            await stop.wait()
            shared_state.state = WorkerState.DRAINING
            accepting.cancel_scope.cancel()
        log.info("stopping: %d connections to end", len(sessions))
        with trio.move_on_after(timeouts.drain + timeouts.close):
            await sessions.drain()
        await parts.observers.flush()
        if parts.traffic is not None:
            await parts.traffic.flush()
        nursery.cancel_scope.cancel()


async def _become_ready(parts: Parts, served: trio.Event) -> None:
    """Be ready when the control plane has answered for the first time."""
    await served.wait()
    await parts.catalog.applied()
    if parts.shared_state.state == WorkerState.STARTING:
        parts.shared_state.state = WorkerState.READY


async def _start_relay(parts: Parts, nursery: trio.Nursery) -> None:
    """Start the tasks that every connection needs."""
    start, services = parts.background.start, parts.services
    for name, task in (
        (TaskName.DEADLINES, services.waits.run),
        (TaskName.RELAY, services.tunnels.run),
    ):
        await nursery.start(partial(start, name, task, longest=SHORT))


async def _start_checks(parts: Parts, nursery: trio.Nursery) -> None:
    """Start the tasks that load keys, watch files, end connections and check backends."""
    settings, background, data_plane = parts.settings, parts.background, parts.data_plane
    services, start = parts.services, parts.background.start

    def keep(name: TaskName, task: Callable[[], Awaitable[None]]) -> None:
        nursery.start_soon(background.keep, name, task)

    await nursery.start(start, TaskName.KEYS, partial(parts.keys.ring.run, background))
    if data_plane.introspection:
        await nursery.start(start, TaskName.INTROSPECTION, data_plane.introspection.run)
    await nursery.start(start, TaskName.FILES, partial(keep_loaded, parts.files))
    if (applications := parts.applications) is not None:
        await nursery.start(start, TaskName.APPLICATIONS, applications.source.run)
    keep(TaskName.MEMORY, services.memory.run)
    expiry = settings.on_token_expiry == "close"  # noqa: S105 - no password
    sweeper = Sweeper(services.sessions, settings.timeouts, expiry=expiry, clock=time.time)
    keep(TaskName.SWEEPER, sweeper.run)
    parts.observers.start(nursery, background)
    if parts.traffic is not None:
        parts.traffic.start(nursery, background)
    keep(TaskName.REVOCATIONS, partial(sweeper.revoke, parts.revocations))
    keep(TaskName.DENIALS, partial(sweeper.block, parts.blocklist))
    if settings.control_plane.url or parts.applications is not None:
        from trio_gw.proxy.entitled_sessions import EntitledSessions

        policies = services.limiter_factory.follow_policies
        entitled = EntitledSessions(services.sessions, parts.live, policies)
        keep(TaskName.ENTITLED, entitled.run)
    within = settings.timeouts.drain
    keep(TaskName.BLOCKED_APIS, partial(end_blocked, services.sessions, parts.live, within))
    if settings.evict:
        keep(TaskName.EVICTIONS, partial(sweeper.evict, parts.live))
    keep(TaskName.HEALTH, partial(watch, data_plane.balancers, parts.live, settings.health))


async def _start_sources(parts: Parts, nursery: trio.Nursery) -> None:
    """Start the sources of projects; return when the first table is served."""
    catalog, start = parts.catalog, parts.background.start
    trial, deployed, plane, git, remote = parts.sources

    async def start_source(
        name: TaskName, origin: str, task: Callable[..., Awaitable[None]]
    ) -> None:
        # A source that fails at its start does not delay the other sources.
        lost = partial(catalog.skip_origin, origin)
        await nursery.start(partial(start, name, task, on_give_up=lost))

    await nursery.start(start, TaskName.TABLE, catalog.run)
    if trial is None:
        await start_source(TaskName.DEPLOYED, DEPLOYED, deployed.run)
        if plane is not None:
            await plane.start(nursery, parts.background, catalog)
        if git is not None:
            await start_source(TaskName.GIT, GIT, git.run)
        if remote is not None:
            nursery.start_soon(parts.background.keep, TaskName.GIT_REMOTE, remote.run)
        folder = parts.base / parts.settings.apis
        apis = folder_source(folder, deployed.update_folder, identify=deployed.identify)
        await start_source(TaskName.APIS, APIS, apis.run)
    else:
        catalog.publish(TRIAL, {TRIAL: trial})
    await catalog.ready.wait()


async def _join_workers(parts: Parts, nursery: trio.Nursery) -> None:
    """Trust the clients of the first table, publish its digest, and answer other workers."""
    background, shared_state, live = parts.background, parts.shared_state, parts.live
    trust = partial(trust_clients, parts.keys.tls, live)
    await nursery.start(background.start, TaskName.CLIENT_TRUST, trust)
    shared_state.set_table(live.table.digest)
    nursery.start_soon(
        background.keep, TaskName.TABLE_DIGEST, partial(shared_state.publish_table, live)
    )
    answering = partial(parts.rpc.serve, parts.worker_status.handle)
    await nursery.start(background.start, TaskName.RPC, answering)


def _accept_clients(parts: Parts, accepting: trio.Nursery, connections: trio.Nursery) -> None:
    """Accept connections from the listeners of clients."""
    services, shared_state, listeners = parts.services, parts.shared_state, parts.listeners
    accept = partial(
        accept_all,
        connections=connections,
        background=parts.background,
        accept_turn=None if parts.alone else shared_state.accept_turn,
        waits=services.waits,
        budget=parts.data_plane.budgets.clients,
    )
    for name in TRAFFIC.intersection(listeners):
        handler = handler_of(services, shared_state, parts.keys.tls if name == "https" else None)
        for sock in listeners[name]:
            accepting.start_soon(accept, sock, handler)


def _accept_operators(parts: Parts, accepting: trio.Nursery, connections: trio.Nursery) -> None:
    """Accept connections from the listeners of the admin API, of the portal and of metrics."""
    accept = partial(
        accept_all,
        connections=connections,
        background=parts.background,
        budget=parts.data_plane.budgets.operators,
    )
    for sock in parts.listeners.get("admin", ()):
        accepting.start_soon(accept, sock, contain_errors(parts.admin.handle))
    for name, server in (("portal", parts.portal), ("consumers", parts.consumers)):
        if server is not None:
            for sock in parts.listeners.get(name, ()):
                accepting.start_soon(accept, sock, contain_errors(server.handle))
    if (metrics := parts.observers.metrics) is not None:
        names = metrics_names(parts.settings)
        handler = contain_errors(metrics_handler(metrics.expose, CONTENT_TYPE, names))
        for sock in parts.listeners.get("metrics", ()):
            accepting.start_soon(accept, sock, handler)


def _running(parts: Parts) -> Running:
    return Running(
        addresses=addresses_of(parts.listeners),
        live=parts.live,
        catalog=parts.catalog,
        sessions=parts.services.sessions,
        testkeys=parts.keys.testkeys,
        operators=parts.keys.operators,
        metrics=parts.observers.metrics,
        blocklist=parts.blocklist,
        renew=partial(_renew, parts),
    )


async def _renew(parts: Parts, settings: Settings) -> None:
    """Apply the settings that may change while the gateway runs."""
    # A limiter of its own: deny conditions apply at once, whatever keeps other threads busy.
    limiter = trio.CapacityLimiter(1)
    denials = await trio.to_thread.run_sync(declared, settings.deny, limiter=limiter)
    parts.blocklist.publish(conditions.SETTINGS, denials)
    for source in (parts.sources.git, parts.sources.remote):
        if source is not None:
            source.renew(settings.git)
