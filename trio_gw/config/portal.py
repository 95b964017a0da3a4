"""`[portal]`: the web portal of the gateway."""

from __future__ import annotations

import msgspec


class PortalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The portal, its addresses and its folder.

    `local` is `host:port` of a plain listener on loopback that serves the portal alone; empty
    turns it off. `listen` is that of a listener with TLS that serves only what consumers may use,
    to users of every role; empty for none. `hosts` are additional host names that are accepted.
    `public_http` and `public_https` are the URLs that pages show for the listeners of clients, if
    they are not those of the listeners, for example behind a load balancer. `revisions` is how many
    of each API are kept.
    """

    enabled: bool = True
    anonymous: bool = False  # the catalogue of published APIs needs no login
    local: str = "localhost:9844"
    listen: str = ""
    hosts: tuple[str, ...] = ()
    public_http: str = ""
    public_https: str = ""
    folder: str = "portal"
    revisions: int = 20
