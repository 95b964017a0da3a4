"""Topics that differ in what they ask for, and what is let in on the open ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic, UriMapping
from trio_gw.config.settings import Environment
from trio_gw.errors import Refusal
from trio_gw.proxy import path_confusion
from trio_gw.routing.compiler import compile_table
from trio_gw.wire.http import RequestReader

if TYPE_CHECKING:
    from trio_gw.routing.table import RouteTable

BACKEND = Endpoint("ws", "backend", 80)


def rooms(*, alike: bool) -> RouteTable:
    """Compile rooms of which some paths are guarded; with `alike` all are open."""
    topics = [
        Topic(
            name,
            UriMapping(name.replace("{", "{uri.var.")),
            secured=guarded and not alike,
        )
        for name, guarded in (
            ("/r/admin", True),
            ("/r/{id}", False),
            ("/r/{id}/keys", True),
            ("/r/{id}/{part}", False),
        )
    ]
    project = ApiProject("M", "M", "M", "1.0.0", "/m", tuple(topics), Cluster((BACKEND,)))
    return compile_table((project,), (Environment("Default", "localhost"),))[0]


def admitted(table: RouteTable, path: str) -> str | None:
    """Return what the backend is asked for; None for who is refused or needs a token."""
    try:
        head = RequestReader().feed(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert head is not None
        match = table.match(head.host, head.path)
        if match is None or match.route.secured:
            return None
        path_confusion.check(head.path, head.query, match)
        return match.route.backend_target(match, BACKEND, head.query)
    except Refusal:
        return None
