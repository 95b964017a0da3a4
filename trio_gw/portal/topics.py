"""The topics of an API: their list, and one of them with operations, messages and schemas.

spec: portal §2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.admin.json_responses import json_response, problem_list
from trio_gw.config import tiers
from trio_gw.documents.topic_view import TopicRow, TopicView, topic_row, topic_view
from trio_gw.portal.addresses import client_urls, host_name
from trio_gw.portal.api_documents import descriptions, number_of, open_api, page_number
from trio_gw.portal.api_facts import spelt
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markupsafe import Markup
    from starlette.responses import Response

    from trio_gw.config.settings import Settings
    from trio_gw.errors import Problem
    from trio_gw.portal.api_documents import OpenedApi
    from trio_gw.portal.request import PortalRequest

PAGE_TOPICS = 100
MOST_TOPICS = 1000  # of one answer as JSON


class TopicList(NamedTuple):
    """One page of topics. `total` is the number of those that were searched for."""

    rows: list[TopicRow]
    total: int
    page: int
    pages: int


def list_topics(opened: OpenedApi, words: str, number: int, size: int) -> TopicList:
    """List the topics whose name or summary has these words. Blocks."""
    project, definition = opened.served.project, opened.documents.definition
    words = words.casefold()
    if not words:
        total = len(project.topics)
        pages = max(1, -(-total // size))
        number = min(number, pages)
        chosen = range((number - 1) * size, min(number * size, total))
        rows = [topic_row(project, project.topics[at], at, definition) for at in chosen]
        return TopicList(rows, total, number, pages)
    found = [
        row
        for at, topic in enumerate(project.topics)
        if words in (row := topic_row(project, topic, at, definition)).name.casefold()
        or words in row.summary.casefold()
    ]
    pages = max(1, -(-len(found) // size))
    number = min(number, pages)
    return TopicList(found[(number - 1) * size : number * size], len(found), number, pages)


async def topics_page(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/topics`: the list."""
    opened = await open_api(request)
    words, number = request.query.get("q", "")[:200], page_number(request)
    listed = await request.services.in_thread(
        lambda: list_topics(opened, words, number, PAGE_TOPICS)
    )
    return await page(
        request,
        "topics.html",
        title=f"Topics of {opened.served.project.title}",
        api=await api_header(request, opened.served, "topics"),
        opened=opened,
        address=opened.link,
        listed=listed,
        words=words,
        bases=_urls(request, opened),
        problems=_shown_problems(request, opened),
    )


async def topic_page(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/topics/{n}`: one topic."""
    opened = await open_api(request)
    project = opened.served.project
    number = number_of(request, len(project.topics))
    backends = request.caller.role >= Role.PUBLISHER

    def described() -> tuple[TopicView, dict[str, Markup]]:
        definition = opened.documents.definition
        view = topic_view(project, project.topics[number], number, definition, backends=backends)
        return view, descriptions(_texts(view))

    view, html = await request.services.in_thread(described)
    return await page(
        request,
        "topic.html",
        title=f"{view.row.name} of {project.title}",
        api=await api_header(request, opened.served, "topics"),
        opened=opened,
        address=opened.link,
        view=view,
        html=html,
        bases=_urls(request, opened),
        tier=_tier_words(view, request.services.settings),
        problems=_shown_problems(request, opened),
        before=number - 1 if number else None,
        after=number + 1 if number + 1 < len(project.topics) else None,
        test_keys=request.services.testkeys is not None,
    )


async def topics_json(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/topics`: the list, with `page` and `size`."""
    opened = await open_api(request)
    words, number = request.query.get("q", "")[:200], page_number(request)
    size = min(page_number(request, "size"), MOST_TOPICS) if "size" in request.query else 200
    listed = await request.services.in_thread(lambda: list_topics(opened, words, number, size))
    definition = opened.documents.definition
    body = {
        "api": opened.served.project.title,
        "host": opened.served.host,
        "definition": opened.documents.path,
        "asyncapi": None if definition is None else ".".join(map(str, definition.version)),
        "differs": opened.documents.differs,
        "problems": problem_list(_shown_problems(request, opened)),
        "total": listed.total,
        "page": listed.page,
        "pages": listed.pages,
        "topics": msgspec.to_builtins(listed.rows),
    }
    return json_response(body)


async def topic_json(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/topics/{n}`: everything about one topic."""
    opened = await open_api(request)
    project = opened.served.project
    number = number_of(request, len(project.topics))
    backends = request.caller.role >= Role.PUBLISHER
    definition = opened.documents.definition
    view = await request.services.in_thread(
        lambda: topic_view(project, project.topics[number], number, definition, backends=backends)
    )
    urls = [base + view.mapping.client for base in _urls(request, opened)]
    return json_response({**msgspec.to_builtins(view), "urls": urls})


def _texts(view: TopicView) -> Iterator[str]:
    """Yield the descriptions of a topic, the most important first."""
    yield view.description
    for operation in view.operations:
        yield operation.description
    for operation in view.operations:
        for message in (*operation.messages, *operation.replies):
            yield message.description


def _urls(request: PortalRequest, opened: OpenedApi) -> list[str]:
    """Return the URLs of the listeners in front of the path, that with TLS last."""
    services, host = request.services, opened.served.host
    if host == "localhost":
        host = host_name(request.http.headers.get("host", host))
    return client_urls(services.settings.portal, services.addresses, host)


def _shown_problems(request: PortalRequest, opened: OpenedApi) -> tuple[Problem, ...]:
    """Return why the documents are not shown; publishers alone see paths and lines."""
    found = opened.documents.problems
    return found if request.caller.role >= Role.PUBLISHER else ()


def _tier_words(view: TopicView, settings: Settings) -> str:
    name = view.tier or view.api_tier
    found = tiers.known(settings.tiers).get(name)
    return "not known here: no limit" if found is None else spelt(found)


ROUTES = (
    PortalRoute("GET", "/apis/{id}/topics", Role.CONSUMER, topics_page, Kind.PAGE, anonymous=True),
    PortalRoute(
        "GET", "/apis/{id}/topics/{n}", Role.CONSUMER, topic_page, Kind.PAGE, anonymous=True
    ),
    PortalRoute("GET", "/api/apis/{id}/topics", Role.CONSUMER, topics_json, anonymous=True),
    PortalRoute("GET", "/api/apis/{id}/topics/{n}", Role.CONSUMER, topic_json, anonymous=True),
)
