"""One gateway process: builds the parts and runs them in one nursery.

The composition root, and with the command line the only file that knows everyone. `run` is what
`trio-gw run` calls and what tests start in their own nursery: it is ready when `started`.
"""

from __future__ import annotations

import logging
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

import trio_gw
from trio_gw.admin.adapter import UPLOADS
from trio_gw.admin.aggregate import Aggregate
from trio_gw.admin.app import build_app
from trio_gw.admin.context import Context
from trio_gw.admin.server import AdminServer
from trio_gw.admin.worker_status import WorkerStatus
from trio_gw.app.data_plane import serve
from trio_gw.app.key_material import load_keys, reloaded_files, trust_clients
from trio_gw.app.listeners import (
    TRAFFIC,
    Addresses,
    Sockets,
    addresses_of,
    admin_names,
    bind_all,
    handler_of,
    log_addresses,
    metrics_names,
)
from trio_gw.app.observers import Observers
from trio_gw.config.api import ApiProject, Cluster, Topic
from trio_gw.config.placement import vhosts
from trio_gw.config.tiers import known
from trio_gw.errors import UnusableError
from trio_gw.feed.catalog import Catalog
from trio_gw.feed.deploy import Deployer
from trio_gw.feed.deployed import GIT, ORIGIN, Deployed
from trio_gw.feed.depot import Depot
from trio_gw.feed.folder import FOLDER, followed
from trio_gw.feed.gitasker import Asker
from trio_gw.feed.gitsource import GitSource, either
from trio_gw.feed.precedence import Precedence
from trio_gw.guard import blocklist as conditions
from trio_gw.guard.blocklist import Blocklist
from trio_gw.guard.denials import declared
from trio_gw.guard.revocations import Revocations, from_file
from trio_gw.proxy.health import watch
from trio_gw.proxy.listener import accept_all, contain_errors
from trio_gw.proxy.scrape import metrics_handler
from trio_gw.proxy.sweeper import Sweeper
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.table import Live
from trio_gw.supervision.background import SHORT, BackgroundTasks, TaskName
from trio_gw.telemetry.metrics import CONTENT_TYPE
from trio_gw.watch.files import keep_loaded
from trio_gw.workers.rpc import WorkerRpc
from trio_gw.workers.shared_state import SharedState, WorkerState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio_gw.config.api import Endpoint
    from trio_gw.config.settings import Settings
    from trio_gw.guard.operators import Operators
    from trio_gw.guard.testkey import TestKeys
    from trio_gw.proxy.limiter_factory import SharedCounters
    from trio_gw.proxy.sessions import Sessions
    from trio_gw.telemetry.metrics import Metrics

log = logging.getLogger("trio_gw")

T = TypeVar("T")

TRIAL = "trial"  # the origin of the one API of `run --to`
FIRST_COMMIT = 30.0  # seconds for which `/ready` waits for the first commit of a repository


class Running(NamedTuple):
    """A gateway that serves: what its owner may look at."""

    addresses: Addresses
    live: Live
    catalog: Catalog
    sessions: Sessions
    testkeys: TestKeys | None
    operators: Operators
    metrics: Metrics | None
    blocklist: Blocklist
    renew: Callable[[Settings], Awaitable[None]]  # take over what changed, where that can be


def cleanup(settings: Settings, base: Path, *, again: bool = False) -> None:
    """Remove what a crash left in the folder of deployed projects. Blocks.

    Once before any worker, and `again` by one that is there in place of another.
    """
    forget = not (settings.persist or again)
    try:
        Depot(base / settings.deployed, settings.deployed).sweep(forget=forget)
    except UnusableError as error:
        for problem in error.problems:
            log.error("%s", problem)
    except OSError as error:
        log.warning("%s cannot be tidied: %s", base / settings.deployed, error)


async def _in_thread(work: Callable[[], T]) -> T:
    """Do what reads files or asks for names; at the end nobody waits for it."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


def trial_project(endpoint: Endpoint) -> ApiProject:
    """Make the one open API of `trio-gw run --to`: `/` is the backend's URL, paths go below it."""
    return ApiProject(
        folder="--to",
        id=TRIAL,
        name=TRIAL,
        version="",
        context="",
        topics=(Topic("/*", secured=False, pass_path=True),),
        production=Cluster((endpoint,)),
    )


def _precedence(settings: Settings, base: Path, shared_state: SharedState) -> Precedence | None:
    """Say where it is kept who was served first; nowhere, if nobody is to read it."""
    if not settings.persist and shared_state.alone:
        return None
    writer = f"{socket.gethostname()} {shared_state.started}"
    folder = base / settings.deployed
    return Precedence(folder, settings.deployed, writer=writer, decides=shared_state.index == 0)


