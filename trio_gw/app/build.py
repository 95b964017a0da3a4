"""Builds the parts of one gateway process and connects them. `worker` runs them.

Nothing that is built here runs yet: no task is started and no connection is accepted.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import trio

import trio_gw
from trio_gw.admin.adapter import UPLOADS
from trio_gw.admin.aggregate import Aggregate
from trio_gw.admin.all_workers import AllWorkers
from trio_gw.admin.app import build_app
from trio_gw.admin.context import Context
from trio_gw.admin.project_documents import document_reader
from trio_gw.admin.server import AdminServer
from trio_gw.admin.worker_operation import WorkerOperation
from trio_gw.admin.worker_status import WorkerStatus
from trio_gw.app.applications import Applications
from trio_gw.app.data_plane import build_data_plane
from trio_gw.app.key_material import load_keys, reloaded_files
from trio_gw.app.listeners import (
    admin_names,
    bind_all,
    bound_addresses,
    handler_of,
    portal_names,
)
from trio_gw.app.observers import Observers
from trio_gw.config.api import ApiProject, Cluster, Topic
from trio_gw.config.placement import vhosts
from trio_gw.config.tiers import known
from trio_gw.errors import UnusableError
from trio_gw.feed.catalog import Catalog
from trio_gw.feed.deployer import Deployer
from trio_gw.feed.deployment_source import DeploymentSource
from trio_gw.feed.deployment_store import DeploymentStore
from trio_gw.feed.git_poller import GitPoller
from trio_gw.feed.git_source import GitSource
from trio_gw.feed.origins import APIS, CONTROL_PLANE, DEPLOYED, GIT
from trio_gw.feed.precedence import Precedence
from trio_gw.feed.registry_store import RegistryStore
from trio_gw.guard import blocklist as conditions
from trio_gw.guard.blocklist import Blocklist
from trio_gw.guard.denials import declared
from trio_gw.guard.revocations import Revocations, from_file
from trio_gw.guard.roles import Role
from trio_gw.portal.mount import LazyPortal, PortalMount, explain_handshake
from trio_gw.portal.services import make_services
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.live import Live
from trio_gw.workers.rpc import WorkerRpc
from trio_gw.workers.shared_state import SharedState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.app.control_plane import ControlPlane
    from trio_gw.app.data_plane import DataPlane
    from trio_gw.app.key_material import KeyMaterial
    from trio_gw.app.listeners import Sockets
    from trio_gw.app.traffic_manager import TrafficManager
    from trio_gw.app.worker_context import WorkerContext
    from trio_gw.config.api import Endpoint
    from trio_gw.config.settings import Settings
    from trio_gw.proxy.services import Services
    from trio_gw.supervision.background import BackgroundTasks
    from trio_gw.watch.files import Reloaded

log = logging.getLogger("trio_gw")

T = TypeVar("T")

TRIAL = "trial"  # the origin of the one API of `run --to`


class Sources(NamedTuple):
    """The sources of projects. With `trial` there is that one API, and no other source runs."""

    trial: ApiProject | None
    deployed: DeploymentSource
    control_plane: ControlPlane | None
    git: GitSource | None
    remote: GitPoller | None  # polls the remote repository; in the first worker only


class Parts(NamedTuple):
    """All parts of one gateway process."""

    settings: Settings
    base: Path
    background: BackgroundTasks
    shared_state: SharedState
    rpc: WorkerRpc
    alone: bool  # no other process accepts connections from these listeners
    listeners: Sockets
    keys: KeyMaterial
    live: Live
    catalog: Catalog
    sources: Sources
    data_plane: DataPlane
    services: Services
    traffic: TrafficManager | None
    observers: Observers
    revocations: Revocations
    blocklist: Blocklist
    files: list[Reloaded[Any]]
    worker_status: WorkerStatus
    admin: AdminServer
    portal: AdminServer | None  # at its listener without TLS
    consumers: AdminServer | None  # the portal at the listener for consumers
    applications: Applications | None


def cleanup(settings: Settings, base: Path, *, again: bool = False) -> None:
    """Remove what a crash left in the folders of deployed projects and of the portal. Blocks.

    Called once before the first worker starts, and with `again` by a worker that replaces another.
    """
    forget = not (settings.persist or again)
    try:
        DeploymentStore(base / settings.deployed, settings.deployed).sweep(forget=forget)
    except UnusableError as error:
        for problem in error.problems:
            log.error("%s", problem)
    except OSError as error:
        log.warning("%s cannot be cleaned up: %s", base / settings.deployed, error)
    try:
        RegistryStore(base / settings.portal.folder, settings.portal.folder).sweep()
    except OSError as error:
        log.warning("%s cannot be cleaned up: %s", base / settings.portal.folder, error)


async def build(
    settings: Settings,
    base: Path,
    *,
    trial: Endpoint | None,
    context: WorkerContext | None,
    background: BackgroundTasks,
    cache: Path,
) -> Parts:
    """Build the parts of a gateway. Relative paths of the settings are relative to `base`.

    `cache` is the folder of the control plane, if there is one.

    Raises `UnusableError`.
    """
    alone = context is None
    shared_state = SharedState() if context is None else context.shared_state
    rpc = WorkerRpc() if context is None else context.rpc
    background.on_change = shared_state.set_failing
    if alone or shared_state.is_replacement:
        await _in_thread(partial(cleanup, settings, base, again=shared_state.is_replacement))
    keys = await _in_thread(partial(load_keys, settings, base))
    from_git = bool(settings.git.url) and trial is None
    from_plane = bool(settings.control_plane.url) and trial is None
    live = Live(EMPTY)
    catalog = Catalog(
        live,
        settings.known_environments,
        origins=_origins(settings) if trial is None else (TRIAL,),
        strict_vhosts=settings.strict_vhosts,
        known_tiers=known(settings.tiers),
        precedence=_precedence(settings, base, shared_state) if trial is None else None,
    )
    revocations, blocklist = Revocations(), Blocklist()
    applications = None
    if settings.registers_applications and trial is None:
        applications = Applications(settings, base, keys.tls.pair, live, revocations)
    blocklist.publish(conditions.SETTINGS, declared(settings.deny))
    data_plane = build_data_plane(
        settings,
        keys,
        live,
        revocations,
        blocklist,
        shared_state=shared_state,
        shared=None if context is None else context.shared,
        exclusive=alone,
        applications=applications,
    )
    sessions = data_plane.services.sessions
    observers = Observers(settings, base, shared_state, sessions, background)
    services = observers.attach(data_plane.services, data_plane.balancers, catalog)
    if context is None:
        listeners = await _in_thread(partial(bind_all, settings))
    else:
        listeners = context.sockets
    signers = [applications.endpoint] if applications is not None else []
    files = reloaded_files(keys, data_plane.dialer, settings, base, signers)
    files.append(from_file(base / settings.revocations, revocations))
    files.append(conditions.from_file(base / settings.denials, blocklist))

    async def wait_converged() -> None:
        """Wait until the other workers serve the table that this worker serves now."""
        await catalog.applied()
        shared_state.set_table(live.table.digest)
        await shared_state.wait_converged()

    vhost_of = vhosts(settings.known_environments)
    store = DeploymentStore(base / settings.deployed, settings.deployed, settings.portal.revisions)
    deployed = DeploymentSource(store, catalog.publish, vhost_of)
    git = remote = None
    if from_git:
        first = shared_state.index == 0
        git = GitSource(settings.git, base, deployed.update_git, polls=first)
        remote = GitPoller(git, settings, base, wait_converged) if first else None
    project = None if trial is None else _trial_project(trial)
    plane = None
    if from_plane:
        from trio_gw.app.control_plane import build_control_plane
        from trio_gw.control_plane.status_metrics import show

        plane = await build_control_plane(
            settings.control_plane,
            base,
            cache,
            live=live,
            catalog=catalog,
            revocations=revocations,
            blocklist=blocklist,
            ring=keys.ring,
            follows=shared_state.index == 0,
        )
        if observers.metrics is not None:
            show(observers.metrics, plane.status)
    traffic = None
    if plane is not None and settings.control_plane.throttling.enabled:
        from trio_gw.app.traffic_manager import TrafficManager

        table = settings.control_plane.throttling
        traffic = TrafficManager(table, plane.tls, plane.status, live, services)
        services = traffic.attach(services)
    worker_status = WorkerStatus(
        shared_state.index + 1,
        *(sessions, catalog, observers.metrics, background),
        None if plane is None else plane.status,
        operation := WorkerOperation(
            shared_state.index + 1,
            *(services, data_plane.balancers, observers.endings, observers.history),
        ),
        None if applications is None else applications.source,
    )
    aggregate = Aggregate(worker_status, shared_state, rpc)
    operations = Context(
        settings.admin,
        explain=partial(explain_handshake, services),
        operators=keys.operators,
        deployer=Deployer(deployed, catalog, live, vhost_of, wait_converged),
        store=store,
        live=live,
        blocklist=blocklist,
        aggregate=aggregate,
        uploads=trio.Semaphore(UPLOADS),
        metrics=observers.metrics,
        deploys=not from_plane,
        workers=AllWorkers(operation, aggregate),
        denials=base / settings.denials,
        documents=document_reader(settings, base, None if plane is None else plane.zip_of),
    )
    app = build_app(operations, trio_gw.__version__, admin_names(settings, keys.tls))
    local = consumers = None
    if settings.portal.enabled:
        portal = LazyPortal(
            make_services(
                *(settings, base, operations, services),
                catalog=catalog,
                keys=keys.ring,
                testkeys=keys.testkeys,
                front_door=handler_of(services, shared_state, None),
                addresses=bound_addresses(listeners),
                names=portal_names(settings, keys.tls),
            )
        )
        app = PortalMount(portal, app)
        local = AdminServer(PortalMount(portal), None, services.tls_failures)
        mount = PortalMount(portal, most=Role.CONSUMER)
        consumers = AdminServer(mount, lambda: keys.tls.admin, services.tls_failures)
    return Parts(
        settings,
        base,
        background,
        shared_state,
        rpc,
        alone=alone,
        listeners=listeners,
        keys=keys,
        live=live,
        catalog=catalog,
        sources=Sources(project, deployed, plane, git, remote),
        data_plane=data_plane,
        services=services,
        traffic=traffic,
        observers=observers,
        revocations=revocations,
        blocklist=blocklist,
        files=files,
        worker_status=worker_status,
        admin=AdminServer(app, lambda: keys.tls.admin, services.tls_failures),
        portal=local,
        consumers=consumers,
        applications=applications,
    )


async def _in_thread(work: Callable[[], T]) -> T:
    """Run a function that reads files or resolves names; cancellation does not wait for it."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


def _origins(settings: Settings) -> tuple[str, ...]:
    """List the origins of projects: of two that claim the same, the first is served."""
    optional = ((CONTROL_PLANE, settings.control_plane.url), (GIT, settings.git.url))
    return (DEPLOYED, *(name for name, url in optional if url), APIS)


def _trial_project(endpoint: Endpoint) -> ApiProject:
    """Make the open API of `trio-gw run --to`: `/` is the backend's URL, paths go below it."""
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
    """Make the store of the order in which projects were first served, if anything reads it."""
    if not settings.persist and shared_state.alone:
        return None
    writer = f"{socket.gethostname()} {shared_state.started}"
    folder = base / settings.deployed
    return Precedence(folder, settings.deployed, writer=writer, decides=shared_state.index == 0)
