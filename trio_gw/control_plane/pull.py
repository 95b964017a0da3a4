"""Everything that API Manager holds for this gateway, read over REST.

The requests are independent of each other and go out together. What API Manager refuses, garbles,
or does not answer while it answers others, is missing in the result, with a problem; all other
parts are there. spec: control-plane §2-§4.
"""

from __future__ import annotations

import base64
import tempfile
import time
from functools import partial
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, TypeVar

import trio
from msgspec import structs

from trio_gw.config.entitlements import ApiRow, Entitlements, PolicyRow, of_rows
from trio_gw.config.faults import printable
from trio_gw.control_plane import rest_rows
from trio_gw.control_plane.artifacts import ReadArtifacts, read_artifacts
from trio_gw.control_plane.fields import BadRowError
from trio_gw.control_plane.rest_faults import RestError
from trio_gw.control_plane.state import state_of
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from trio_gw.config.control_plane import ControlPlaneSettings
    from trio_gw.config.entitlements import PolicyLevel, Row
    from trio_gw.control_plane.artifacts import ArtifactStore
    from trio_gw.control_plane.rest_client import RestClient
    from trio_gw.control_plane.rest_rows import TableRows
    from trio_gw.control_plane.state import Artifact, ControlPlaneState

T = TypeVar("T")

ARTIFACTS = "runtime-artifacts"
APIS = "apis"
API_POLICIES = "api-policies"  # not an error if API Manager does not have them
POLICIES: Mapping[PolicyLevel, str] = {
    "application": "application-policies",
    "subscription": "subscription-policies",
    "api": API_POLICIES,
}
_TABLES: Mapping[str, tuple[str, Callable[[bytes], TableRows]]] = {
    "subscriptions": ("subscriptions", partial(rest_rows.table, parser=rest_rows.subscription)),
    "applications": ("applications", partial(rest_rows.table, parser=rest_rows.application)),
    "application-key-mappings": (
        "key_mappings",
        partial(rest_rows.table, parser=rest_rows.key_mapping),
    ),
    "application-policies": (
        "policies",
        partial(rest_rows.table, parser=rest_rows.policy("application")),
    ),
    "subscription-policies": (
        "policies",
        partial(rest_rows.table, parser=rest_rows.policy("subscription")),
    ),
    API_POLICIES: ("policies", partial(rest_rows.table, parser=rest_rows.policy("api"))),
    "revokedjwt": ("revoked", partial(rest_rows.table, parser=rest_rows.revoked)),
    "keymanagers": ("key_managers", partial(rest_rows.table, parser=rest_rows.key_manager)),
    "keyTemplates": ("key_templates", rest_rows.key_templates),
    "block": ("blocks", rest_rows.blocks),
}
_LEVELS = {name: level for level, name in POLICIES.items()}


class Pulled(NamedTuple):
    """What API Manager holds. `missing` names the requests without a usable answer.

    `broken` has the UUIDs of APIs that are deployed but cannot be read, `deployed_at` the times of
    deployments by UUID and environment in milliseconds.
    """

    entitlements: Entitlements
    artifacts: tuple[Artifact, ...]
    problems: tuple[Problem, ...]
    missing: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    deployed_at: Mapping[tuple[str, str], int] = MappingProxyType({})

    @property
    def useless(self) -> bool:
        """Whether nothing was answered, except perhaps what may be absent."""
        return self.missing >= {*_TABLES, APIS, ARTIFACTS} - {API_POLICIES}

    def merged(self, current: ControlPlaneState) -> ControlPlaneState:
        """Return the state with what was pulled, and with the current one of what is missing.

        Until the artifacts were there once, it is not the state of a pull: nothing can be served.
        """
        rows = list(self.entitlements.rows())
        kept: list[Row] = []
        for name in self.missing - {ARTIFACTS}:
            field = APIS if name == APIS else _TABLES[name][0]
            level = _LEVELS.get(name)
            kept += [
                row
                for row in getattr(current.entitlements, field).values()
                if level is None or row.level == level
            ]
        entitlements = of_rows([*kept, *rows]) if kept else self.entitlements
        if ARTIFACTS in self.missing:
            pulled_at = time.time() if current.pulled_at else 0.0
            state = state_of(entitlements, (), pulled_at)
            return structs.replace(state, artifacts=current.artifacts)
        old = [each for uuid in self.broken for each in current.artifacts.get(uuid, ())]
        return state_of(entitlements, (*old, *self.artifacts), time.time())


