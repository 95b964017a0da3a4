"""`GET /admin/topics`: what the documents of a served API say about its topics.

The command `trio-gw apis --topics` shows it, as the portal does in its pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import trio

from trio_gw.admin.json_responses import FaultError, json_response, problem_list
from trio_gw.admin.parameters import TextParameter

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from trio_gw.admin.context import Context
    from trio_gw.config.api import ApiProject

MOST_TOPICS = 1000  # of one answer
_API = TextParameter("api", required=True, most=300)
_HOST = TextParameter("host", most=255)
_TOPIC = TextParameter("topic", most=2000)


async def topics(context: Context, request: Request, _: str) -> Response:
    """List the topics of the API `api`, `name:version`; with `topic` describe that one."""
    given = request.query_params
    api, host, topic = _API.read(given), _HOST.read(given).lower(), _TOPIC.read(given)
    served = next(
        (
            one
            for one in context.deployer.served()
            if one.project.title == api and host in ("", one.host)
        ),
        None,
    )
    if served is None:
        raise FaultError(404, f"{api} is not served{f' on {host}' if host else ' here'}")
    body = await trio.to_thread.run_sync(lambda: _describe(context, served.project, topic))
    return json_response({"api": api, "host": served.host, **body})


def _describe(context: Context, project: ApiProject, topic: str) -> dict[str, Any]:
    """Read the documents and describe what is asked for. Blocks."""
    # These are only needed here, and take a while to import.
    from trio_gw.documents.topic_view import topic_row, topic_view

    assert context.documents is not None
    documents = context.documents(project)
    definition = documents.definition
    numbered = list(enumerate(project.topics))
    if topic:
        numbered = [(number, one) for number, one in numbered if one.name == topic]
        if not numbered:
            raise FaultError(404, f"{project.title} has no topic {topic[:200]}")
    rows = [
        topic_view(project, one, number, definition, backends=True)
        if topic
        else topic_row(project, one, number, definition)
        for number, one in numbered[:MOST_TOPICS]
    ]
    return {
        "path": project.base_path,
        "definition": documents.path,
        "differs": documents.differs,
        "problems": problem_list(documents.problems),
        "total": len(numbered),
        "topics": msgspec.to_builtins(rows),
    }
