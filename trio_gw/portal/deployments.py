"""Deploy and undeploy from the portal (spec: portal §2.8).

`POST /portal/api/deployments` takes the files of a project, a draft, or an old revision of an API.
With `If-Match` it replaces only what the caller began with: the tag `r7`, as the pages of an API
and the answers here name it.
"""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from trio_gw.admin.json_responses import FaultError, empty_response, json_response, problem_list
from trio_gw.admin.managing import BUSY, busy, described
from trio_gw.config import lifecycle
from trio_gw.config.project import wanted
from trio_gw.errors import UnusableError
from trio_gw.feed.deployer import NOTE_LENGTH, Author
from trio_gw.feed.revisions import KnownApi, LifecycleStep, StepError
from trio_gw.portal.audit import audit
from trio_gw.portal.editing.drafts import Drafts
from trio_gw.portal.editing.served_files import restored
from trio_gw.portal.known_apis import find_known
from trio_gw.portal.routes import PortalRoute, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.responses import Response

    from trio_gw.errors import Problem
    from trio_gw.feed.deployer import Outcome
    from trio_gw.portal.request import PortalRequest

MOST_BODY = 8 << 20  # bytes of a request with files
MOST_FILES = 200
LABEL = "project"  # the name of what is deployed, in problems and logs
MOST_PATH = 200  # characters
_STATUS = {"exists": 409, "conflict": 409, "changed": 412, "broken": 422, "nowhere": 422}
_MESSAGES = {
    "exists": "the API is deployed already; deploy it with override",
    "conflict": "the API conflicts with another one",
    "broken": "the project cannot be deployed",
    "nowhere": "none of the environments of the project is known here",
    "busy": BUSY,
}


class DeploymentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to deploy: `files` (and `binary` ones), a `draft`, or a `revision` of the API `api`.

    In `files` a hidden password, as the editor gets it, means the one that `api` has.
    With `override` it may replace the API. With `publish` an API that would be created or a
    prototype is published.
    """

    files: dict[str, str] | None = None
    binary: dict[str, bytes] | None = None
    draft: str = ""
    revision: int = 0
    api: str = ""
    note: str = ""
    override: bool = False
    publish: bool = False


async def deploy(request: PortalRequest) -> Response:
    """`POST /portal/api/deployments`: deploy, and answer when it is live in all workers."""
    began = trio.current_time()
    asked = await request.body(DeploymentRequest, MOST_BODY)
    outcome = await perform(request, asked, if_match(request))
    project, revision = outcome.project, outcome.revision
    if outcome.status != "deployed" or project is None or revision is None:
        return _refused(outcome)
    body: dict[str, Any] = {
        "revision": f"r{revision.number}",
        "number": revision.number,
        "id": project.id,
        "api": project.title,
        "hosts": list(revision.hosts),
        "problems": problem_list(_relative(outcome.problems)),
        "ms": round((trio.current_time() - began) * 1000),
    }
    if not outcome.converged:
        message = "deployed, but some workers do not serve it yet"
        return json_response({"code": 503, "message": message, **body}, 503)
    return json_response(body, headers={"ETag": f'"r{revision.number}"'})


async def perform(
    request: PortalRequest, asked: DeploymentRequest, expected: str | None
) -> Outcome:
    """Deploy what was asked for, and note it. Raises `FaultError`."""
    note = " ".join(asked.note.split())[:NOTE_LENGTH]
    files, label, note = await _files(request, asked, note)
    deployer = request.services.context.deployer
    author = Author(request.caller.user, "portal", note)
    outcome = await deployer.deploy_files(
        files, label, override=asked.override, author=author, expected=expected
    )
    project, revision = outcome.project, outcome.revision
    if outcome.status == "deployed" and project is not None and revision is not None:
        if asked.publish:
            await _publish(request, KnownApi(project.organization, project.id, project.title))
        await audit(
            *(request, "deploy", project.title),
            revision=revision.number,
            hosts=", ".join(revision.hosts),
            note=note,
            override=asked.override,
            digest=revision.digest,
        )
    return outcome


async def undeploy(request: PortalRequest) -> Response:
    """`DELETE /portal/api/deployments/{id}`: undeploy, from one host or some environments only.

    With `copy=true` only the deployed copy goes, so that a folder's or git's version is served.
    """
    api, query = await find_known(request), request.query
    environments = [name for name in query.get("environments", "").split(",") if name]
    copy = query.get("copy", "") == "true"
    await remove(request, api, query.get("host", ""), environments, copy=copy)
    return empty_response(204)


async def remove(
    request: PortalRequest,
    api: KnownApi,
    host: str = "",
    environments: Sequence[str] = (),
    *,
    copy: bool = False,
) -> None:
    """Undeploy an API, and note it. Raises `FaultError`."""
    try:
        found = await request.services.context.deployer.undeploy(
            api.title, host, environments, copy=copy
        )
    except UnusableError as error:
        raise FaultError(500, str(error.problems[0].what)) from None
    except TimeoutError:
        raise busy() from None
    except OSError as error:
        raise FaultError(500, f"cannot undeploy: {os.strerror(error.errno or 0)}") from None
    if not found:
        raise FaultError(404, f"{api.title} is not deployed there")
    await audit(
        request,
        "undeploy",
        api.title,
        host=host,
        environments=",".join(environments),
        copy=copy,
    )


def if_match(request: PortalRequest) -> str | None:
    """Return the tag that a caller began with; None if it gives none."""
    given = request.http.headers.get("if-match", "").strip()
    tag = given.removeprefix("W/").strip('"')
    return f"r{tag}" if tag.isdecimal() else tag if given and tag != "*" else None


async def _files(
    request: PortalRequest, asked: DeploymentRequest, note: str
) -> tuple[dict[str, bytes], str, str]:
    """Return the files to deploy, their name in problems, and the note."""
    given = (asked.files is not None, bool(asked.draft), bool(asked.revision))
    if sum(given) != 1:
        raise FaultError(422, "give one of files, draft and revision")
    if asked.files is not None:
        texts = await restored(request, asked.files, asked.api)
        return read_files(texts, asked.binary or {}), LABEL, note
    if asked.draft:
        texts = await restored(request, await _draft(request, asked.draft), asked.api)
        return read_files(texts, {}), LABEL, note
    api = await find_known(request, asked.api)
    try:
        files = await request.services.context.deployer.revisions.files(api, asked.revision)
    except UnusableError as error:
        raise FaultError(422, error.problems[0].what) from None
    if files is None:
        raise FaultError(404, f"{api.title} has no revision r{asked.revision} any more")
    return files, LABEL, note or f"Rolled back to r{asked.revision}"


async def _draft(request: PortalRequest, key: str) -> dict[str, str]:
    """Read the files of a draft of the caller. Raises `FaultError`."""
    drafts, user = Drafts(request.services.folder), request.caller.user
    try:
        draft = await request.services.in_thread(lambda: drafts.read(user, key))
    except OSError as error:
        raise FaultError(500, f"the draft cannot be read ({error.strerror})") from None
    if draft is None:
        raise FaultError(404, "there is no such draft")
    return draft.files


def read_files(files: dict[str, str], binary: dict[str, bytes]) -> dict[str, bytes]:
    """Check the paths of files, and return those that a project needs. Raises `FaultError`."""
    found: dict[str, bytes] = {}
    if len(files) + len(binary) > MOST_FILES:
        raise FaultError(422, f"more than {MOST_FILES} files")
    texts = {path: text.encode("utf-8", "surrogatepass") for path, text in files.items()}
    for path, data in (*texts.items(), *binary.items()):
        clean = posixpath.normpath(path)
        outside = clean.startswith(("/", "../")) or clean in ("", ".", "..")
        if outside or clean != path or len(path) > MOST_PATH or {"\\", "\0"} & set(path):
            raise FaultError(422, f"not the path of a file in a project: {path[:80]!r}")
        if path in found:
            raise FaultError(422, f"{path} is given twice")
        if wanted(path):
            found[path] = data
    return found


async def _publish(request: PortalRequest, api: KnownApi) -> None:
    revisions = request.services.context.deployer.revisions
    state, project = revisions.state_of(api), revisions.source_project(api)
    now = state.state if state else lifecycle.known(project.lifecycle if project else "")
    if now in ("CREATED", "PROTOTYPED"):
        try:
            await revisions.set_state(api, LifecycleStep("PUBLISHED", request.caller.user))
        except StepError as error:  # somebody else changed it in the meantime
            raise FaultError(409, f"deployed, but not published: {error}") from None
        except (OSError, UnusableError):
            raise FaultError(503, "deployed, but not published; publish it again") from None


def refusal_of(outcome: Outcome) -> tuple[int, str]:
    """Return status and message of a deployment that was refused."""
    if outcome.status != "changed":
        return _STATUS.get(outcome.status, 503), _MESSAGES[outcome.status]
    current = outcome.revision
    what = f"r{current.number} was deployed" if current else "it was undeployed"
    by = f" by {current.user}" if current and current.user else ""
    return 412, f"the API has changed meanwhile: {what}{by}"


def _refused(outcome: Outcome) -> Response:
    status, message = refusal_of(outcome)
    body: dict[str, Any] = {"code": status, "message": message}
    if status == 412:
        current = outcome.revision
        return json_response({**body, "current": current and described(current)}, 412)
    headers = {"Retry-After": "1"} if status == 503 else None
    return json_response(
        {**body, "problems": problem_list(_relative(outcome.problems))}, status, headers
    )


def _relative(problems: Iterable[Problem]) -> list[Problem]:
    """Name files by their path in the project."""
    return [
        msgspec.structs.replace(each, file=each.file.removeprefix(LABEL).removeprefix("/"))
        for each in problems
    ]


ROUTES = (
    PortalRoute("POST", "/api/deployments", Role.PUBLISHER, deploy, writes=True),
    PortalRoute("DELETE", "/api/deployments/{id}", Role.PUBLISHER, undeploy, writes=True),
)
