"""One API project: its files, as bytes by relative path, become an `ApiProject` or problems.

Called by the store, which asks `wanted` before it reads a file and gives what it has read to
`load`. Nothing here raises for what the files hold: every fault is a `Problem`, and a project
is told whole or not at all. spec: project-format §2, §6, §7.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from trio_gw.config import apiyaml, asyncapi, document, endpoint
from trio_gw.config.api import ApiProject, Cluster, Deployment
from trio_gw.config.convert import convert
from trio_gw.config.findings import Findings
from trio_gw.config.nodes import IncompleteError
from trio_gw.errors import Problem, UnusableError, has_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.config.api import Endpoint
    from trio_gw.config.nodes import Path

Kind = Literal["api", "asyncapi", "openapi", "deployments"]

_API = re.compile(r"api\.(?:yaml|yml|json)", re.IGNORECASE)
_ASYNCAPI = re.compile(r"asyncapi\.(?:yaml|yml|json)", re.IGNORECASE)
_OPENAPI = re.compile(r"swagger\.[^.]+", re.IGNORECASE)
_DEPLOYMENTS = re.compile(r"deployment_environments\.(?:yaml|yml|json)", re.IGNORECASE)
_VHOST = re.compile(r"[A-Za-z0-9_.*-]{0,253}")


class Loaded(msgspec.Struct, frozen=True):
    """The outcome for one project folder or zip.

    `project` is None exactly when a problem is an error. `incomplete` tells that the project
    may still be on its way: a mandatory file is missing, or one breaks off.
    """

    project: ApiProject | None
    problems: tuple[Problem, ...]
    incomplete: bool = False


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    deployment_environment: str = ""
    deployment_vhost: str = ""


class _Deployments(msgspec.Struct, frozen=True):
    data: tuple[_Entry, ...] | None = None


def wanted(path: str) -> bool:
    """Tell whether `load` reads the file at this relative POSIX path (spec: project-format §2)."""
    return _kind(path) is not None


def load(files: Mapping[str, bytes], folder: str) -> Loaded:
    """Load a project from its files; `folder` is how messages name it. Never raises.

    Paths that are not `wanted` are ignored. spec: project-format §2.2, §6.
    """
    loading = _Loading(files, folder)
    project = loading.run()
    problems = tuple(sorted(loading.problems))
    return Loaded(None if has_errors(problems) else project, problems, loading.incomplete)


def _kind(path: str) -> Kind | None:
    *folders, name = path.split("/")
    if any(part.startswith(".") or not part for part in (*folders, name)):
        return None
    if _DEPLOYMENTS.fullmatch(name):
        return "deployments"
    below = [part.casefold() for part in folders]
    if below[-1:] == ["definitions"]:
        if _ASYNCAPI.fullmatch(name):
            return "asyncapi"
        return "openapi" if _OPENAPI.fullmatch(name) else None
    return "api" if _API.fullmatch(name) and "definitions" not in below else None


class _Loading:
    """One call of `load`: the files by kind, and the problems so far."""

    def __init__(self, files: Mapping[str, bytes], folder: str) -> None:
        self.problems: list[Problem] = []
        self.incomplete = False
        self._files = files
        self._folder = folder
        self._names: dict[Kind, list[str]] = {}
        for name in sorted(files):
            kind = _kind(name)
            if kind is not None:
                self._names.setdefault(kind, []).append(name)

    def run(self) -> ApiProject | None:
        api = self._read("api", "could not find api.yaml or api.json", "copy `api.yaml`")
        declared = apiyaml.read(api) if api else None
        if api and declared and declared.foreign:
            # Its definition follows other rules; complaining about it would mislead.
            self.problems += api.problems
            return None
        kind: Kind = "openapi" if "asyncapi" not in self._names else "asyncapi"
        source = self._read(
            kind if kind in self._names else "asyncapi",
            "there is no AsyncAPI definition; API version not specified or not supported",
            "copy it to `Definitions/asyncapi.yaml` or `Definitions/asyncapi.json`",
        )
        definition = asyncapi.read(source) if source else None
        deployments, placed = self._deployments()
        if api and declared and source and definition:
            _check_endpoints(api, declared, source, definition)
        for findings in (api, source, deployments):
            self.problems += findings.problems if findings else ()
        if declared is None or definition is None:
            return None
        return ApiProject(
            folder=self._folder,
            id=declared.id,
            name=declared.name,
            version=declared.version,
            context=declared.context,
            topics=definition.topics,
            production=_cluster(declared.production, definition.production),
            sandbox=_cluster(declared.sandbox, definition.sandbox),
            lifecycle=declared.lifecycle,
            default_version=declared.default_version,
            tier=declared.tier,
            authorization_header=declared.authorization_header,
            organization=declared.organization,
            oauth2=definition.oauth2,
            deployments=placed,
        )

    def _read(self, kind: Kind, missing: str = "", mend: str = "") -> Findings | None:
        """Read the shallowest file of a kind; two equally shallow ones are a problem."""
        names = self._names.get(kind, [])
        if not names:
            if missing:
                self.incomplete = True
                self.problems.append(Problem(self._folder, 0, 0, missing, mend))
            return None
        depth = min(name.count("/") for name in names)
        first, *others = [name for name in names if name.count("/") == depth]
        if others:
            what = f"`{first}` and `{others[0]}` are the same kind of file"
            self.problems.append(Problem(self._folder, 0, 0, what, "remove one of the two"))
            return None
        try:
            return Findings(document.read(self._files[first], f"{self._folder}/{first}"))
        except UnusableError as error:
            self.incomplete = self.incomplete or isinstance(error, IncompleteError)
            self.problems += error.problems
            return None

    def _deployments(self) -> tuple[Findings | None, tuple[Deployment, ...]]:
        """Read deployment_environments.yaml; which host that means is decided by the routes.

        A broken file is an error here, where the reference goes on as if it were absent: the
        API would answer on a host nobody asked for. spec: project-format §7.1.
        """
        findings = self._read("deployments")
        if findings is None:
            return None, ()
        entries = convert(_Deployments, findings).data or ()
        if not entries and not findings.spoilt(()):
            findings.warn(
                ("data",),
                "no deployment environment is listed: deployed to `Default`",
                "list `deploymentEnvironment: …` below `data:`, or remove the file",
            )
        if not findings.spoilt(("data",)):  # else items are left out and the indexes moved
            for index, entry in enumerate(entries):
                _check_entry(entry, ("data", index), findings)
        return findings, tuple(
            Deployment(entry.deployment_environment, entry.deployment_vhost) for entry in entries
        )


def _check_entry(entry: _Entry, path: Path, findings: Findings) -> None:
    if not entry.deployment_environment.strip():
        findings.error(
            path,
            "`deploymentEnvironment` is missing",
            "name an environment, for example `deploymentEnvironment: Default`",
        )
    vhost = entry.deployment_vhost
    if not _VHOST.fullmatch(vhost) and not endpoint.is_address(vhost, 6):
        findings.error(
            (*path, "deploymentVhost"),
            f"{vhost[:80]!r} is not a host name",
            "write only the host, without scheme, port and path",
        )


def _check_endpoints(
    api: Findings,
    declared: apiyaml.Declared,
    source: Findings,
    definition: asyncapi.Definition,
) -> None:
    """Insist on a backend from either file; the reference insists on api.yaml alone."""
    path = ("data", "endpointConfig")
    some = declared.production or declared.sandbox or definition.production or definition.sandbox
    if some or api.spoilt(path) or source.spoilt(("servers",)):
        return
    api.error(
        path,
        f"API production and sandbox endpoints cannot be empty for {declared.title}",
        "give `production_endpoints` a `url` below `endpointConfig:`, or the AsyncAPI definition"
        " a server named `production`",
    )


def _cluster(declared: Iterable[Endpoint], override: Endpoint | None) -> Cluster | None:
    """A server of the definition replaces the whole list of api.yaml (spec: §6)."""
    endpoints = tuple(declared) if override is None else (override,)
    return Cluster(endpoints) if endpoints else None
