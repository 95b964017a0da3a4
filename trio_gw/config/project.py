"""Turns the files of an API project (bytes by relative path) into an `ApiProject` or problems.

The store calls `wanted` before it reads a file, and passes the content to `load`. The content never
causes an exception: every fault is a `Problem`, and a project is loaded completely or not at all.
spec: project-format §2, §6, §7, §8.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.config import (
    apiyaml,
    asyncapi,
    backends,
    certificates,
    deployments,
    document,
    foreign,
    layout,
    overrides,
    topic,
)
from trio_gw.config.api import ApiProject, ClientCertificate
from trio_gw.config.faults import WrongError, printable
from trio_gw.config.findings import Findings
from trio_gw.config.node_builder import IncompleteError
from trio_gw.errors import Problem, UnusableError, has_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.api import Cluster

_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


class LoadedProject(msgspec.Struct, frozen=True):
    """The outcome for one project folder or zip.

    `project` is None exactly when a problem is an error. `incomplete`: the project may still be
    being copied, because a mandatory file is missing or truncated.
    """

    project: ApiProject | None
    problems: tuple[Problem, ...]
    incomplete: bool = False


class _CertificateFolder(NamedTuple):
    """A folder of certificates: its files, the certificates of those that are good, its map."""

    names: list[str]
    found: dict[str, tuple[str, ...]]
    map: Findings | None


def wanted(path: str) -> bool:
    """Return whether `load` reads the file at this POSIX path (spec: project-format §2)."""
    return layout.kind(path) is not None


def load(
    files: Mapping[str, bytes], folder: str, environ: Mapping[str, str] = _NO_ENVIRONMENT
) -> LoadedProject:
    """Load a project from its files; `folder` is how messages name it. Never raises.

    Ignores paths that are not `wanted`. `environ` may replace backends and credentials (see
    `overrides`). spec: project-format §2.2, §6.
    """
    loading = _Loading(files, folder)
    project = loading.run(environ)
    problems = tuple(sorted(set(loading.problems)))
    return LoadedProject(None if has_errors(problems) else project, problems, loading.incomplete)


class _Loading:
    """One call of `load`: the files by kind, and the problems so far."""

    def __init__(self, files: Mapping[str, bytes], folder: str) -> None:
        self.problems: list[Problem] = []
        self.incomplete = False
        self._files = files
        self._folder = folder
        self._names: dict[layout.Kind, list[str]] = {}
        for name in sorted(files):
            kind = layout.kind(name)
            if kind is not None:
                self._names.setdefault(kind, []).append(name)

    def run(self, environ: Mapping[str, str]) -> ApiProject | None:
        api = self._read("api", "could not find api.yaml or api.json", "copy `api.yaml`")
        if api and foreign.recognised(api):
            self.problems += api.problems
            return None
        declared = apiyaml.read(api) if api else None
        if api and declared and declared.foreign:
            # Its definition follows other rules, so problems in it would mislead.
            self.problems += api.problems
            return None
        kind: layout.Kind = "openapi" if "asyncapi" not in self._names else "asyncapi"
        source = self._read(
            kind if kind in self._names else "asyncapi",
            "there is no AsyncAPI definition; API version not specified or not supported",
            "copy it to `Definitions/asyncapi.yaml` or `Definitions/asyncapi.json`",
        )
        lone = (
            api is not None
            and declared is not None
            and not (declared.production.endpoints or api.spoilt(backends.CONFIG))
        )
        definition = asyncapi.read(source, lone=lone) if source else None
        environments = self._read("deployments")
        placed = deployments.read(environments) if environments else ()
        clusters: dict[str, Cluster | None] = {}
        if api and declared and source and definition:
            sides = self._sides(api, declared, definition, environ)
            _check_endpoints(api, declared, source, sides)
            clusters = self._trusted(sides)
        clients = self._clients()
        for findings in (api, source, environments):
            self.problems += findings.problems if findings else ()
        if declared is None or definition is None:
            return None
        return ApiProject(
            folder=self._folder,
            id=declared.id,
            name=declared.name,
            version=declared.version,
            context=declared.context,
            topics=topic.tiered(definition.topics, declared.tiers),
            production=clusters.get("production"),
            sandbox=clusters.get("sandbox"),
            lifecycle=declared.lifecycle,
            default_version=declared.default_version,
            tier=declared.tier,
            authorization_header=declared.authorization_header,
            organization=declared.organization,
            cors=declared.cors,
            oauth2=definition.oauth2,
            deployments=placed,
            client_certificates=clients,
            mutual_tls=declared.mutual_tls,
            unenforced=definition.unenforced,
            preserve_host=definition.preserve_host,
        )

    def _read(
        self, kind: layout.Kind, missing: str = "", hint: str = "", below: str = ""
    ) -> Findings | None:
        """Read the shallowest file of a kind; two equally shallow ones are a problem."""
        names = [name for name in self._names.get(kind, ()) if name.startswith(below)]
        if not names:
            if missing:
                self.incomplete = True
                self._note(missing, hint)
            return None
        depth = min(name.count("/") for name in names)
        first, *others = [name for name in names if name.count("/") == depth]
        if others:
            what = f"`{first}` and `{others[0]}` are the same kind of file"
            self._note(what, "remove one of the two")
            return None
        try:
            return Findings(document.read(self._files[first], f"{self._folder}/{first}"))
        except UnusableError as error:
            self.incomplete = self.incomplete or isinstance(error, IncompleteError)
            self.problems += error.problems
            return None

    def _note(self, what: str, hint: str, file: str = "") -> None:
        place = f"{self._folder}/{file}" if file else self._folder
        self.problems.append(Problem(place, 0, 0, printable(what), printable(hint)))

    def _sides(
        self,
        api: Findings,
        declared: apiyaml.DeclaredApi,
        definition: asyncapi.Definition,
        environ: Mapping[str, str],
    ) -> dict[str, backends.SideBackends]:
        """Determine the backends: api.yaml, then the definition, then the environment (§6)."""
        own = overrides.fingerprint(declared.name, declared.version)
        given = overrides.Overrides(environ, own, self._folder)
        sides = {}
        for kind, side, server in (
            ("production", declared.production, definition.production),
            ("sandbox", declared.sandbox, definition.sandbox),
        ):
            sides[kind] = given.applied(kind, side if server is None else side.replaced(server))
            basic = sides[kind].basic
            if basic is not None and not basic.username and sides[kind].endpoints:
                what = f"`endpoint_security` of {kind} has no user name"
                hint = "write `username` and `password`, or `enabled: false`"
                api.warn((*backends.CONFIG, "endpoint_security", kind), what, hint)
        self.problems += given.problems
        return sides

    def _trusted(self, sides: dict[str, backends.SideBackends]) -> dict[str, Cluster | None]:
        """Assign the certificates of the project to the endpoints (§8)."""
        held = self._certificates("endpoint", "certificate validation error")
        trust = certificates.trust(held.found, held.map, held.names)
        called = {
            certificates.without_slash(each) for side in sides.values() for each in side.endpoints
        }
        for backend, path in trust.places.items():
            if held.map is not None and backend not in called:
                what = f"no endpoint of this API is `{backend}`, so its certificate is not used"
                held.map.warn(path, what, "write the URL as `endpointConfig` or `servers` has it")
        self.incomplete = self.incomplete or trust.missing
        self.problems += held.map.problems if held.map else ()
        return {kind: side.cluster(trust.of) for kind, side in sides.items()}

    def _clients(self) -> tuple[ClientCertificate, ...]:
        subject = "error while validating the client certificate"
        held = self._certificates("client", subject)
        clients = certificates.clients(held.found, held.map)
        self.problems += held.map.problems if held.map else ()
        return clients

    def _certificates(self, purpose: layout.Purpose, subject: str) -> _CertificateFolder:
        """Read the folder of certificates for a purpose; `subject` begins its messages."""
        files, maps = layout.CERTIFICATES[purpose]
        names = (*self._names.get(files, ()), *self._names.get(maps, ()))
        folder, *others = layout.certificate_folders(names) or [""]
        if others:
            what = f"`{folder}` and `{others[0]}` are the same kind of folder"
            self._note(what, "remove one of the two")
            return _CertificateFolder([], {}, None)
        held = _CertificateFolder([], {}, self._read(maps, below=f"{folder}/"))
        for path in self._names.get(files, ()):
            if not path.startswith(f"{folder}/"):
                continue
            name = path.removeprefix(f"{folder}/")
            held.names.append(name)
            try:
                held.found[name] = certificates.read(self._files[path], subject)
            except WrongError as error:
                self.incomplete = self.incomplete or isinstance(error, certificates.CutError)
                self._note(error.what, error.hint, path)
        return held


def _check_endpoints(
    api: Findings,
    declared: apiyaml.DeclaredApi,
    source: Findings,
    sides: Mapping[str, backends.SideBackends],
) -> None:
    """Require a backend from any source; the reference requires it in api.yaml."""
    path = backends.CONFIG
    if any(side.endpoints for side in sides.values()):
        return
    if api.spoilt(path) or source.spoilt(("servers",)):
        return
    api.error(
        path,
        f"API production and sandbox endpoints cannot be empty for {declared.title}",
        "give `production_endpoints` a `url` below `endpointConfig:`, or the AsyncAPI definition"
        " a server named `production`",
    )
