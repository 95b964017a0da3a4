"""Renders the pages from the templates. Imported with the first request: Jinja2 takes a while."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

import trio_gw
from trio_gw.config.rules.users import is_default
from trio_gw.portal import template_helpers
from trio_gw.portal.compression import compress
from trio_gw.portal.routes import Role
from trio_gw.portal.static_files import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.settings import AdminUser
    from trio_gw.portal.request import PortalRequest

FOLDER = Path(__file__).with_name("templates")
STATIC = StaticFiles()
_HTML = "text/html; charset=utf-8"

environment = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
environment.globals["static"] = STATIC.url
environment.globals["Role"] = Role
environment.globals["version"] = trio_gw.__version__
template_helpers.install(environment)


def offer(paths: Iterable[str]) -> None:
    """Tell the templates which pages there are: `routed("/operate")`."""
    environment.globals["routed"] = frozenset(paths).__contains__


async def page(
    request: PortalRequest, template: str, *, title: str, status: int = 200, **values: object
) -> Response:
    """Render a page. Besides `values` a template sees these names.

    `caller`, `role` (its name), `title`, `path` (of this page), `ruled` (a control plane rules),
    `default_password` (to warn of), and of the settings `portal`.
    """
    shown: dict[str, Any] = {
        "caller": request.caller,
        "role": request.caller.role.name.lower(),
        "title": title,
        "path": request.http.url.path,
        "ruled": request.services.ruled,
        "portal": request.services.settings.portal,
        **values,
        "here": request.http.url.path,  # for the frame, whatever a page calls its values
    }

    def render() -> Response:
        users = request.services.settings.admin.users
        shown.setdefault("default_password", has_default_password(users))
        text = environment.get_template(template).render(shown)
        response = Response(text, status, media_type=_HTML)
        compress(response, request.http.headers)
        return response

    return await trio.to_thread.run_sync(render, limiter=request.services.rendering)


@lru_cache(8)
def has_default_password(users: tuple[AdminUser, ...]) -> bool:
    """Return whether a user has the default password. Blocks: a hash takes a while to check."""
    return any(map(is_default, users))