async def pull(client: RestClient, settings: ControlPlaneSettings, store: ArtifactStore) -> Pulled:
    """Read everything. Requests are repeated while their failure is temporary."""
    return await _Pull(client, settings, store).run()


class PulledApi(NamedTuple):
    """One API: its artifacts in these environments, none if it is not deployed; its row, if any."""

    artifacts: tuple[Artifact, ...]
    row: ApiRow | None
    problems: tuple[Problem, ...]
    broken: bool


async def pull_api(
    client: RestClient,
    settings: ControlPlaneSettings,
    store: ArtifactStore,
    uuid: str,
    labels: Sequence[str],
    which: Mapping[str, str] = MappingProxyType({}),
) -> PulledApi:
    """Read one API in these environments. Raises `RestError` if API Manager refuses that.

    `which` has the `context` and the `version` of the API, so that only its row is sent.
    """
    one = _Pull(client, settings, store)
    read = ReadArtifacts()
    rows: list[ApiRow] = []

    async def artifacts() -> None:
        nonlocal read
        read = await one.artifacts(labels, uuid)

    async def metadata(label: str, which: Mapping[str, str]) -> None:
        rows.extend(row for row in await one.apis(label, which) if row.uuid == uuid)

    await _together([artifacts, *(partial(metadata, label, which) for label in labels)])
    found = tuple(each for each in read.artifacts if each.uuid == uuid)
    if found and which and not rows:  # it may have another context by now
        await _together([partial(metadata, label, {}) for label in labels])
    row = _joined(rows).get(uuid)
    return PulledApi(found, row, (*read.problems, *one.problems), uuid in read.broken)


async def pull_policies(
    client: RestClient, settings: ControlPlaneSettings, store: ArtifactStore, level: PolicyLevel
) -> tuple[PolicyRow, ...]:
    """Read the policies of a level. Raises `RestError` if API Manager refuses that."""
    rows = await _Pull(client, settings, store).table(POLICIES[level])
    return tuple(row for row in rows if isinstance(row, PolicyRow))


