"""The analytics events: with the names of the reference, and real times (spec: frames §7).

docs/analytics/ has a JSON Schema of each event. Events never contain payloads. Fields that the
reference does not have are under `properties`.
"""

from __future__ import annotations

import re
import time
from typing import Literal

import msgspec

from trio_gw.escaping import escape_json

UNKNOWN = "UNKNOWN"
ANONYMOUS = "anonymous"

Property = str | int | float


class CommonFields(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The fields of all events: the API, the application, the request."""

    api_id: str
    api_name: str
    api_version: str
    api_type: str = "WS"
    api_creator: str
    api_creator_tenant_domain: str
    organization_id: str
    application_id: str
    application_name: str
    application_owner: str
    key_type: str
    correlation_id: str
    region_id: str
    gateway_type: str = "TRIO_GW"
    request_timestamp: str
    user_agent: str = UNKNOWN
    platform: str = UNKNOWN


class ResponseEvent(CommonFields, frozen=True, rename="camel", kw_only=True):
    """A success: a handshake, frames, or the end of a connection.

    `api_method` is HANDSHAKE, PUBLISH, SUBSCRIBE, CLOSE, or for a backend's own refusal GET;
    for plain HTTP its method.
    Latencies are in milliseconds.
    """

    api_context: str
    api_method: Literal["HANDSHAKE", "PUBLISH", "SUBSCRIBE", "CLOSE", "GET", "HEAD", "POST"]
    api_resource_template: str
    destination: str
    target_response_code: int = 0
    response_cache_hit: bool = False
    proxy_response_code: int = 200
    response_latency: int = 0
    backend_latency: int = 0
    request_mediation_latency: int = 0
    response_mediation_latency: int = 0
    user_name: str
    user_ip: str
    event_type: Literal["response"] = "response"
    properties: dict[str, Property] = {}


class FaultEvent(CommonFields, frozen=True, rename="camel", kw_only=True):
    """A refused handshake, a backend that could not be reached, or messages beyond a limit.

    Messages over a limit have under `properties` the `method` (PUBLISH or SUBSCRIBE), the `level`,
    the `tier`, the `action` (drop, pause, close) and the number of `messages`. Connections over a
    limit have `level` and `action`.
    """

    error_type: Literal["AUTH", "THROTTLED", "TARGET_CONNECTIVITY", "OTHER"]
    error_code: int
    error_message: str
    proxy_response_code: int
    target_response_code: int = -1
    event_type: Literal["fault"] = "fault"
    properties: dict[str, Property] = {}


Event = ResponseEvent | FaultEvent


def timestamp(seconds: float) -> str:
    """Write epoch seconds as ISO 8601 in UTC, with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def encode(event: Event, style: str) -> bytes:
    """Write an event as one line: `json`, or `elk` as the reference logs it (frames §7.4)."""
    text = escape_json(msgspec.json.encode(event))
    if style == "elk":
        kind = b"response" if isinstance(event, ResponseEvent) else b"faulty"
        return b"apimMetrics: apim:" + kind + b", properties :" + text + b"\n"
    return text + b"\n"


_BROWSERS = (
    ("Edge", r"Edg(?:e|A|iOS)?/"),
    ("Opera", r"OPR/|Opera"),
    ("Firefox", r"Firefox/|FxiOS/"),
    ("Chrome", r"Chrome/|CriOS/"),
    ("Safari", r"Version/[\d.]+.* Safari/"),
)
_PLATFORMS = (
    ("Android", "Android"),
    ("iOS", "iPhone|iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac OS X"),
    ("Linux", "Linux"),
)


def families_of(user_agent: str) -> tuple[str, str]:
    """Return the families of a browser and of its system; `UNKNOWN` if not recognised."""

    def first(rows: tuple[tuple[str, str], ...]) -> str:
        return next((name for name, pattern in rows if re.search(pattern, user_agent)), UNKNOWN)

    return first(_BROWSERS), first(_PLATFORMS)
