"""Who may use each route of the portal. A route without a row here fails a test (`test_matrix`)."""

from __future__ import annotations

# By the least role: nobody (no session needed), consumer, publisher, admin.
ROLES = {
    "nobody": """
        GET /static/{digest}/{name}
        GET /login
        POST /login
        POST /logout
    """,
    "consumer": """
        GET /events
        GET /api/history
        GET /api/stats
        POST /api/test-keys
        GET /apis/{id}/keys
        GET /api/apis/{id}
        GET /apis/{id}
        POST /api/explain
        POST /explain
        GET /explain
        GET /
        GET /api/apis
        GET /api/session
        GET /api/apis/{id}/try
        GET /apis/{id}/try
        GET /try
        GET /apis/{id}/topics
        GET /apis/{id}/topics/{n}
        GET /apis/{id}/document
        GET /api/apis/{id}/topics
        GET /api/apis/{id}/topics/{n}
        GET /api/apis/{id}/files/{path:path}
        GET /api/apis/{id}/try
        GET /apis/{id}/try
        GET /try
        GET /applications
        POST /applications
        GET /applications/{uuid}
        POST /applications/{uuid}
        POST /applications/{uuid}/remove
        POST /applications/{uuid}/subscriptions/{api}
        GET /apis/{id}/subscribe
        POST /apis/{id}/subscribe
        GET /api/applications
        POST /api/applications
        GET /api/applications/{uuid}
        PATCH /api/applications/{uuid}
        DELETE /api/applications/{uuid}
        POST /api/applications/{uuid}/keys/{type}
        DELETE /api/applications/{uuid}/keys/{type}
        PUT /api/applications/{uuid}/subscriptions/{api}
        DELETE /api/applications/{uuid}/subscriptions/{api}
        POST /api/revocations
        GET /api/tiers
        GET /api/environments
    """,
    "publisher": """
        GET /api/problems
        GET /operate/problems
        POST /apis/{id}/undeploy
        POST /apis/{id}/revisions/{n}
        GET /apis/{id}/revisions/{n}
        GET /apis/{id}/revisions
        POST /apis/{id}/lifecycle
        GET /apis/{id}/lifecycle
        POST /apis/{id}/subscribers/{uuid}
        GET /api/apis/{id}/subscriptions
        POST /api/deployments
        DELETE /api/deployments/{id}
        GET /api/apis/{id}/lifecycle
        PUT /api/apis/{id}/lifecycle
        GET /api/apis/{id}/revisions
        GET /api/apis/{id}/revisions/{n}/diff
        GET /api/apis/{id}/revisions/{n}/zip
        GET /api/apis/{id}/zip
        GET /new
        POST /new
        GET /new/edit
        GET /apis/{id}/edit
        GET /api/new
        GET /api/apis/{id}/source
        POST /api/projects
        POST /api/check
        POST /api/edit
        POST /api/probe
        GET /api/drafts/{key}
        PUT /api/drafts/{key}
        DELETE /api/drafts/{key}
        GET /unserved
    """,
    "admin": """
        GET /api/settings
        GET /api/log
        DELETE /api/denials
        POST /api/denials
        GET /api/denials
        GET /api/endings
        GET /api/backends
        GET /api/limits
        POST /api/connections/close
        DELETE /api/connections/{id}
        GET /api/connections
        GET /api/attention
        GET /operate/settings
        GET /operate/log
        GET /operate/denials
        GET /operate/backends
        GET /operate/limits
        GET /operate/endings
        GET /operate/connections
        GET /operate
    """,
}
# What changes something, and is refused while API Manager rules.
WRITES = """
    POST /apis/{id}/undeploy
    POST /apis/{id}/revisions/{n}
    POST /apis/{id}/lifecycle
    POST /api/deployments
    DELETE /api/deployments/{id}
    PUT /api/apis/{id}/lifecycle
    GET /new
    POST /new
    GET /new/edit
    GET /apis/{id}/edit
    POST /api/projects
    POST /api/edit
    POST /api/probe
    PUT /api/drafts/{key}
    POST /applications
    POST /applications/{uuid}
    POST /applications/{uuid}/remove
    POST /applications/{uuid}/subscriptions/{api}
    POST /apis/{id}/subscribe
    POST /apis/{id}/subscribers/{uuid}
    POST /api/applications
    PATCH /api/applications/{uuid}
    DELETE /api/applications/{uuid}
    POST /api/applications/{uuid}/keys/{type}
    DELETE /api/applications/{uuid}/keys/{type}
    PUT /api/applications/{uuid}/subscriptions/{api}
    DELETE /api/applications/{uuid}/subscriptions/{api}
    POST /api/revocations
"""
# What the setting `portal.anonymous` opens.
ANONYMOUS = """
    GET /api/apis/{id}
    GET /apis/{id}
    GET /
    GET /api/apis
    GET /apis/{id}/topics
    GET /apis/{id}/topics/{n}
    GET /api/apis/{id}/topics
    GET /api/apis/{id}/topics/{n}
"""


def lines(text: str) -> list[tuple[str, str]]:
    """Read rows: a method and a path each."""
    rows = (line.split() for line in text.strip().splitlines())
    return [(method, path) for method, path in rows]


def expected() -> dict[tuple[str, str], str]:
    """Return the least role of each route."""
    return {row: role for role, text in ROLES.items() for row in lines(text)}