class _Pull:
    """One call of `pull` or its parts."""

    def __init__(
        self, client: RestClient, settings: ControlPlaneSettings, store: ArtifactStore
    ) -> None:
        self._client = client
        self._url = settings.url
        self._labels = settings.environments
        self._store = store
        self._limiter = trio.CapacityLimiter(1)  # decoding holds the interpreter's lock
        self._answered = False  # a request of several that do not need each other
        self.problems: list[Problem] = []

    async def run(self) -> Pulled:
        rows: dict[str, tuple[Row, ...]] = {}
        apis: list[ApiRow] = []
        missing: set[str] = set()
        read = ReadArtifacts()

        async def one(name: str, work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
                self._answered = True
            except RestError as error:
                missing.add(name)
                if name != API_POLICIES:
                    self._record(name, error.what, error.hint)

        async def table(name: str) -> None:
            rows[name] = await self.table(name)

        async def label_apis(label: str) -> None:
            apis.extend(await self.apis(label, {}))

        async def artifacts() -> None:
            nonlocal read
            read = await self.artifacts(self._labels)

        async with trio.open_nursery() as nursery:
            for name in _TABLES:
                nursery.start_soon(one, name, partial(table, name))
            for label in self._labels or ("Default",):
                nursery.start_soon(one, APIS, partial(label_apis, label))
            nursery.start_soon(one, ARTIFACTS, artifacts)
        joined = _joined(apis)
        every = [row for found in rows.values() for row in found]
        entitlements = await self._in_thread(partial(of_rows, [*every, *joined.values()]))
        return Pulled(
            entitlements,
            read.artifacts,
            (*_named(read.problems, joined), *self.problems),
            frozenset(missing),
            read.broken,
            read.deployed_at,
        )

    async def table(self, name: str) -> tuple[Row, ...]:
        """Read a table. Raises `RestError`."""
        return await self._rows(name, {}, _TABLES[name][1], optional=name == API_POLICIES)

    async def apis(self, label: str, which: Mapping[str, str]) -> list[ApiRow]:
        """Read the APIs of an environment. Raises `RestError`."""
        parser = partial(rest_rows.table, parser=rest_rows.api(label))
        rows = await self._rows(APIS, {"gatewayLabel": label, **which}, parser)
        return [row for row in rows if isinstance(row, ApiRow)]

    async def _rows(
        self,
        name: str,
        query: dict[str, str],
        parser: Callable[[bytes], TableRows],
        *,
        optional: bool = False,
    ) -> tuple[Row, ...]:
        async def attempt() -> TableRows:
            body = await self._client.json(name, query)
            try:
                return await self._in_thread(partial(parser, body))
            except BadRowError as error:
                raise self._client.reject(name, f"has sent what cannot be used: {error}") from None

        refusals = 0 if optional else 1
        found = await self._patiently(attempt, refusals)
        if found.skipped:
            what = f"{found.skipped:,} of its rows are skipped, the first because {found.reason}"
            self._record(name, what, "correct it in API Manager", "warning")
        return found.rows

    async def artifacts(self, labels: Sequence[str], uuid: str = "") -> ReadArtifacts:
        """Read the artifacts in these environments. Raises `RestError`."""
        query = {"type": "Envoy"}
        if labels:
            query["gatewayLabel"] = base64.b64encode("|".join(labels).encode()).decode()
        if uuid:
            query["apiId"] = uuid

        async def attempt() -> ReadArtifacts:
            file: IO[bytes] | None = None
            try:
                file = await self._in_thread(tempfile.TemporaryFile)
                if await self._client.download(ARTIFACTS, query, file) != 200:
                    return ReadArtifacts()
                return await self._in_thread(partial(read_artifacts, file, self._store))
            except UnusableError as error:
                what = f"has sent what cannot be used: {error.problems[0].what}"
                raise self._client.reject(ARTIFACTS, what) from None
            except OSError as error:
                what = f"has sent what cannot be kept ({error.strerror})"
                raise self._client.reject(ARTIFACTS, what) from None
            finally:
                if file is not None:
                    with trio.CancelScope(shield=True):
                        await self._in_thread(file.close)

        read = await self._patiently(attempt)
        artifacts = (_within(each, labels) for each in read.artifacts) if labels else read.artifacts
        return read._replace(artifacts=tuple(each for each in artifacts if each.placements))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], refusals: int = 1) -> T:
        return await self._client.patiently(
            attempt, refusals=refusals, others=lambda: self._answered
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _record(
        self, name: str, what: str, hint: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        self.problems.append(Problem(f"{self._url}: {name}", 0, 0, what, hint, severity))


def _within(artifact: Artifact, labels: Sequence[str]) -> Artifact:
    places = tuple(place for place in artifact.placements if place[0] in labels)
    return structs.replace(artifact, placements=places)


def _joined(rows: Iterable[ApiRow]) -> dict[str, ApiRow]:
    """Join the rows of an API from several environments."""
    found: dict[str, ApiRow] = {}
    for row in rows:
        if (other := found.get(row.uuid)) is not None:
            labels = tuple(sorted({*other.labels, *row.labels}))
            found[row.uuid] = structs.replace(row, labels=labels)
        else:
            found[row.uuid] = row
    return found


def _named(problems: Iterable[Problem], apis: Mapping[str, ApiRow]) -> tuple[Problem, ...]:
    """Give problems with inner zips the name of their API."""
    named = []
    for problem in problems:
        row = apis.get(problem.file.removeprefix(f"{ARTIFACTS}/")[:36])
        if row is not None and row.name:
            problem = structs.replace(problem, file=printable(f"{row.name} {row.version}"))
        named.append(problem)
    return tuple(named)


async def _together(work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do work at the same time; the first `RestError` ends all of it and is raised."""
    failed: list[RestError] = []

    async def run(one: Callable[[], Awaitable[None]]) -> None:
        try:
            await one()
        except RestError as error:
            failed.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for one in work:
            nursery.start_soon(run, one)
    if failed:
        raise failed[0]
