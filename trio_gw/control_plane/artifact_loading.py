"""Load the projects of the control plane: from the zips of its artifacts to projects. Blocks.

The projects are read by the same code as those of a folder. A fault is a problem that names the
API; its last good version stays.
"""

from __future__ import annotations

import logging
import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from trio_gw.config import endpoint
from trio_gw.config.api import Deployment
from trio_gw.config.faults import WrongError
from trio_gw.config.overrides import fingerprint
from trio_gw.config.project import load
from trio_gw.errors import Problem, UnusableError, renamed
from trio_gw.feed import archive
from trio_gw.feed.origins import CONTROL_PLANE
from trio_gw.feed.project_state import LoadResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.config.api import ApiProject
    from trio_gw.config.entitlements import ApiRow
    from trio_gw.control_plane.artifact_folder import ArtifactFolder
    from trio_gw.control_plane.project_cache import Source
    from trio_gw.control_plane.state import Artifact

log = logging.getLogger("trio_gw.control_plane")

NAME_LENGTH = 60  # characters of a name or version in the name of a project
_PLACE = "artifact"  # the name of a project while it is loaded
_AGAIN = "it is fetched again when API Manager answers; or deploy the API again"
_OTHERS = re.compile(r"[^\w.:-]+")


class LoadedApi(NamedTuple):
    """One API: what was loaded from each source, and its projects by their names.

    `zips` are the digests of the zips of the projects. `incomplete`: a zip could not be read, so
    it should be tried again.
    """

    sources: dict[Source, LoadResult]
    projects: dict[str, ApiProject]
    problems: tuple[Problem, ...]
    incomplete: bool
    zips: Mapping[str, str] = MappingProxyType({})


NO_API = LoadedApi({}, {}, (), incomplete=False)


def load_api(
    folder: ArtifactFolder,
    uuid: str,
    artifacts: Iterable[Artifact],
    row: ApiRow | None,
    before: LoadedApi,
) -> LoadedApi:
    """Load the artifacts of an API; what is already loaded in `before` is not loaded again.

    `row` has its name, and whether it is the default version, if that is known.
    """
    listed = tuple(artifacts)
    sources: dict[Source, LoadResult] = {}
    projects: dict[str, ApiProject] = {}
    problems: list[Problem] = []
    zips: dict[str, str] = {}
    for artifact in listed:
        source = (artifact.digest, artifact.production, artifact.sandbox)
        result = before.sources.get(source)
        if result is None or result.maybe_incomplete:
            result = folder.projects.get(source)
        if result is None:
            result = _load(folder, source)
            folder.projects.put(source, result)
        sources[source] = result
        project = result.project or next(iter(before.projects.values()), None)
        name = _name(uuid, project, row)
        if len(listed) > 1 and artifact.placements:
            name += f"@{_clean(artifact.placements[0][1])}"
        problems += renamed(result.problems, _PLACE, name)
        if project is not None:
            zips[name] = artifact.digest
            default = project.default_version if row is None else row.is_default
            where = tuple(Deployment(each, vhost) for each, vhost in artifact.placements)
            projects[name] = structs.replace(
                project, folder=name, default_version=default, deployments=where
            )
    incomplete = any(each.maybe_incomplete for each in sources.values())
    return LoadedApi(sources, projects, tuple(problems), incomplete, zips)


def _load(folder: ArtifactFolder, source: Source) -> LoadResult:
    digest, *backends = source
    try:
        data = folder.read(digest)
    except OSError as error:
        what = f"its zip cannot be read ({os.strerror(error.errno or 0)})"
        return LoadResult(None, (Problem(_PLACE, 0, 0, what, _AGAIN),), maybe_incomplete=True)
    except ValueError:
        what = "its zip is damaged"
        return LoadResult(None, (Problem(_PLACE, 0, 0, what, _AGAIN),), maybe_incomplete=True)
    try:
        files = archive.unpack(data, _PLACE)
        loaded = load(files, _PLACE, os.environ)
        if loaded.project is not None and any(backends):
            loaded = load(files, _PLACE, _variables(loaded.project, backends) | os.environ)
    except UnusableError as error:
        return LoadResult(None, error.problems, maybe_incomplete=False)
    except Exception:
        # One project that the loader fails for must not affect the others.
        log.exception("loading the artifact %s failed", digest)
        what = "cannot be loaded because of a bug in the gateway"
        problem = Problem(_PLACE, 0, 0, what, "report the bug; the log has the details")
        return LoadResult(None, (problem,), maybe_incomplete=False)
    return LoadResult(loaded.project, loaded.problems, maybe_incomplete=False)


def _variables(project: ApiProject, backends: list[str]) -> dict[str, str]:
    """Return the backends of an environment as variables that replace those of the project.

    Raises `UnusableError` if one is no URL of a backend.
    """
    prefix = f"api_{fingerprint(project.name, project.version)}"
    variables = {}
    for side, url in zip(("prod", "sand"), backends, strict=True):
        if url:
            try:
                endpoint.parse(url)
            except WrongError as error:
                what = f"the endpoint of its environment: {error.what}"
                raise UnusableError([Problem(_PLACE, 0, 0, what, error.hint)]) from None
            variables[f"{prefix}_{side}_endpoint_0"] = url
    return variables


def _name(uuid: str, project: ApiProject | None, row: ApiRow | None) -> str:
    """Name a project as in messages. The last part is unique and says which API it is."""
    known: Mapping[str, str] = {}
    if project is not None:
        known = {"name": project.name, "version": project.version}
    elif row is not None:
        known = {"name": row.name, "version": row.version}
    parts = (*(_clean(each) for each in known.values()), _clean(uuid))
    return f"{CONTROL_PLANE}/{'-'.join(filter(None, parts))}"


def _clean(text: str) -> str:
    return _OTHERS.sub("_", text)[:NAME_LENGTH]
