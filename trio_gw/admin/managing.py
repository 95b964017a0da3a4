"""The operations on revisions and on the lifecycle of an API, for `trio-gw` and other tools.

They are not part of the reference system. The portal uses the same functions below the admin API.
spec: portal §2.8, §2.9.
"""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, Any

from trio_gw.admin import parameters
from trio_gw.admin.json_responses import FaultError, json_response, problem_list
from trio_gw.admin.parameters import TextParameter
from trio_gw.config import lifecycle
from trio_gw.errors import UnusableError
from trio_gw.feed.deployer import NOTE_LENGTH, Author
from trio_gw.feed.revisions import KnownApi, LifecycleStep, StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from trio_gw.admin.context import Context
    from trio_gw.feed.deployment_index import Revision
    from trio_gw.feed.revision_store import KeptRevision
    from trio_gw.feed.revisions import Revisions

_NAME = TextParameter("apiName", required=True, pattern=parameters.NAME)
_VERSION = TextParameter("version", required=True, most=30, pattern=parameters.VERSION)
_STATE = TextParameter("state", required=True, pattern=f"^({'|'.join(lifecycle.STATES)})$")
_SUCCESSOR = TextParameter("successor", most=200)
_SUNSET = TextParameter("sunset", most=40)
_CONFIRM = TextParameter("confirm")
_NOTE = TextParameter("note", most=NOTE_LENGTH)
BUSY = "other deployments take too long, try again"
RULED = "When control plane is enabled, APIs are managed in APIM instead."


async def revisions(context: Context, request: Request, _: str) -> Response:
    """`GET /apis/revisions`: the revisions of an API that are kept, the latest first."""
    api = _find(context, request.query_params)
    listed = await context.deployer.revisions.listed(api)
    return json_response({"api": api.title, "id": api.id, "list": [row(each) for each in listed]})


async def rollback(context: Context, request: Request, user: str) -> Response:
    """`POST /apis/rollback`: deploy an old revision of an API anew."""
    _check_writable(context)
    given = request.query_params
    api, number = _find(context, given), parameters.whole_number("revision", given)
    if number is None:
        raise FaultError(422, "revision in query is required", 602)
    note = " ".join(_NOTE.read(given).split()) or f"Rolled back to r{number}"
    try:
        files = await context.deployer.revisions.files(api, number)
    except UnusableError as error:
        raise FaultError(500, f"r{number} is damaged: {error.problems[0].what}") from None
    except OSError as error:
        raise FaultError(500, f"r{number} cannot be read ({error.strerror})") from None
    if files is None:
        raise FaultError(404, f"{api.title} has no revision r{number}, or not any more")
    author = Author(user, "api", note)
    outcome = await context.deployer.deploy_files(files, f"r{number}", override=True, author=author)
    if outcome.status == "busy":
        raise busy()
    if outcome.status != "deployed" or outcome.revision is None:
        status = 409 if outcome.status == "conflict" else 422
        message = f"r{number} cannot be deployed"
        problems = problem_list(outcome.problems)
        return json_response({"code": status, "message": message, "problems": problems}, status)
    return json_response({"api": api.title, **described(outcome.revision)})


async def state(context: Context, request: Request, _: str) -> Response:
    """`GET /apis/lifecycle`: the state of an API, and the steps from it."""
    api = _find(context, request.query_params)
    return json_response(lifecycle_facts(context.deployer.revisions, api))


async def set_lifecycle(context: Context, request: Request, user: str) -> Response:
    """`PUT /apis/lifecycle`: set the state of an API; answers when all workers act."""
    _check_writable(context)
    given = request.query_params
    api = _find(context, given)
    wanted = lifecycle.known(_STATE.read(given))
    sunset = read_sunset(_SUNSET.read(given))
    step = LifecycleStep(wanted, user, " ".join(_SUCCESSOR.read(given).split()), sunset)
    await take_step(context.deployer.revisions, api, step, _CONFIRM.read(given))
    return json_response(lifecycle_facts(context.deployer.revisions, api))


async def take_step(
    known: Revisions, api: KnownApi, step: LifecycleStep, confirmed: str = ""
) -> None:
    """Take a step of the lifecycle. Raises `FaultError`.

    To retire an API its name must be given as `confirmed`.
    """
    if step.state == "RETIRED" and confirmed not in (api.title, api.title.rpartition(":")[0]):
        raise FaultError(422, "type the name of the API as `confirm` to retire it")
    try:
        converged = await known.set_state(api, step)
    except StepError as error:
        raise FaultError(409, str(error)) from None
    except UnusableError as error:
        raise FaultError(500, error.problems[0].what) from None
    except TimeoutError:
        raise busy() from None
    except OSError as error:
        message = f"the state cannot be stored: {os.strerror(error.errno or 0)}"
        raise FaultError(500, message) from None
    if not converged:
        raise FaultError(503, "the state is set, but some workers do not follow yet")


def lifecycle_facts(known: Revisions, api: KnownApi) -> dict[str, Any]:
    """Describe the state of an API. Without `acts` it is only what its file declares."""
    state, project = known.state_of(api), known.source_project(api)
    declared = "" if project is None else project.lifecycle
    return {
        "id": api.id,
        "api": api.title,
        "state": state.state if state is not None else lifecycle.known(declared),
        "acts": state is not None,
        "declared": declared,
        "since": state.at if state else None,
        "user": state.user if state else "",
        "successor": state.successor if state else "",
        "sunset": (state.sunset or None) if state else None,
        "steps": list(known.steps(api)),
    }


def described(revision: Revision) -> dict[str, Any]:
    """Describe a revision."""
    return {
        "revision": f"r{revision.number}",
        "number": revision.number,
        "at": revision.at or None,
        "user": revision.user,
        "via": revision.via,
        "note": revision.note,
        "digest": revision.digest,
        "hosts": list(revision.hosts),
    }


def row(kept: KeptRevision) -> dict[str, Any]:
    """Describe a revision for lists."""
    return {**described(kept.revision), "api": kept.title, "live": list(kept.live)}


def read_sunset(text: str) -> int:
    """Read a date (its begin in UTC) or a time. Returns 0 for no text. Raises `FaultError` 422."""
    if not text:
        return 0
    try:
        when = datetime.datetime.fromisoformat(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=datetime.UTC)
        seconds = int(when.timestamp())
    except (ValueError, OverflowError):
        seconds = 0
    if seconds <= 0:
        raise FaultError(422, f"not a date such as 2027-06-30: {text[:40]!r}")
    return seconds


def busy() -> FaultError:
    """Create the response when other changes hold the lock for too long."""
    return FaultError(503, BUSY, headers={"Retry-After": "1"})


def _find(context: Context, given: Mapping[str, str]) -> KnownApi:
    title = f"{_NAME.read(given)}:{_VERSION.read(given)}"
    found = context.deployer.revisions.find(title)
    if not found:
        found = [
            KnownApi(one.project.organization, one.project.id, title)
            for one in context.deployer.served()
            if one.project.title == title
        ]
    if not found:
        raise FaultError(404, f"there is no API {title} here")
    return found[0]


def _check_writable(context: Context) -> None:
    if not context.deploys:
        raise FaultError(400, RULED)
