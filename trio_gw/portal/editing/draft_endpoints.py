"""Keep, read and discard the drafts of the caller: `/portal/api/drafts/{key}`.

The `ETag` names a version; with `If-Match` a page changes only the version that it knows, and with
`If-None-Match: *` it only makes a new draft. spec: portal §2.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from trio_gw.admin.json_responses import FaultError, json_response
from trio_gw.portal.editing.draft_files import BadFilesError, check_files
from trio_gw.portal.editing.drafts import (
    MOST,
    MOST_KEY,
    DraftChangedError,
    Drafts,
    TooManyDraftsError,
)
from trio_gw.portal.routes import PortalRoute, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from trio_gw.portal.request import PortalRequest

T = TypeVar("T")
MOST_BODY = 5 << 20


class DraftRequest(msgspec.Struct, frozen=True):
    """The files of a draft, and the tag of what was served when it began."""

    files: dict[str, str]
    base: str = ""


def store(request: PortalRequest) -> Drafts:
    """Return the drafts of this gateway."""
    return Drafts(request.services.folder)


async def read(request: PortalRequest) -> Response:
    """`GET /portal/api/drafts/{key}`: the draft of the caller."""
    user, key = request.caller.user, _key(request)
    draft = await _stored(request, lambda: store(request).read(user, key))
    if draft is None:
        raise FaultError(404, "there is no such draft")
    body = {"files": draft.files, "base": draft.base, "saved": draft.saved}
    return json_response(body, headers={"ETag": f'"{draft.tag}"'})


async def write(request: PortalRequest) -> Response:
    """`PUT /portal/api/drafts/{key}`: keep a draft."""
    user, key, tag = request.caller.user, _key(request), _tag(request)
    asked = await request.body(DraftRequest, MOST_BODY)
    try:
        check_files(asked.files)
    except BadFilesError as error:
        raise FaultError(422, str(error)) from None
    base = asked.base[:200]
    new = await _stored(request, lambda: store(request).write(user, key, base, asked.files, tag))
    return json_response({"tag": new}, headers={"ETag": f'"{new}"'})


async def delete(request: PortalRequest) -> Response:
    """`DELETE /portal/api/drafts/{key}`: discard a draft."""
    user, key, tag = request.caller.user, _key(request), _tag(request)
    found = await _stored(request, lambda: store(request).delete(user, key, tag))
    if not found:
        raise FaultError(404, "there is no such draft")
    return json_response({})


def _key(request: PortalRequest) -> str:
    key = request.params["key"]
    if not key.isprintable() or len(key) > MOST_KEY:
        raise FaultError(404, "there is no such draft")
    return key


def _tag(request: PortalRequest) -> str | None:
    headers = request.http.headers
    if headers.get("if-none-match", "").strip() == "*":
        return ""
    given = headers.get("if-match", "").strip()
    return None if given in ("", "*") else given.strip('"')


async def _stored(request: PortalRequest, work: Callable[[], T]) -> T:
    """Access the store in the worker thread. Raises `FaultError`."""
    try:
        return await request.services.in_thread(work)
    except DraftChangedError as error:
        what = "another page has changed this draft" if error.current else "the draft is gone"
        headers = {"ETag": f'"{error.current}"'} if error.current else None
        raise FaultError(412, what, headers=headers) from None
    except TooManyDraftsError:
        what = f"no room for another draft: {MOST} are kept for each user; discard one"
        raise FaultError(409, what) from None
    except TimeoutError:
        raise FaultError(503, "the drafts are busy", headers={"Retry-After": "1"}) from None
    except OSError as error:
        raise FaultError(500, f"drafts cannot be kept: {error.strerror}") from None


ROUTES = (
    PortalRoute("GET", "/api/drafts/{key}", Role.PUBLISHER, read),
    PortalRoute("PUT", "/api/drafts/{key}", Role.PUBLISHER, write, writes=True),
    PortalRoute("DELETE", "/api/drafts/{key}", Role.PUBLISHER, delete),
)
