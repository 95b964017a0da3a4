"""The operations of the reference system's REST API: token, deploy, list, undeploy.

Status codes and bodies are those of the reference (spec: adapter-rest §2.1, §4, §5, §6). If the
reference returns an error without a body, the gateway returns a JSON object that lists the
problems.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from trio_gw.admin import parameters
from trio_gw.admin.context import address_of, authenticated, check_role, too_many_attempts
from trio_gw.admin.json_responses import (
    CHALLENGE,
    FaultError,
    empty_response,
    json_response,
    problem_list,
)
from trio_gw.admin.parameters import TextParameter
from trio_gw.admin.upload import receive_upload
from trio_gw.errors import UnusableError
from trio_gw.feed.deployer import Author
from trio_gw.guard.accounts import SlowDownError
from trio_gw.guard.roles import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from trio_gw.admin.context import Context
    from trio_gw.errors import Problem

BASE = "/api/mgw/adapter/0.1"
PART = "file"
UPLOADS = 8  # concurrent
QUEUE = 5.0  # seconds to wait for a free upload slot
MAX_BODY = 64 * 1024  # bytes of a token request
_STATUS = {
    "deployed": 200,
    "nowhere": 200,
    "exists": 409,
    "conflict": 409,
    "broken": 500,
    "busy": 500,
}
_PASSWORD = TextParameter(
    "password", "body", required=True, most=100, pattern=parameters.CREDENTIAL
)
_USERNAME = TextParameter(
    "username", "body", required=True, most=100, pattern=parameters.CREDENTIAL
)
_NAME = TextParameter("apiName", required=True, least=3, pattern=parameters.NAME)
_ENVIRONMENTS = TextParameter("environments", pattern=parameters.ENVIRONMENTS)
_VERSION = TextParameter("version", required=True, least=1, most=15, pattern=parameters.VERSION)
_VHOST = TextParameter("vhost", pattern=parameters.VHOST)
_QUERY = TextParameter("query", most=9, pattern=parameters.QUERY)
# The words of the reference, as tools may look for them.
_NO_DEPLOYMENT = (
    "When control plane is enabled, APIs cannot be directly deployed to the adapter."
    " Using apictl, still you can import APIs to APIM instead."
)
_NO_UNDEPLOYMENT = (
    "When control plane is enabled, APIs cannot be directly undeployed from the adapter."
    " Using apictl, still you can undeploy an API in APIM instead."
)


async def token(context: Context, request: Request, _: str) -> Response:
    """`POST /oauth2/token`: return a token for a user name and password."""
    body = bytearray()
    async with contextlib.aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY:
                raise FaultError(413, f"the body is larger than {MAX_BODY >> 10} KiB")
    if not body:
        raise FaultError(422, "credentials in body is required", 602)
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
        texts = {name: value for name, value in given.items() if value is not None}
        if not all(isinstance(texts.get(name, ""), str) for name in ("username", "password")):
            raise ValueError("username and password must be strings")
    except (ValueError, RecursionError) as error:
        message = f'parsing credentials body from "" failed, because {error}'
        raise FaultError(400, message) from None
    password, username = _PASSWORD.read(texts), _USERNAME.read(texts)
    try:
        made = await context.operators.login(
            username,
            password,
            address=address_of(request),
            at=trio.current_time(),
            now=time.time(),
        )
    except SlowDownError as error:
        raise too_many_attempts(error) from None
    if made is None:
        return empty_response(401, CHALLENGE)
    check_role(context, username, Role.PUBLISHER)
    authenticated(request)
    return json_response({"accessToken": made}, headers={"Cache-Control": "no-store"})


async def deploy(context: Context, request: Request, user: str) -> Response:
    """`POST /apis`: deploy the zip file in the part `file`."""
    settings = context.settings
    override = parameters.boolean("override", request.query_params)
    if not context.deploys:
        return json_response({"code": 400, "error": None, "message": _NO_DEPLOYMENT}, 400)
    limit = settings.max_upload << 20
    try:
        async with (
            _upload_slot(context.uploads),
            receive_upload(
                request, PART, context.store.upload, limit=limit, seconds=settings.upload_timeout
            ) as (name, file),
        ):
            outcome = await context.deployer.deploy(
                file, name, override=override, author=Author(user)
            )
    except OSError as error:
        message = f"cannot store the upload: {os.strerror(error.errno or 0)}"
        raise FaultError(500, message) from None
    status = _STATUS[outcome.status]
    if status == 200 and not outcome.problems:
        return empty_response()
    message = {
        "deployed": "deployed, with warnings",
        "nowhere": "deployed nowhere",
        "exists": "API already exists",
        "conflict": "the API conflicts with another one",
        "broken": "the project cannot be deployed",
        "busy": "the project cannot be deployed",
    }[outcome.status]
    return _failed(status, message, outcome.problems)


@contextlib.asynccontextmanager
async def _upload_slot(uploads: trio.Semaphore) -> AsyncIterator[None]:
    """Wait for one of the upload slots; 503 if none is free in time."""
    with trio.move_on_after(QUEUE) as waited:
        await uploads.acquire()
    if waited.cancelled_caught:
        raise FaultError(
            503, "too many concurrent uploads, try again", headers={"Retry-After": "1"}
        )
    try:
        yield
    finally:
        uploads.release()


async def undeploy(context: Context, request: Request, _: str) -> Response:
    """`DELETE /apis`: undeploy an API, optionally from one host or some environments only."""
    given = request.query_params
    name, environments = _NAME.read(given), _ENVIRONMENTS.read(given)
    version, vhost = _VERSION.read(given), _VHOST.read(given)
    if not context.deploys:
        body = {"code": 400, "description": "Bad request", "error": None}
        return json_response({**body, "message": _NO_UNDEPLOYMENT}, 400)
    try:
        found = await context.deployer.undeploy(
            f"{name}:{version}", vhost, environments.split(":") if environments else ()
        )
    except UnusableError as error:
        return _failed(500, "the API cannot be undeployed", error.problems)
    except OSError as error:
        raise FaultError(500, f"cannot undeploy: {os.strerror(error.errno or 0)}") from None
    return empty_response(200 if found else 404)


async def apis(context: Context, request: Request, _: str) -> Response:
    """`GET /apis`: list the deployed APIs, one item per host of an API."""
    limit = parameters.whole_number("limit", request.query_params)
    query = _QUERY.read(request.query_params)
    items = [
        {
            "apiName": one.project.name,
            "apiType": "WS",
            "context": one.project.base_path,
            "gateway-envs": list(one.environments),
            "version": one.project.version,
            "vhost": one.host,
        }
        for one in context.deployer.served()
    ]
    kind, colon, wanted = query.partition(":")
    listed = items
    if colon and kind == "type":
        listed = [item for item in items if item["apiType"] == wanted.upper()]
    listed = listed[:limit]
    body: dict[str, Any] = {"count": len(listed)} if listed else {}
    body["list"] = listed or None
    if items:
        body["total"] = len(items)
    return json_response(body)


def _failed(status: int, message: str, problems: tuple[Problem, ...]) -> Response:
    body = {"code": status, "message": message, "problems": problem_list(problems)}
    return json_response(body, status)
