"""`[portal]`: the web portal of the gateway."""

from __future__ import annotations

import msgspec


class PortalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The portal, its addresses and its folder.

    `local` is `host:port` of a plain listener on loopback that serves the portal alone; empty
    turns it off. `hosts` are additional host names that it accepts. `public_http` and
    `public_https` are the URLs that it shows for the listeners of clients, if they are not those of
    the listeners, for example behind a load balancer. `revisions` is how many of each API are kept.
    """

    enabled: bool = True
    anonymous: bool = False  # the catalogue of published APIs needs no login
    local: str = "localhost:9844"
    hosts: tuple[str, ...] = ()
    public_http: str = ""
    public_https: str = ""
    folder: str = "portal"
    revisions: int = 20
