"""The document of an API as it lies there, with numbered lines, and its files for downloads.

Consumers see the definition, publishers also the other files. Passwords are masked everywhere but
in the zip. spec: portal §2.4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from trio_gw.admin.json_responses import FaultError
from trio_gw.config.jsontext import BREAK
from trio_gw.documents.conversion import as_json, as_yaml
from trio_gw.documents.masking import UnmaskableError, masked
from trio_gw.errors import UnusableError
from trio_gw.portal.api_documents import PAGE_LINES, open_api, page_number
from trio_gw.portal.audit import audit
from trio_gw.portal.render import page
from trio_gw.portal.revisions import packed, read_number
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_header

if TYPE_CHECKING:
    from trio_gw.errors import Problem
    from trio_gw.portal.api_documents import OpenedApi
    from trio_gw.portal.request import PortalRequest

LINE_LENGTH = 4000  # characters of one line on a page
PAGE_LENGTH = 1 << 20  # characters of one page
_FORMATS = {"json": as_json, "yaml": as_yaml}
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class SourcePage(NamedTuple):
    """Some lines of a file. `cut`: some were too long. `last` is the number of all lines."""

    lines: list[tuple[int, str]]
    first: int
    last: int
    cut: bool


def source_page(text: str, first: int) -> SourcePage:
    """Return the lines of a text from `first` on, as many as a page shows."""
    lines = BREAK.split(text)
    if lines and not lines[-1]:
        lines.pop()
    first = min((first - 1) // PAGE_LINES * PAGE_LINES + 1, max(1, len(lines)))
    shown, room, cut = [], PAGE_LENGTH, False
    for number, line in enumerate(lines[first - 1 : first - 1 + PAGE_LINES], first):
        if len(line) > LINE_LENGTH:
            line, cut = line[:LINE_LENGTH] + "…", True
        room -= len(line)
        if room < 0:
            cut = True
            break
        shown.append((number, line))
    return SourcePage(shown, first, len(lines), cut)


async def document_page(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/document`: the definition, or `file`, from line `from` on."""
    opened = await open_api(request)
    path, wanted = _chosen(request, opened), request.query.get("as", "")
    first = page_number(request, "from")

    def shown() -> tuple[SourcePage | None, str]:
        try:
            return source_page(_text(opened, path, wanted), first), ""
        except FaultError as error:
            return None, error.message

    source, fault = (None, "") if not path else await request.services.in_thread(shown)
    problems = _problems(request, opened, path)
    return await page(
        request,
        "document.html",
        title=f"Document of {opened.served.project.title}",
        api=await api_header(request, opened.served, "document"),
        opened=opened,
        address=opened.link,
        files=_listed(request, opened),
        path=path,
        wanted=wanted if wanted in _FORMATS else "",
        source=source,
        fault=fault,
        problems=problems,
        marks={one.line: one for one in problems if one.line},
        page_lines=PAGE_LINES,
    )


async def file(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/files/{path}`: a file as it is, or as YAML or JSON (`as`)."""
    opened = await open_api(request)
    path, wanted = request.params["path"], request.query.get("as", "")
    if path not in opened.documents.files:
        raise FaultError(404, "this API has no such file")
    if path != opened.documents.path and request.caller.role < Role.PUBLISHER:
        raise FaultError(403, "only publishers see the other files of an API")
    text = await request.services.in_thread(lambda: _text(opened, path, wanted))
    name = path.rpartition("/")[2]
    if wanted in _FORMATS:
        name = f"{name.rpartition('.')[0] or name}.{wanted}"
    return _download(text.encode("utf-8", "replace"), name, "text/plain; charset=utf-8")


async def project_zip(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/zip`: the files of the project that is served, or `revision`."""
    if wanted := request.query.get("revision", ""):
        number = quote(str(read_number(wanted)))
        path = f"/portal/api/apis/{quote(request.params['id'], safe='')}/revisions/{number}/zip"
        return RedirectResponse(path, 303)
    opened = await open_api(request)
    files = opened.documents.files
    if not files:
        raise FaultError(404, "the files of this API are not at hand here")
    project = opened.served.project
    state = "" if project.managed is None else project.managed.state
    data = await request.services.in_thread(lambda: packed(files, state))
    await audit(request, "download", project.title)
    return _download(data, f"{project.title}.zip".replace(":", "-"), "application/zip")


def _download(data: bytes, name: str, kind: str) -> Response:
    name = _UNSAFE.sub("_", name)[:120].lstrip(".") or "file"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Type": kind,
    }
    return Response(data, headers=headers)


def _listed(request: PortalRequest, opened: OpenedApi) -> list[str]:
    """Return the paths that the caller may see, the definition first."""
    definition = [opened.documents.path] if opened.documents.path else []
    if request.caller.role < Role.PUBLISHER:
        return definition
    return [*definition, *sorted(set(opened.documents.files) - set(definition))]


def _chosen(request: PortalRequest, opened: OpenedApi) -> str:
    """Return the path to show; empty if there is none. Raises `FaultError` 403, 404."""
    path = request.query.get("file", "") or opened.documents.path
    if path and path not in opened.documents.files:
        raise FaultError(404, "this API has no such file")
    if path and path not in _listed(request, opened):
        raise FaultError(403, "only publishers see the other files of an API")
    return path


def _text(opened: OpenedApi, path: str, wanted: str) -> str:
    """Return the text of a file without secrets. Blocks. Raises `FaultError` 409."""
    data = opened.documents.files[path]
    try:
        text = masked(data, path)
        if wanted in _FORMATS:
            text = _FORMATS[wanted](text.encode("utf-8", "replace"), path)
    except UnmaskableError:
        what = "this file is not shown: it may hold passwords that cannot be found for certain"
        raise FaultError(409, f"{what}; the zip has it as it is") from None
    except UnusableError as error:
        raise FaultError(409, f"it cannot be converted: {error}"[:500]) from None
    return text


def _problems(request: PortalRequest, opened: OpenedApi, path: str) -> tuple[Problem, ...]:
    if request.caller.role < Role.PUBLISHER:
        return ()
    file = f"{opened.served.project.folder}/{path}"
    found = dict.fromkeys((*opened.documents.problems, *opened.documents.findings))
    return tuple(one for one in found if one.file == file or not one.line)


ROUTES = (
    PortalRoute("GET", "/apis/{id}/document", Role.CONSUMER, document_page, Kind.PAGE),
    PortalRoute("GET", "/api/apis/{id}/files/{path:path}", Role.CONSUMER, file),
    PortalRoute("GET", "/api/apis/{id}/zip", Role.PUBLISHER, project_zip),
)
