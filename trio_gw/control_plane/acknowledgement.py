"""Tell API Manager which revisions are deployed here, and which no longer are.

Only with `control_plane.revision_updates`, and in one process only. What is served is compared
with what API Manager was told last, so nothing waits in a queue that could grow. Each message has
three attempts; what API Manager does not accept is not repeated, and not told anybody else.
spec: control-plane §9.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from trio_gw.config import document, layout
from trio_gw.control_plane.rest_faults import RestError
from trio_gw.control_plane.state import EMPTY_STATE
from trio_gw.errors import UnusableError
from trio_gw.feed import archive

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Protocol

    from trio_gw.control_plane.state import Artifact, ControlPlaneState
    from trio_gw.control_plane.status import QueueStatus

    class Send(Protocol):
        """Sends JSON once; raises `RestError` unless it is accepted (`RestClient.send`)."""

        async def __call__(self, method: str, name: str, body: bytes, /) -> None: ...


log = logging.getLogger("trio_gw.control_plane")

DEPLOYED, UNDEPLOYED = "apis/deployed-revisions", "apis/undeployed-revision"
TRIES = 3
PAUSE = 2.0  # seconds between the attempts of a message about an undeployed revision
BATCH = 100  # APIs in one message
MAX_REVISION = 2**31 - 1
QUEUE = "acknowledgements"  # the name in the status and in metrics

_Place = tuple[str, str, str]  # UUID of the API, UUID of the revision, environment


class _Environment(msgspec.Struct, frozen=True):
    name: str
    vhost: str


class _Deployed(msgspec.Struct, frozen=True):
    api_id: str = msgspec.field(name="apiId")
    revision_id: int = msgspec.field(name="revisionId")
    environments: tuple[_Environment, ...] = msgspec.field(name="envInfo")


class _Undeployed(msgspec.Struct, frozen=True):
    api_uuid: str = msgspec.field(name="apiUUID")
    revision_uuid: str = msgspec.field(name="revisionUUID")
    environment: str


class _Message(NamedTuple):
    """One message, how many entries it has, and the pause between its attempts in seconds."""

    method: str
    name: str
    body: bytes
    entries: int
    pause: float


class Acknowledgements:
    """Sends what changed. `queue` counts the APIs that wait, and those that were given up.

    `read` returns the zip of a project by its digest (`ArtifactFolder.read`): it blocks, and raises
    OSError, ValueError.
    """

    def __init__(self, send: Send, read: Callable[[str], bytes], queue: QueueStatus) -> None:
        self._since = time.time()
        self._send = send
        self._read = read
        self._queue = queue
        self._wanted: ControlPlaneState = EMPTY_STATE
        self._unserved: frozenset[str] = frozenset()
        self._told: dict[str, tuple[Artifact, ...]] = {}
        self._wake = trio.Event()

    def update(self, state: ControlPlaneState, unserved: Collection[str] = ()) -> None:
        """Take what is served now: all APIs of a state, except those with these UUIDs.

        A state from an earlier run is ignored: API Manager may not be reachable yet.
        """
        if state.pulled_at < self._since:
            return
        self._wanted, self._unserved = state, frozenset(unserved)
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            deployed, undeployed = self._changes()
            self._queue.waiting = len(deployed) + len(undeployed)
            for start in range(0, len(deployed), BATCH):
                part = deployed[start : start + BATCH]
                body = await trio.to_thread.run_sync(self._deployed, part)
                if body:
                    await self._deliver(_Message("PATCH", DEPLOYED, body, len(part), 0.0))
                self._queue.waiting -= len(part)
            for place in undeployed:
                body = msgspec.json.encode(_Undeployed(*place))
                await self._deliver(_Message("POST", UNDEPLOYED, body, 1, PAUSE))
                self._queue.waiting -= 1

    def _changes(self) -> tuple[list[Artifact], list[_Place]]:
        """Return the new revisions and the ended ones, and take them as told."""
        deployed: list[Artifact] = []
        undeployed: list[_Place] = []
        current = {
            uuid: artifacts
            for uuid, artifacts in self._wanted.artifacts.items()
            if uuid not in self._unserved
        }
        for uuid, artifacts in current.items():
            before = self._told.get(uuid, ())
            if artifacts != before:
                deployed += (artifact for artifact in artifacts if artifact not in before)
        for uuid, before in self._told.items():
            if uuid in self._unserved and uuid in self._wanted.artifacts:
                current[uuid] = before  # its last good revision is served
            elif before != current.get(uuid, ()):
                still = {
                    environment
                    for artifact in current.get(uuid, ())
                    for environment, _ in artifact.placements
                }
                undeployed += (place for place in _places(before) if place[2] not in still)
        self._told = current
        return deployed, undeployed

    def _deployed(self, artifacts: list[Artifact]) -> bytes:
        """Write the body for some revisions; empty if none of them has a number. In a thread."""
        items = []
        for artifact in artifacts:
            try:
                number = revision_number(self._read(artifact.digest))
            except (OSError, ValueError, UnusableError) as error:
                log.warning("the revision of API %s is not acknowledged: %s", artifact.uuid, error)
                self._queue.dropped += 1
                continue
            # One item for each vhost, with its environments.
            for vhost in dict.fromkeys(vhost for _, vhost in artifact.placements):
                there = [each for each, where in artifact.placements if where == vhost]
                environments = tuple(_Environment(each, vhost) for each in dict.fromkeys(there))
                items.append(_Deployed(artifact.uuid, number, environments))
        return msgspec.json.encode(items) if items else b""

    async def _deliver(self, message: _Message) -> None:
        """Send a message, in up to three attempts."""
        for attempt in range(1, TRIES + 1):
            try:
                await self._send(message.method, message.name, message.body)
            except RestError as error:
                reason = error.what
            else:
                return
            if attempt < TRIES:
                await trio.sleep(message.pause)
        self._queue.dropped += message.entries
        log.warning("API Manager %s: %s is given up after %d attempts", reason, message.name, TRIES)


def _places(artifacts: tuple[Artifact, ...]) -> Iterator[_Place]:
    for artifact in artifacts:
        for environment, _ in artifact.placements:
            yield artifact.uuid, artifact.revision, environment


def revision_number(data: bytes) -> int:
    """Return the number of the revision in a zipped project: `revisionId` of its `api.yaml`.

    Raises ValueError if there is none, `UnusableError` if the zip or the file cannot be used.
    """
    files = archive.unpack(data, "artifact")
    names = [name for name in files if layout.kind(name) == "api"]
    if not names:
        raise ValueError("there is no api.yaml")
    name = min(names, key=lambda each: (each.count("/"), each))
    found = document.read(files[name], name).value(("data", "revisionId"))
    text = str(found)
    if isinstance(found, bool) or not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError("`revisionId` in api.yaml is not a number")
    if (number := int(text)) > MAX_REVISION:
        raise ValueError("`revisionId` in api.yaml is too large")
    return number
