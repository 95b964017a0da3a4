"""The endpoints of the editor: make a project, check and change a draft, probe its backends.

None of them deploys: that is `POST /portal/api/deployments`. spec: portal §2.8, §3.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import trio

import trio_gw
from trio_gw.admin.json_responses import FaultError, json_response, problem_list
from trio_gw.admin.rpc_messages import MOST_LISTED, ListConnections
from trio_gw.config import adoption, new_project, scaffold, tiers
from trio_gw.config.placement import host_name, vhosts
from trio_gw.config.text_edit import NotEditableError
from trio_gw.errors import Problem, UnusableError
from trio_gw.portal.audit import audit
from trio_gw.portal.editing import operations, passwords, probe, project_form
from trio_gw.portal.editing.check import Base, Checked, check
from trio_gw.portal.editing.draft_files import BadFilesError, DraftFiles, check_files
from trio_gw.portal.editing.served_files import read_base, shown
from trio_gw.portal.routes import PortalRoute, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from trio_gw.config.api import ApiProject
    from trio_gw.portal.request import PortalRequest
    from trio_gw.portal.services import PortalServices

MOST_BODY = 5 << 20  # of a request with files; JSON escapes some of their characters
_LIMITS = probe.ProbeLimits()


class NewProjectRequest(msgspec.Struct, frozen=True, rename={"source": "from"}):
    """What a new project is made of."""

    source: Literal["asyncapi", "backend", "nothing"]
    text: str = ""
    file: str = "asyncapi.yaml"
    backend: str = ""
    server: str = ""
    name: str = ""
    context: str = ""
    version: str = ""
    topics: tuple[str, ...] = ()


class CheckRequest(msgspec.Struct, frozen=True):
    """The files of a draft, and the API that it would replace: its id and its host.

    `since` is the tag of the revision that it began with, for a look at what others have changed.
    """

    files: dict[str, str]
    api: str = ""
    host: str = ""
    since: str = ""


class EditRequest(msgspec.Struct, frozen=True):
    """The files of a draft, and what to change in them."""

    files: dict[str, str]
    operations: list[operations.Operation] = []


class ProbeRequest(msgspec.Struct, frozen=True):
    """The files of a draft, and the URL of one of the backends that they name."""

    files: dict[str, str]
    endpoint: str
    api: str = ""
    host: str = ""


async def new(request: PortalRequest) -> Response:
    """`POST /portal/api/projects`: make the files of a new project; nothing is stored."""
    asked = await request.body(NewProjectRequest, MOST_BODY)
    try:
        made = await request.services.in_thread(lambda: make(asked))
    except new_project.InputError as error:
        body = {"code": 422, "message": f"{error.what}; {error.hint}", "field": error.field}
        return json_response({**body, "problems": []}, 422)
    except adoption.AmbiguousError as error:
        said = str(error).replace("--server", "a server").replace("--backend", "a backend")
        servers = {"code": 422, "message": said, "field": "server", "problems": []}
        return json_response(servers, 422)
    except UnusableError as error:
        return _unusable(error.problems)
    body = {
        "files": made.files,
        "problems": problem_list(made.problems),
        "messages": made.messages,
        "name": made.plan.name,
        "context": made.plan.context,
        "version": made.plan.version,
        "topics": [topic.name for topic in made.project.topics],
        "base_path": made.project.base_path,
    }
    return json_response(body)


def make(asked: NewProjectRequest) -> new_project.NewProject:
    """Make a project. Blocks; raises as `config.new_project` does."""
    if len(asked.text) > 2 << 20:
        what = "the document has more than 2 MiB"
        raise UnusableError([Problem(asked.file[:120], 0, 0, what, "shorten it")])
    source = None
    if asked.source == "asyncapi":
        file = asked.file.rpartition("/")[2][:120] or "asyncapi.yaml"
        data = asked.text.encode("utf-8", "surrogatepass")
        source = new_project.read_document(data, file, file, _nothing_beside)
    elif asked.source == "backend" and not asked.backend:
        what, hint = "the API has no backend", "give its URL, such as ws://…"
        raise new_project.InputError("backend", what, hint, missing=True)
    inputs = new_project.Inputs(
        name=asked.name.strip() or _name(asked),
        version=asked.version.strip(),
        context=asked.context.strip(),
        backend=asked.backend.strip(),
        topics=() if source else tuple(filter(None, (each.strip() for each in asked.topics))),
        server=asked.server if source else "",
    )
    return new_project.make(inputs, source, lambda _: "project")


def _name(asked: NewProjectRequest) -> str:
    """Choose a name where none is given; a document has one itself."""
    return "" if asked.source == "asyncapi" else scaffold.name_from_backend(asked.backend)


def _nothing_beside(name: str) -> bytes:
    raise FileNotFoundError(2, "only one document was given")


async def check_draft(request: PortalRequest) -> Response:
    """`POST /portal/api/check`: what is wrong with a draft, and what it would change."""
    asked = await request.body(CheckRequest, MOST_BODY)
    checked, _ = await checked_draft(request, asked)
    body = {
        **msgspec.to_builtins(checked),
        "good": checked.good,
        "problems": problem_list(checked.problems),
        "conflicts": problem_list(checked.conflicts),
    }
    return json_response(body)


async def checked_draft(request: PortalRequest, asked: CheckRequest) -> tuple[Checked, Base]:
    """Check a draft. Raises `FaultError` for files that cannot be those of a project."""
    _check_files(asked.files)
    services = request.services
    settings, table = services.settings, services.context.live.table
    served = served_project(services, asked.api, asked.host)
    old = await _revision(services, served, asked.since)

    def work() -> tuple[Checked, Base]:
        began = None if old is None else shown(old)
        base = Base() if served is None else read_base(settings, services.base, served)
        vhost_of = vhosts(settings.known_environments)
        names = tiers.known(settings.tiers)
        return check(asked.files, base, table, vhost_of, names, began), base

    try:
        checked, base = await services.in_thread(work)
    except OSError as error:
        raise FaultError(503, f"what is served cannot be read: {error.strerror}") from None
    if served is not None:
        open_ = await _connections(services, served)
        checked = msgspec.structs.replace(checked, connections=open_)
    return checked, base


async def _revision(
    services: PortalServices, api: ApiProject | None, tag: str
) -> Mapping[str, bytes] | None:
    """Read the files of a revision by its tag; None if it is not kept."""
    if api is None or not re.fullmatch(r"r[0-9]{1,9}", tag):
        return None
    try:
        return await services.context.deployer.revisions.files(api, int(tag[1:]))
    except (OSError, UnusableError):
        return None


def served_project(services: PortalServices, id: str, host: str) -> ApiProject | None:  # noqa: A002
    """Find a served API by its id, on this host if one is given."""
    if not id:
        return None
    wanted = host_name(host) if host else ""
    for where, _, project in services.context.live.table.bases():
        if project.id == id and (not wanted or where == wanted):
            return project
    return None


async def _connections(services: PortalServices, api: ApiProject) -> dict[str, int]:
    """Count the open connections of an API by topic, in all workers."""
    asked = ListConnections(limit=MOST_LISTED, match=api.title)
    listed, _ = await services.context.aggregate.connections(asked)
    found: dict[str, int] = {}
    for one in listed.connections:
        if one.api == api.title:
            found[one.topic or ""] = found.get(one.topic or "", 0) + 1
    return found


async def edit(request: PortalRequest) -> Response:
    """`POST /portal/api/edit`: apply operations of the form to the text of a draft."""
    asked = await request.body(EditRequest, MOST_BODY)
    _check_files(asked.files)

    def work() -> dict[str, Any]:
        files = DraftFiles(asked.files)
        operations.apply(files, asked.operations)
        texts = files.texts
        check_files(texts)
        form = project_form.read(DraftFiles(texts))
        return {"files": texts, "form": msgspec.to_builtins(form)}

    try:
        return json_response(await request.services.in_thread(work))
    except (NotEditableError, BadFilesError) as error:
        raise FaultError(422, str(error)) from None


async def probe_backend(request: PortalRequest) -> Response:
    """`POST /portal/api/probe`: ask a backend of a draft for an upgrade."""
    asked = await request.body(ProbeRequest, MOST_BODY)
    _check_files(asked.files)
    services = request.services
    try:
        _LIMITS.count(request.caller.user, trio.current_time())
    except probe.TooManyProbesError as error:
        wait = str(math.ceil(error.seconds))
        raise FaultError(429, "too many probes, wait", headers={"Retry-After": wait}) from None
    served = served_project(services, asked.api, asked.host)

    def find() -> Any:  # noqa: ANN401 - project and endpoint
        base = Base() if served is None else read_base(services.settings, services.base, served)
        texts = passwords.restored(asked.files, base.files)
        held = {path: text.encode() for path, text in texts.items()}
        return probe.endpoint_of(held, asked.endpoint, os.environ)

    try:
        project, endpoint = await services.in_thread(find)
    except probe.ProbeError as error:
        raise FaultError(422, str(error)) from None
    except OSError as error:
        raise FaultError(503, f"what is served cannot be read: {error.strerror}") from None
    async with _LIMITS.running:
        dialer = services.services.upstream.dialer
        found = await probe.probe(endpoint, dialer, f"trio-gw/{trio_gw.__version__}")
    shown = msgspec.structs.replace(endpoint, query="")
    await audit(request, "probe", project.title, endpoint=str(shown), stage=found.stage)
    return json_response({**msgspec.to_builtins(found), "good": found.good})


def _check_files(files: Mapping[str, str]) -> None:
    try:
        check_files(files)
    except BadFilesError as error:
        raise FaultError(422, str(error)) from None


def _unusable(problems: tuple[Problem, ...]) -> Response:
    body = {"code": 422, "message": "the document cannot be used", "field": "text"}
    return json_response({**body, "problems": problem_list(problems)}, 422)


ROUTES = (
    PortalRoute("POST", "/api/projects", Role.PUBLISHER, new, writes=True),
    PortalRoute("POST", "/api/check", Role.PUBLISHER, check_draft),
    PortalRoute("POST", "/api/edit", Role.PUBLISHER, edit, writes=True),
    PortalRoute("POST", "/api/probe", Role.PUBLISHER, probe_backend, writes=True),
)
