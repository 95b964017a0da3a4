"""What the operations of the admin API need, and the authentication of their callers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.admin.form_token import form_token
from trio_gw.admin.http1 import AUTHENTICATED
from trio_gw.admin.json_responses import CHALLENGE, FaultError
from trio_gw.guard.accounts import SlowDownError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from starlette.requests import Request

    from trio_gw.admin.aggregate import Aggregate
    from trio_gw.admin.all_workers import AllWorkers
    from trio_gw.admin.form_token import PeekableBody
    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import Admin
    from trio_gw.documents.project_reading import ProjectDocuments
    from trio_gw.feed.deployer import Deployer
    from trio_gw.feed.deployment_store import DeploymentStore
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.guard.operators import Operators
    from trio_gw.guard.roles import Role
    from trio_gw.routing.live import Live
    from trio_gw.telemetry.metrics import Metrics

_NOTHING = "unauthenticated for invalid credentials"
_WRONG = "Credentials are invalid"
_BAD_TOKEN = "unauthenticated for The provided token is not valid"  # noqa: S105 - no password


class Context(NamedTuple):
    """The services of the operations. `uploads` limits how many uploads run at the same time.

    Without `deploys`, only the control plane deploys and undeploys. `denials` is the file of the
    deny conditions. `documents` reads the documents of a served project; it blocks.
    """

    settings: Admin
    operators: Operators
    deployer: Deployer
    store: DeploymentStore
    live: Live
    blocklist: Blocklist
    aggregate: Aggregate
    uploads: trio.Semaphore
    metrics: Metrics | None = None
    deploys: bool = True
    explain: Callable[[bytes, str], Awaitable[object]] | None = None
    workers: AllWorkers | None = None
    denials: Path | None = None
    documents: Callable[[ApiProject], ProjectDocuments] | None = None


def address_of(request: Request) -> str:
    """Return the address of the client."""
    return request.client.host if request.client else ""


def authenticated(request: Request) -> None:
    """Tell the server that the client has valid credentials."""
    request.scope["extensions"][AUTHENTICATED]()


def check_role(context: Context, user: str, least: Role) -> None:
    """Refuse a user whose role is not enough. Raises `FaultError`."""
    if (role := context.operators.role(user)) < least:
        what = f"the role {role.name.lower()} may not do this, it needs {least.name.lower()}"
        raise FaultError(403, what)


def too_many_attempts(error: SlowDownError) -> FaultError:
    """Create the response for a client that must wait."""
    message = f"{error.why}, try again in {error.seconds} s"
    return FaultError(429, message, headers={"Retry-After": str(error.seconds)})


async def authenticate(context: Context, request: Request, form: PeekableBody | None) -> str:
    """Return the user (spec: adapter-rest §2); `form` may hold a token. Raises `FaultError`."""
    header = request.headers.get("authorization", "")
    scheme, _, credentials = header.partition(" ")
    message = _NOTHING
    if scheme.lower() == "basic":
        at, address = trio.current_time(), address_of(request)
        try:
            user = await context.operators.basic(credentials.strip(), address=address, at=at)
        except SlowDownError as error:
            raise too_many_attempts(error) from None
        if user is not None:
            return user
        message = _WRONG
    bearer = scheme == "Bearer"
    token = credentials if bearer else request.query_params.get("access_token", "")
    if form is not None and not (header or token):
        token = await form_token(form, request.headers.get("content-type", ""))
    if bearer or token:
        if (user := context.operators.bearer(token, time.time())) is not None:
            return user
        message = _BAD_TOKEN
    raise FaultError(401, message, headers=CHALLENGE)