async def run(
    settings: Settings,
    base: Path,
    *,
    trial: Endpoint | None = None,
    stop: trio.Event | None = None,
    shared_state: SharedState | None = None,
    sockets: Sockets | None = None,
    shared: SharedCounters | None = None,
    rpc: WorkerRpc | None = None,
    background: BackgroundTasks | None = None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a gateway until cancelled, or until `stop` is set: then connections are drained.

    Relative paths of the settings are relative to `base`. With `trial` no folder is watched.
    One of several workers is given the `shared_state` of all, the listeners' bound `sockets`, the
    counters that it shares, and `rpc` to ask the others. What fails in the `background`
    is started again.
    Raises `UnusableError` when it cannot start.
    """
    shared_state, rpc = shared_state or SharedState(), rpc or WorkerRpc()
    background = background or BackgroundTasks()
    background.on_change = shared_state.set_failing
    if sockets is None or shared_state.is_replacement:
        await _in_thread(partial(cleanup, settings, base, again=shared_state.is_replacement))
    keys = await _in_thread(partial(load_keys, settings, base))
    # What is deployed over the REST API goes before what a repository or the folder holds.
    from_git = bool(settings.git.url) and trial is None
    sources = (ORIGIN, GIT, FOLDER) if from_git else (ORIGIN, FOLDER)
    origins = sources if trial is None else (TRIAL,)
    live = Live(EMPTY)
    catalog = Catalog(
        live,
        settings.environments,
        origins=origins,
        strict_vhosts=settings.strict_vhosts,
        known_tiers=known(settings.tiers),
        precedence=_precedence(settings, base, shared_state) if trial is None else None,
    )
    vhost_of = vhosts(settings.environments)
    depot = Depot(base / settings.deployed, settings.deployed)
    deployed = Deployed(depot, catalog.publish, vhost_of)
    operators = keys.operators
    timeouts = settings.timeouts
    revocations, blocklist = Revocations(), Blocklist()
    blocklist.publish(conditions.SETTINGS, declared(settings.deny))
    serving = serve(
        settings,
        keys,
        live,
        revocations,
        blocklist,
        shared_state=shared_state,
        shared=shared,
        exclusive=sockets is None,
    )
    sessions, balancers, budgets = serving.services.sessions, serving.balancers, serving.budgets
    observing = Observers(settings, base, shared_state, sessions, background)
    metrics = observing.metrics
    services = observing.watch(serving.services, balancers, catalog)
    listeners = sockets
    if listeners is None:
        listeners = await _in_thread(partial(bind_all, settings))
    files = reloaded_files(keys, serving.dialer, settings, base)
    files.append(from_file(base / settings.revocations, revocations))
    files.append(conditions.from_file(base / settings.denials, blocklist))

    async def settle() -> None:
        """Wait for the other workers to serve the table that this one has just taken up."""
        await catalog.applied()
        shared_state.set_table(live.table.digest)
        await shared_state.wait_converged()

    worker_status = WorkerStatus(shared_state.index + 1, sessions, catalog, metrics, background)
    git = asker = None
    if from_git:
        asks = shared_state.index == 0
        git = GitSource(settings.git, base, deployed.git, asks=asks)
        asker = Asker(git, settings, base, settle) if asks else None

    async def renew(renewed: Settings) -> None:
        # Threads of its own: whatever keeps the others busy must not keep anybody from denying.
        limiter = trio.CapacityLimiter(1)
        denials = await trio.to_thread.run_sync(declared, renewed.deny, limiter=limiter)
        blocklist.publish(conditions.SETTINGS, denials)
        for part in (git, asker):
            if part is not None:
                part.renew(renewed.git)

    admin = Context(
        settings.admin,
        operators=operators,
        deployer=Deployer(deployed, catalog, live, vhost_of, settle),
        depot=depot,
        live=live,
        blocklist=blocklist,
        aggregate=Aggregate(worker_status, shared_state, rpc),
        uploads=trio.Semaphore(UPLOADS),
        metrics=metrics,
    )
    names = admin_names(settings, keys.tls)
    app = build_app(admin, trio_gw.__version__, names)
    server = AdminServer(app, lambda: keys.tls.admin, services.tls_failures)
    async with observing.threads(), trio.open_nursery() as nursery:
        start = background.start

        def keep(part: TaskName, task: Callable[[], Awaitable[None]]) -> None:
            nursery.start_soon(background.keep, part, task)

        for part, vital in (
            (TaskName.DEADLINES, services.waits.run),
            (TaskName.RELAY, services.tunnels.run),
        ):
            await nursery.start(partial(start, part, vital, longest=SHORT))
        # A nursery of its own, so that accepting can end while connections are drained.
        async with trio.open_nursery() as accepting:
            accept_turn = None if sockets is None else shared_state.accept_turn
            take = partial(accept_all, connections=nursery, background=background)

            def accept() -> None:
                for name in TRAFFIC.intersection(listeners):
                    handler = handler_of(
                        services, shared_state, keys.tls if name == "https" else None
                    )
                    for sock in listeners[name]:
                        waits, budget = services.waits, budgets.clients
                        admit = partial(take, accept_turn=accept_turn, waits=waits, budget=budget)
                        accepting.start_soon(admit, sock, handler)

            if not shared_state.is_replacement:
                shared_state.state = WorkerState.STARTING
                accept()
            await nursery.start(start, TaskName.KEYS, partial(keys.ring.run, background))
            if serving.introspection:
                await nursery.start(start, TaskName.INTROSPECTION, serving.introspection.run)
            await nursery.start(start, TaskName.FILES, partial(keep_loaded, files))
            expiry = settings.on_token_expiry == "close"  # noqa: S105 - no password
            keep(TaskName.MEMORY, services.memory.run)
            sweeper = Sweeper(sessions, timeouts, expiry=expiry, clock=time.time)
            keep(TaskName.SWEEPER, sweeper.run)
            observing.start(nursery, background)
            keep(TaskName.REVOCATIONS, partial(sweeper.revoke, revocations))
            keep(TaskName.DENIALS, partial(sweeper.block, blocklist))
            if settings.evict:
                keep(TaskName.EVICTIONS, partial(sweeper.evict, live))
            keep(TaskName.HEALTH, partial(watch, balancers, live, settings.health))
            await nursery.start(start, TaskName.TABLE, catalog.run)
            if trial is None:
                # A source that fails at once keeps the others from nothing.
                lost = partial(catalog.miss, ORIGIN)
                await nursery.start(
                    partial(start, TaskName.DEPLOYED, deployed.run, on_give_up=lost)
                )
                if git is not None:
                    lost = partial(catalog.miss, GIT)
                    await nursery.start(partial(start, TaskName.GIT, git.run, on_give_up=lost))
                if asker is not None:
                    keep(TaskName.GIT_REMOTE, asker.run)
                apis = followed(base / settings.apis, deployed.folder, identify=deployed.identify)
                lost = partial(catalog.miss, FOLDER)
                await nursery.start(partial(start, TaskName.APIS, apis.run, on_give_up=lost))
            else:
                catalog.publish(TRIAL, {TRIAL: trial_project(trial)})
            await catalog.ready.wait()
            trust = partial(trust_clients, keys.tls, live)
            await nursery.start(start, TaskName.CLIENT_TRUST, trust)
            shared_state.set_table(live.table.digest)
            keep(TaskName.TABLE_DIGEST, partial(shared_state.publish_table, live))
            answering = partial(rpc.serve, worker_status.handle)
            await nursery.start(start, TaskName.RPC, answering)
            if git is not None:
                with trio.move_on_after(FIRST_COMMIT):
                    await either(git.tried, stop)
                await catalog.applied()
            shared_state.state = WorkerState.READY
            if shared_state.is_replacement:
                # Who deploys from now on waits for this worker, too; here is what it missed.
                if trial is None:
                    await deployed.refresh()
                    await catalog.applied()
                accept()
            admit = partial(take, budget=budgets.operators)
            for sock in listeners.get("admin", ()):
                accepting.start_soon(admit, sock, contain_errors(server.handle))
            if metrics is not None:
                handler = contain_errors(
                    metrics_handler(metrics.tell, CONTENT_TYPE, metrics_names(settings))
                )
                for sock in listeners.get("metrics", ()):
                    accepting.start_soon(admit, sock, handler)
            if sockets is None:
                log_addresses(listeners)
            addresses = addresses_of(listeners)
            task_status.started(
                Running(
                    *(addresses, live, catalog, sessions, keys.testkeys, operators, metrics),
                    *(blocklist, renew),
                )
            )
            await (trio.Event() if stop is None else stop).wait()
            shared_state.state = WorkerState.DRAINING
            accepting.cancel_scope.cancel()
        log.info("stopping: %d connections to end", len(sessions))
        with trio.move_on_after(timeouts.drain + timeouts.close):
            await sessions.drain()
        await observing.flush()
        nursery.cancel_scope.cancel()
