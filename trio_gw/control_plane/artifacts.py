"""The zip of artifacts from API Manager: which revision of which API is deployed where. Blocks.

The zip is flat: `deployments.json`, `env_properties.json`, and one inner zip for each revision.
Inner zips are not opened here; they are kept by their digest, one in memory at a time. A fault of
one inner zip is a problem of its API only. spec: control-plane §3.
"""

from __future__ import annotations

import hashlib
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from trio_gw.control_plane.fields import BadRowError, Fields, parse
from trio_gw.control_plane.state import Artifact
from trio_gw.errors import Problem, UnusableError
from trio_gw.feed.zip_directory import ZipReader
from trio_gw.feed.zip_entries import FLAG_ENCRYPTED, ZipEntries

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Mapping

MAX_ZIP = 1 << 30  # bytes of the outer zip
MAX_UNPACKED = 4 << 30  # bytes of all inner zips
MAX_PROJECT = 64 << 20  # bytes of one inner zip
MAX_DOCUMENT = 16 << 20  # bytes of one JSON document
MAX_PROBLEMS = 100
NAME = "runtime-artifacts"  # of the zip in problems

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FILE = re.compile(rf"({_UUID})-(.+)\.zip", re.IGNORECASE)
_OTHER_FILE = re.compile(r"(.+)-([^-]+)\.zip", re.IGNORECASE)
_HINT = "deploy the API again in API Manager"


class ArtifactStore(Protocol):
    """Keeps the zips of projects by their digests, the hexadecimal SHA-256. Blocks."""

    def has(self, digest: str) -> bool:
        """Return whether it is there, undamaged."""
        ...

    def put(self, digest: str, data: bytes) -> None:
        """Keep a zip. Raises OSError."""
        ...


class ReadArtifacts(NamedTuple):
    """The artifacts, oldest deployment first, and the problems.

    `broken` has the UUIDs of APIs that are deployed but cannot be read. `deployed_at` has the
    time of each deployment by UUID and environment, in milliseconds.
    """

    artifacts: tuple[Artifact, ...] = ()
    problems: tuple[Problem, ...] = ()
    broken: frozenset[str] = frozenset()
    deployed_at: Mapping[tuple[str, str], int] = MappingProxyType({})


class _Deployment(NamedTuple):
    """One entry of `deployments.json`."""

    at: int
    file: str
    uuid: str
    revision: str
    organization: str
    placements: tuple[tuple[str, str], ...]


def read_artifacts(file: BinaryIO, store: ArtifactStore) -> ReadArtifacts:
    """Read the zip and keep the inner zips that `store` does not have.

    Raises `UnusableError` if the zip or `deployments.json` cannot be used, OSError.
    """
    return _ArtifactZip(file, store).run()


