"""Follows API Manager: pulls everything, then applies events, and pulls again when some were lost.

One process does; the others read what it writes. An event is applied when it comes, also while a
pull is under way: then it is applied a second time, to what was pulled. So revocations do not wait
for REST, and nothing is lost in between. What is deployed is fetched by `fetches`.
spec: control-plane §2, §6, §13, §14, §15.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_gw.config import entitlements
from trio_gw.config.broker_url import parse_broker_urls
from trio_gw.config.faults import printable
from trio_gw.control_plane import broker, reconcile
from trio_gw.control_plane.events import (
    KEYS,
    DeployEvent,
    LifecycleEvent,
    UndeployEvent,
    Useless,
    read_event,
)
from trio_gw.control_plane.fetches import Fetches
from trio_gw.control_plane.pull import API_POLICIES, POLICIES, pull
from trio_gw.control_plane.reconcile import EventOrder, deployment_key
from trio_gw.control_plane.rest_client import SLOW, Pauses, RestClient
from trio_gw.control_plane.state import StateChange
from trio_gw.control_plane.throttling import decision

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from trio_gw.config.control_plane import ControlPlaneSettings
    from trio_gw.control_plane.broker import Delivery
    from trio_gw.control_plane.pull import Pulled
    from trio_gw.control_plane.reconcile import Applied
    from trio_gw.control_plane.state import ControlPlaneState
    from trio_gw.control_plane.state_writer import StateWriter
    from trio_gw.control_plane.status import ControlPlaneStatus, EventKind, EventResult
    from trio_gw.errors import Problem

log = logging.getLogger("trio_gw.control_plane")

GRACE = 1.0  # seconds that the first pull waits for the event hub
MAX_EVENTS = 50_000  # that come during one pull; with more it begins anew
MAX_SAID = 1000  # texts that are remembered, so that each is logged once
MAX_PROBLEMS = 100  # with single APIs, between two pulls
TIDY = 60.0  # seconds between two removals of what has expired


class Follower:
    """The follower of one process, which is the `Consumer` of the event hub."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        tls: ssl.SSLContext,
        writer: StateWriter,
        status: ControlPlaneStatus,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._writer = writer
        self._status = status
        self._labels = settings.environments or ("Default",)
        self._client = RestClient(settings, tls)
        self._fetches = Fetches(self._client, settings, writer.artifacts, self)
        self._order = EventOrder()
        self._turn = trio.Lock()  # held while the state changes
        self._wanted = trio.Event()  # a pull
        self._attempted = trio.Event()  # the event hub was tried
        self._bindings = 0
        self._bound = 0  # the number of the present connection; 0: there is none
        self._during_pull: list[Applied] | None = None  # events since the pull began
        self._pulling = trio.CancelScope()
        self._said: set[str] = set()

    async def run(self) -> None:
        """Follow until cancelled."""
        self._bound, self._during_pull = 0, None
        self._client = RestClient(self._settings, self._tls)
        self._fetches = Fetches(self._client, self._settings, self._writer.artifacts, self)
        async with self._client, trio.open_nursery() as nursery:
            nursery.start_soon(self._pull_forever)
            nursery.start_soon(self._fetches.run)
            nursery.start_soon(self._tidy_forever)
            endpoints = parse_broker_urls(self._settings.events)
            if not endpoints:
                self._attempted.set()
            await broker.follow(endpoints, self._tls, KEYS, self, status=self._status)

    async def send(self, method: str, name: str, body: bytes, /) -> None:
        """Send JSON to API Manager once. Raises `RestError`."""
        await self._client.send(method, name, body)

    # -- Consumer ------------------------------------------------------------------------------

    async def bound(self) -> None:
        """Ask for a pull. It goes on while the events that wait are applied."""
        self._bindings += 1
        self._bound = self._bindings
        self._attempted.set()
        self.want_pull()
        self._fetches.repeat_all()
        self._client.hurry()  # API Manager and its broker are one process
        await trio.lowlevel.checkpoint()

    async def deliver(self, delivery: Delivery) -> None:
        """Apply an event, or have fetched what it announces."""
        event = read_event(delivery.routing_key, delivery.body)
        if isinstance(event, Useless):
            self._show(event.kind, "malformed" if event.malformed else "ignored", event.what)
            if event.malformed:
                key = ascii(delivery.routing_key[:40])
                self._say(f"event hub: a message with the key {key} is discarded: {event.what}")
            await trio.lowlevel.checkpoint()
            return
        async with self._turn:
            if isinstance(event, DeployEvent):
                self._deploy(event)
            elif isinstance(event, UndeployEvent):
                await self._undeploy(event)
            else:
                kind: EventKind = "lifecycle" if isinstance(event, LifecycleEvent) else event.kind
                what = event.uuid if isinstance(event, LifecycleEvent) else event.what
                self._show(kind, await self._apply(event), what)
                if isinstance(event, LifecycleEvent):
                    self._fetches.repeat_api(event.uuid, self._labels)
                elif event.level is not None:
                    self._fetches.want_policies(event.level)

    def lost(self, reason: str) -> None:
        """Note that events may be missed from now on."""
        del reason  # it is in the log and in the status
        self._bound = 0
        self._attempted.set()
        self._status.mark_outdated()

    # -- events, with the lock -------------------------------------------------------------------

    def _deploy(self, event: DeployEvent) -> None:
        labels = self._own(event.labels or self._served(event.uuid))
        kind: EventKind = "deploy" if event.labels else "api"
        self._show(kind, "applied" if labels else "ignored", event.uuid)
        if labels:
            now = _milliseconds()
            for label in labels:
                self._order.record(deployment_key(event.uuid, label), event.at, now)
            self._fetches.want_api(event.uuid, labels, event.context, event.version)

    async def _undeploy(self, event: UndeployEvent) -> None:
        labels = self._own(event.labels)
        artifacts = self._writer.current.artifacts.get(event.uuid, ())
        owners = {each.organization for each in artifacts if each.organization}
        result: EventResult = "ignored"
        if labels and not (event.tenant and owners and event.tenant not in owners):
            own = UndeployEvent(event.uuid, labels, event.tenant, event.at)
            result = await self._apply(own)
            if result == "stale":
                self._fetches.want_api(event.uuid, labels)  # API Manager knows
            else:
                self._fetches.repeat_api(event.uuid, labels)
        self._show("undeploy", result, event.uuid)

    async def _apply(self, event: Applied) -> EventResult:
        now = _milliseconds()
        state = self._writer.current
        if reconcile.is_stale(state, event, self._order, now):
            return "stale"
        if self._during_pull is not None:
            self._during_pull.append(event)
            if len(self._during_pull) > MAX_EVENTS:
                self._pulling.cancel()
        await self._writer.change(reconcile.effect(state, event, now))
        return "applied"

    def _own(self, labels: Iterable[str]) -> tuple[str, ...]:
        named = {*labels}
        return tuple(label for label in self._labels if label in named)

    def _served(self, uuid: str) -> set[str]:
        artifacts = self._writer.current.artifacts.get(uuid, ())
        return {place[0] for each in artifacts for place in each.placements}

    # -- Fetched ---------------------------------------------------------------------------------

    async def take_fetched(self, found: reconcile.FetchedApi | reconcile.FetchedPolicies) -> None:
        """Apply what was fetched."""
        async with self._turn:
            await self._apply(found)

    def fetch_failed(self, problems: Sequence[Problem], refused: str = "") -> None:
        """Show what could not be fetched or used, until the next pull."""
        if refused:
            self._show("policy" if refused in POLICIES else "deploy", "failed", refused)
        for problem in problems:
            self._say(str(problem))
        shown = dict.fromkeys((*self._status.problems, *problems))
        self._status.problems = tuple(shown)[-MAX_PROBLEMS:]

    def want_pull(self) -> None:
        """Pull everything soon."""
        self._wanted.set()

    # -- pulls -----------------------------------------------------------------------------------

    async def _pull_forever(self) -> None:
        with trio.move_on_after(GRACE):
            await self._attempted.wait()
        pauses = Pauses(self._settings.retry_interval * SLOW)
        while True:
            self._wanted = trio.Event()
            if await self._pull():
                pauses.reset()
                await self._wanted.wait()
            else:
                await pauses.wait(self._wanted)

    async def _pull(self) -> bool:
        """Pull everything; return whether nothing was missing."""
        began, bound = trio.current_time(), self._bound
        self._status.pull_started()
        pulled: Pulled | None = None
        try:
            while pulled is None:
                self._during_pull = []
                with trio.CancelScope() as self._pulling:
                    pulled = await pull(self._client, self._settings, self._writer.artifacts)
            if pulled.useless:
                self._status.pull_failed(pulled.problems[0].what)
            else:
                await self._adopt(pulled)
        finally:
            self._during_pull = None
            self._status.pulling = False
        for problem in pulled.problems:
            self._say(str(problem))
        if pulled.useless:
            return False
        complete = pulled.missing <= {API_POLICIES}
        self._status.pull_ended(trio.current_time() - began, pulled.problems)
        if complete and bound and bound == self._bound:
            self._status.mark_current()
        return complete

    async def _adopt(self, pulled: Pulled) -> None:
        """Make what was pulled the current state, with the events that came meanwhile."""
        async with self._turn:
            now = _milliseconds()
            for (uuid, label), at in pulled.deployed_at.items():
                self._order.record(deployment_key(uuid, label), at, now)
            events = self._during_pull or ()
            work = partial(self._joined, pulled, self._writer.current, events, now)
            await self._writer.replace(await trio.to_thread.run_sync(work))
            self._during_pull = None

    def _joined(
        self, pulled: Pulled, current: ControlPlaneState, events: Sequence[Applied], now: int
    ) -> ControlPlaneState:
        merged = pulled.merged(current)
        return reconcile.after_pull(merged, current, events, self._order, now)

    async def _tidy_forever(self) -> None:
        while True:
            await trio.sleep(TIDY)
            async with self._turn:
                current, now = self._writer.current.entitlements, _milliseconds()
                for change in (entitlements.expired(current, now), decision.expired(current, now)):
                    await self._writer.change(StateChange(change))

    def _show(self, kind: EventKind, result: EventResult, what: str) -> None:
        self._status.event(kind, result, printable(what[:200]))

    def _say(self, text: str) -> None:
        """Log a text, as a warning when it is new."""
        level = logging.DEBUG if text in self._said else logging.WARNING
        if len(self._said) >= MAX_SAID:
            self._said.clear()
        self._said.add(text)
        log.log(level, "%s", text)


def _milliseconds() -> int:
    return int(time.time() * 1000)
