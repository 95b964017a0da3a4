"""Where a project is served: its deployments, as environments on hosts.

Pure. Used by `routing`, which compiles it into routes, and by `feed` to deploy and undeploy.
spec: project-format §7.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trio_gw.config.api import Deployment
    from trio_gw.config.settings import Environment

DEFAULT_ENVIRONMENT = "Default"
DEFAULT_VHOST = "localhost"


class Placement(NamedTuple):
    """One environment in which an API is served, and the host it answers on there."""

    environment: str
    host: str


def host_name(vhost: str) -> str:
    """Write a vhost as in a request head: lower-case, no final dot, IPv6 in brackets."""
    name = vhost.lower().rstrip(".")
    return f"[{name}]" if ":" in name else name


def vhosts(environments: Sequence[Environment]) -> dict[str, str]:
    """Map each environment to its own host; `Default` always exists."""
    found = {environment.name: host_name(environment.vhost) for environment in environments}
    found.setdefault(DEFAULT_ENVIRONMENT, DEFAULT_VHOST)
    return found


def place(deployment: Deployment, vhost_of: Mapping[str, str]) -> Placement | None:
    """Return the placement; None for an unknown environment."""
    own = vhost_of.get(deployment.environment)
    if own is None:
        return None
    return Placement(deployment.environment, host_name(deployment.vhost) or own)


def placements(
    deployments: Iterable[Deployment], vhost_of: Mapping[str, str]
) -> tuple[Placement, ...]:
    """List the placements of a project with these deployments; without any it is `Default`."""
    listed = tuple(deployments)
    if not listed:
        return (Placement(DEFAULT_ENVIRONMENT, vhost_of[DEFAULT_ENVIRONMENT]),)
    found = (place(deployment, vhost_of) for deployment in listed)
    return tuple(dict.fromkeys(one for one in found if one is not None))