class _ArtifactZip:
    """One call of `read_artifacts`."""

    def __init__(self, file: BinaryIO, store: ArtifactStore) -> None:
        self._zip = ZipReader(file, NAME, MAX_ZIP)
        self._store = store
        directory = self._zip.directory()
        infos = self._zip.infos(directory)
        self._entries = ZipEntries(self._zip, infos, directory)
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if self._infos.setdefault(info.filename.lower(), info) is not info:
                self._zip.refuse("is in the zip twice", path=info.filename)
        if sum(info.file_size for info in infos) > MAX_UNPACKED:
            self._zip.refuse(f"unpacks to more than {MAX_UNPACKED >> 30} GiB", _HINT)
        self._problems: list[Problem] = []
        self._digests: dict[str, str] = {}

    def run(self) -> ReadArtifacts:
        overrides = self._overrides()
        artifacts: list[Artifact] = []
        broken: set[str] = set()
        deployed_at: dict[tuple[str, str], int] = {}
        for each in sorted(self._deployments()):
            deployed_at |= {(each.uuid, environment): each.at for environment, _ in each.placements}
            try:
                digest = self._kept(each.file)
            except UnusableError as error:
                self._problems += error.problems
                broken.add(each.uuid)
                continue
            artifacts += _artifacts(each, digest, overrides.get(each.uuid.lower(), {}))
        found = list(dict.fromkeys(self._problems))
        if len(found) > MAX_PROBLEMS:
            what = f"{len(found) - MAX_PROBLEMS:,} more problems are not shown"
            found[MAX_PROBLEMS:] = [self._zip.problem(what, "solve those that are shown first")]
        return ReadArtifacts(tuple(artifacts), tuple(found), frozenset(broken), deployed_at)

    def _data(self, name: str, limit: int) -> bytes:
        """Unpack an entry of any case of letters. Raises UnusableError."""
        info = self._infos.get(name.lower())
        if info is None:
            self._zip.refuse("is missing in the zip of API Manager", _HINT, name)
        if info.file_size > limit:
            self._zip.refuse(f"is larger than {limit >> 20} MiB", _HINT, name)
        if info.flag_bits & FLAG_ENCRYPTED or info.compress_type not in (0, 8):
            self._zip.refuse("is packed in an unsupported way", _HINT, name)
        return self._entries.data(info, name)

    def _kept(self, name: str) -> str:
        """Keep an inner zip; return its digest. Raises UnusableError, OSError."""
        found = self._digests.get(name.lower())
        if found is None:
            data = self._data(name, MAX_PROJECT)
            found = self._digests[name.lower()] = hashlib.sha256(data).hexdigest()
            if not self._store.has(found):
                self._store.put(found, data)
        return found

    def _deployments(self) -> list[_Deployment]:
        name = "deployments.json"
        found: list[_Deployment] = []
        try:
            data = Fields(parse(self._data(name, MAX_DOCUMENT))).inner("data")
            rows = data.items("deployments") if data else []
        except BadRowError as error:
            self._zip.refuse(str(error), "retrying slowly", name)
        for row in rows:
            try:
                found.append(_deployment(Fields(row)))
            except BadRowError as error:
                what = f"an entry is skipped: {error}"
                self._problems.append(self._zip.problem(what, _HINT, name))
        return found

    def _overrides(self) -> dict[str, dict[str, tuple[str, str]]]:
        """Return the backends of production and sandbox, by UUID and environment."""
        name = "env_properties.json"
        if name not in self._infos:
            return {}
        found: dict[str, dict[str, tuple[str, str]]] = {}
        try:
            apis = Fields(parse(self._data(name, MAX_DOCUMENT))).inner("apis")
        except (BadRowError, UnusableError):
            what = "cannot be read; the backends of the projects are used"
            self._problems.append(self._zip.problem(what, _HINT, name))
            return {}
        if apis is None:
            return {}
        for uuid in apis.names():
            try:
                found[uuid.lower()] = _endpoints(apis, uuid)
            except BadRowError as error:
                what = f"the backends of API {uuid[:80]} are skipped: {error}"
                self._problems.append(self._zip.problem(what, _HINT, name))
        return found


def _deployment(fields: Fields) -> _Deployment:
    file = fields.required("apiFile")
    match = _FILE.fullmatch(file) or _OTHER_FILE.fullmatch(file)
    if match is None:
        raise BadRowError("`apiFile` is not <API>-<revision>.zip")
    at = 0
    placements: dict[tuple[str, str], None] = {}
    for row in fields.items("environments"):
        environment = Fields(row)
        at = max(at, environment.number("deployedTimeStamp"))
        placements[(environment.required("name"), environment.text("vhost").lower())] = None
    if not placements:
        raise BadRowError("`environments` is empty")
    organization = fields.text("organizationId")
    return _Deployment(at, file, match[1], match[2], organization, tuple(sorted(placements)))


def _endpoints(apis: Fields, uuid: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    environments = apis.inner(uuid)
    for name in environments.names() if environments else ():
        environment = environments.inner(name) if environments else None
        configs = environment.inner("configs") if environment else None
        if configs is not None:
            found[name] = configs.text("productionEndpoint"), configs.text("sandboxEndpoint")
    return found


def _artifacts(
    deployment: _Deployment, digest: str, overrides: dict[str, tuple[str, str]]
) -> list[Artifact]:
    """Make the artifacts of a deployment, one for the vhosts with the same backends.

    The first environment of a vhost decides about its backends.
    """
    vhosts: dict[str, list[tuple[str, str]]] = {}
    for place in deployment.placements:
        vhosts.setdefault(place[1], []).append(place)
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for places in vhosts.values():
        backends = overrides.get(places[0][0], ("", ""))
        groups.setdefault(backends, []).extend(places)
    return [
        Artifact(
            uuid=deployment.uuid,
            revision=deployment.revision,
            digest=digest,
            placements=tuple(sorted(places)),
            organization=deployment.organization,
            production=backends[0],
            sandbox=backends[1],
        )
        for backends, places in groups.items()
    ]
