"""The revisions of an API: list, differences, download (spec: portal §2.8)."""

from __future__ import annotations

import io
import re
import zipfile
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response

from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.admin.managing import row
from trio_gw.config import layout
from trio_gw.config.text_edit import NotEditableError, editor
from trio_gw.errors import UnusableError
from trio_gw.portal.audit import audit
from trio_gw.portal.known_apis import find_known
from trio_gw.portal.revision_diff import FileDiff, compare
from trio_gw.portal.routes import PortalRoute, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.feed.revisions import KnownApi
    from trio_gw.portal.request import PortalRequest

_EPOCH = (1980, 1, 1, 0, 0, 0)


async def revisions(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/revisions`: the revisions that are kept, the latest first."""
    api = await find_known(request)
    reader = request.services.context.deployer.revisions
    tag = reader.tag(api)
    listed = [row(each) for each in await reader.listed(api)]
    body = {"id": api.id, "api": api.title, "tag": tag, "revisions": listed}
    return json_response(body, headers={"ETag": f'"{tag}"'} if tag else None)


async def diff(request: PortalRequest) -> Response:
    """`GET …/revisions/{n}/diff?with=`: from the other revision to this one."""
    api = await find_known(request)
    number = read_number(request.params["n"])
    other = request.query.get("with", "")
    files = await difference(request, api, number, read_number(other) if other else None)
    return json_response({"files": [each._asdict() for each in files]})


async def difference(
    request: PortalRequest, api: KnownApi, number: int, other: int | None
) -> list[FileDiff]:
    """Compare a revision with another, by default the one that is served or came before it."""
    if other is None:
        other = await usual_other(request, api, number)
    old, new = await files_of(request, api, other), await files_of(request, api, number)
    return await request.services.in_thread(partial(compare, old, new))


async def usual_other(request: PortalRequest, api: KnownApi, number: int) -> int:
    """Return what to compare a revision with: the one before it, or the one after the first."""
    listed = await request.services.context.deployer.revisions.listed(api)
    numbers = [each.revision.number for each in listed]
    older = [each for each in numbers if each < number]
    return max(older) if older else min(set(numbers) - {number}, default=number)


async def download(request: PortalRequest) -> Response:
    """`GET …/revisions/{n}/zip`: the project as a zip, with the state that was set here."""
    api = await find_known(request)
    number = read_number(request.params["n"])
    files = await files_of(request, api, number)
    state = request.services.context.deployer.revisions.state_of(api)
    work = partial(packed, files, "" if state is None else state.state)
    data = await request.services.in_thread(work)
    await audit(request, "download", api.title, revision=number)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{api.title}-r{number}").strip("._") or "project"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.zip"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(data, media_type="application/zip", headers=headers)


def packed(files: Mapping[str, bytes], state: str) -> bytes:
    """Zip a project; a `state` is written into its api.yaml. Blocks."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path, data in sorted(files.items()):
            written = with_state(path, data, state) if state else data
            zipped.writestr(zipfile.ZipInfo(path, _EPOCH), written, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def with_state(path: str, data: bytes, state: str) -> bytes:
    """Write a state as `lifeCycleStatus`, if this file is an api.yaml that can be edited."""
    if layout.kind(path) != "api":
        return data
    try:
        text = editor(data.decode(), path)
        text.set(("data", "lifeCycleStatus"), state)
    except (NotEditableError, UnicodeDecodeError):
        return data
    return text.text.encode()


async def files_of(request: PortalRequest, api: KnownApi, number: int) -> dict[str, bytes]:
    """Read the files of a revision. Raises `FaultError` 404 if it is not kept."""
    try:
        files = await request.services.context.deployer.revisions.files(api, number)
    except UnusableError as error:
        raise FaultError(500, f"r{number} is damaged: {error.problems[0].what}") from None
    except OSError as error:
        raise FaultError(500, f"r{number} cannot be read ({error.strerror})") from None
    if files is None:
        raise FaultError(404, f"{api.title} has no revision r{number}, or not any more")
    return files


def read_number(text: str) -> int:
    """Read the number of a revision, `7` or `r7`. Raises `FaultError` 422."""
    digits = text.removeprefix("r")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise FaultError(422, f"not the number of a revision: {text[:40]!r}")
    return int(digits)


ROUTES = (
    PortalRoute("GET", "/api/apis/{id}/revisions", Role.PUBLISHER, revisions),
    PortalRoute("GET", "/api/apis/{id}/revisions/{n}/diff", Role.PUBLISHER, diff),
    PortalRoute("GET", "/api/apis/{id}/revisions/{n}/zip", Role.PUBLISHER, download),
)
