"""The URLs under which clients reach the gateway: for pages, and for their security policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.addresses import is_host_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.portal import PortalSettings
    from trio_gw.config.settings import Settings

MAX_SOURCES = 40  # origins in the policy; it is sent with every answer
_SCHEMES = {"http": "ws", "https": "wss"}


def host_name(authority: str) -> str:
    """Return the host of `Host`, without the port; an IPv6 address keeps its brackets."""
    host, colon, _ = authority.rpartition(":")
    return authority if not colon or authority.endswith("]") else host


def client_urls(
    portal: PortalSettings, addresses: Mapping[str, tuple[str, int]], host: str
) -> list[str]:
    """Return the URL of each listener of clients on this host, that with TLS last."""
    found = []
    for name, scheme in _SCHEMES.items():
        public: str = getattr(portal, f"public_{name}")
        if public:
            found.append(f"{scheme}://{public.rstrip('/').partition('://')[2]}")
        elif name in addresses:
            found.append(f"{scheme}://{host}:{addresses[name][1]}")
    return found


def policy_sources(
    settings: Settings, addresses: Mapping[str, tuple[str, int]], host: str
) -> tuple[str, ...]:
    """Return the origins that scripts of a page on this host may connect to, besides its own."""
    hosts = [host, *(one.vhost for one in settings.known_environments)]
    hosts = [one for one in dict.fromkeys(hosts) if is_host_name(one) or one.startswith("[")]
    found = (url for one in hosts for url in client_urls(settings.portal, addresses, one))
    return tuple(dict.fromkeys(found))[:MAX_SOURCES]
