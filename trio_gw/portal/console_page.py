"""The page of the try-out console, and what its form needs to know of an API. spec: portal §2.5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.admin.json_responses import json_response
from trio_gw.config import channel_name
from trio_gw.portal.addresses import client_urls, host_name
from trio_gw.portal.render import page
from trio_gw.portal.routes import Kind, PortalRoute, Role
from trio_gw.portal.served_apis import api_header, find_api

if TYPE_CHECKING:
    from starlette.responses import Response

    from trio_gw.config.api import Topic
    from trio_gw.portal.request import PortalRequest
    from trio_gw.portal.served_apis import ServedApi

MOST_TOPICS = 1000


class TopicChoice(msgspec.Struct, frozen=True):
    """A topic to connect to; `pattern` is the whole path."""

    number: int
    name: str
    pattern: str
    parameters: tuple[str, ...]
    scopes: tuple[str, ...]
    secured: bool
    api_key_header: str


class ConsoleTarget(msgspec.Struct, frozen=True):
    """What the form of the console needs. `addresses` are the URLs of the listeners."""

    id: str
    title: str
    host: str
    user: str
    header: str
    addresses: tuple[str, ...]
    topics: tuple[TopicChoice, ...]
    more_topics: int
    test_keys: bool


async def show_console(request: PortalRequest) -> Response:
    """`GET /portal/apis/{id}/try?topic=`: the page."""
    served = await find_api(request)
    return await page(
        request,
        "try.html",
        title=f"Try {served.project.title}",
        api=await api_header(request, served, "try"),
        topic=request.query.get("topic", ""),
        test_keys=request.services.testkeys is not None,
    )


async def console_target(request: PortalRequest) -> Response:
    """`GET /portal/api/apis/{id}/try`: the topics and addresses of an API."""
    served = await find_api(request)
    found = await request.services.in_thread(lambda: _target(request, served))
    return json_response(found)


def _target(request: PortalRequest, served: ServedApi) -> ConsoleTarget:
    services, api = request.services, served.project
    host = served.host
    if host == "localhost":
        host = host_name(request.http.headers.get("host", host))
    topics = api.topics[:MOST_TOPICS]
    return ConsoleTarget(
        id=api.id,
        title=api.title,
        host=served.host,
        user=request.caller.user,
        header=api.authorization_header or services.settings.authorization_header,
        addresses=tuple(client_urls(services.settings.portal, services.addresses, host)),
        topics=tuple(_choice(served, number, topic) for number, topic in enumerate(topics)),
        more_topics=len(api.topics) - len(topics),
        test_keys=services.testkeys is not None,
    )


def _choice(served: ServedApi, number: int, topic: Topic) -> TopicChoice:
    headers = [key.name for key in topic.api_keys if key.place == "header"]
    return TopicChoice(
        number,
        topic.name,
        served.project.base_path.rstrip("/") + topic.name,
        tuple(channel_name.ordered_parameters(topic.name)),
        topic.scopes or (),
        topic.secured and served.state != "PROTOTYPED",
        headers[0] if headers else "",
    )


ROUTES = (
    PortalRoute("GET", "/apis/{id}/try", Role.CONSUMER, show_console, Kind.PAGE),
    PortalRoute("GET", "/api/apis/{id}/try", Role.CONSUMER, console_target),
)
