"""What a client requests for a topic, and what the backend gets then, by example. Pure.

The backend's side is built by the code that builds it for connections.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from trio_gw.errors import Refusal
from trio_gw.routing.backend_target import BackendTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.api import ApiProject, Topic

_PARAMETER = re.compile(r"\{([^{}/]+)\}")
_REST = "a/b"  # what `*` may stand for


class MappingView(msgspec.Struct, frozen=True):
    """A worked example. `written` is `x-uri-mapping`; `backend` is the path that the backend gets.

    `backend_url` is empty for those who may not know the backends. `query`: the client's query is
    passed on.
    """

    written: str
    client: str
    backend: str
    backend_url: str
    query: bool


def mapping_example(
    project: ApiProject, topic: Topic, examples: Mapping[str, str], *, backends: bool
) -> MappingView:
    """Make the example of a topic from values of its parameters, percent-encoded."""
    rest = _PARAMETER.sub(lambda found: examples.get(found[1], "1"), topic.name)
    if rest.endswith("/*"):
        rest = rest.removesuffix("*") + _REST
    target = BackendTarget(topic.mapping, passed=topic.name if topic.pass_path else None)
    cluster = project.production or project.sandbox
    query = topic.mapping is None or topic.mapping.query is None
    client = project.base_path.rstrip("/") + rest
    backend = url = ""
    try:
        path, mapped = target.request(examples, "", rest)
        backend = f"{path}?{mapped}" if mapped else path
        if backends and cluster is not None:
            endpoint = cluster.endpoints[0]
            url = endpoint.origin + target.build(endpoint, examples, "", rest)
    except (Refusal, KeyError):
        backend = ""  # these example values make no path that the gateway sends
    return MappingView(_written(topic), client, backend, url, query)


def _written(topic: Topic) -> str:
    if topic.mapping is None:
        return ""
    query = "&".join(f"{name}={value}" for name, value in topic.mapping.query or ())
    return f"{topic.mapping.path}?{query}" if query else topic.mapping.path
