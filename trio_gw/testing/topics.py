"""The topics that a gateway serves, and how a test names one of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.routing.table import RouteTable

_PARAMETER = re.compile(r"\{([^{}]*)\}")


class ServedTopic(NamedTuple):
    """One topic of one API as the gateway serves it.

    `api` is `<name>:<version>`, `name` the name of the topic in its definition, `path` the path
    that clients ask for. One of `scopes` must be in the token; empty: any token is enough.
    `backends` are the URLs that are asked for, the path included.
    """

    api: str
    name: str
    host: str
    path: str
    secured: bool
    scopes: tuple[str, ...]
    backends: tuple[str, ...]


def served(table: RouteTable) -> tuple[ServedTopic, ...]:
    """List the topics of a table in the order in which the gateway tries them."""
    return tuple(
        ServedTopic(
            route.api.title,
            route.topic.name,
            host,
            base + route.topic.name,
            route.secured,
            tuple(route.topic.scopes or ()) if route.secured else (),
            tuple(
                dict.fromkeys((*route.backend_urls("production"), *route.backend_urls("sandbox")))
            ),
        )
        for host, base, route in table.rows()
    )


def find(topics: Iterable[ServedTopic], name: str, api: str) -> ServedTopic:
    """Find a topic by its name. Raises LookupError if there is none, or more than one."""
    known = [topic for topic in topics if api in ("", topic.api)]
    found = [topic for topic in known if topic.name == name]
    # An API that is the default version is served at a second path.
    if len({(topic.api, topic.host) for topic in found}) == 1:
        return max(found, key=lambda topic: len(topic.path))
    if found:
        apis = ", ".join(sorted({f"{topic.api} on {topic.host}" for topic in found}))
        raise LookupError(f"several APIs have a topic {name}: {apis}; name one with api=…")
    names = ", ".join(sorted({topic.name for topic in known})) or "none"
    where = f"of {api} " if api else ""
    raise LookupError(f"no topic {where}is named {name}; the gateway serves: {names}")


def filled(path: str, parameters: Mapping[str, object]) -> str:
    """Put values into the parameters of a path. Raises LookupError if one is missing or unknown."""
    names = _PARAMETER.findall(path)
    if missing := [name for name in names if name not in parameters]:
        raise LookupError(f"{path} needs a value for {', '.join(missing)}")
    if unknown := [name for name in parameters if name not in names]:
        raise LookupError(f"{path} has no parameter {', '.join(unknown)}")
    return _PARAMETER.sub(lambda found: quote(str(parameters[found[1]]), safe=""), path)
