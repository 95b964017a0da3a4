"""The authenticate phase: which credentials a topic takes, who calls, and what is passed on.

Called by `connection`. Whatever the gateway used to recognise a caller is taken out of the
request here, so that neither the URI mapping, nor a log line, nor a backend gets to see it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.guard.caller import Caller, check_key_type
from trio_gw.guard.clients import accept
from trio_gw.guard.credentials import Places, take
from trio_gw.guard.schemes import Demand, Visit, authenticate
from trio_gw.proxy import forwarding

if TYPE_CHECKING:
    from trio_gw.errors import Headers
    from trio_gw.guard.clients import ClientPeer
    from trio_gw.guard.credentials import Rest
    from trio_gw.proxy.gateway import Gateway
    from trio_gw.routes import Route
    from trio_gw.wire.handshake import Upgrade
    from trio_gw.wire.head import RequestHead

_PROTOCOL = b"sec-websocket-protocol"


class Admitted(NamedTuple):
    """A handshake that may go on.

    `kind` is `production` or `sandbox`; `head` and `upgrade` are the request as backends may see
    it, before `drop` names the headers that hold credentials. `marker` is the subprotocol that
    marked a token, to be chosen if the backend chooses none.
    """

    caller: Caller
    kind: str
    head: RequestHead
    upgrade: Upgrade
    drop: frozenset[bytes]
    marker: str = ""

    def chosen(self, protocol: str) -> Headers:
        """Answer the client's offer for a backend that chose this subprotocol, or none ("")."""
        if protocol or not self.marker:
            return ()
        return ((_PROTOCOL, self.marker.encode("ascii")),)


def check_certificate(route: Route, shown: ClientPeer | None, *, tls: bool) -> ClientPeer | None:
    """Return the client's certificate if the API accepts it, or raise `Refusal`.

    spec: security §8. `shown` is what the handshake verified.
    """
    api = route.api
    pinned = (certificate.pem for certificate in api.client_certificates)
    return accept(shown, api.mutual_tls, pinned, tls=tls)


async def admit(
    gateway: Gateway, route: Route, head: RequestHead, upgrade: Upgrade, peer: str
) -> Admitted:
    """Establish who calls and which backends that caller is for, or raise `Refusal`.

    spec: security §1. `peer` is the address of who connected.
    """
    api, topic, settings = route.api, route.topic, gateway.settings
    visit = Visit(now=time.time(), address=forwarding.client_address(head, peer, gateway.trusted))
    drop: frozenset[bytes] = frozenset()
    marker = ""
    if route.secured:
        places = _places(gateway, route)
        presented, rest = take(places, head.headers, head.query, upgrade.protocols)
        visit = visit._replace(presented=presented, referers=tuple(head.values(b"referer")))
        if not settings.forward_credentials:
            drop = places.headers | forwarding.CREDENTIALS
        head, upgrade, marker = _without(head, upgrade, rest)
    demand = Demand(
        topic=topic.name,
        api=api.name,
        version=api.version,
        base_path=api.base_path,
        secured=route.secured,
        scopes=topic.scopes,
        oauth2=api.oauth2,
        api_key=bool(topic.api_keys),
    )
    caller = await authenticate(gateway.guard, demand, visit)
    kind = check_key_type(
        caller, has_production=api.production is not None, has_sandbox=api.sandbox is not None
    )
    return Admitted(caller, kind, head, upgrade, drop, marker)


def _places(gateway: Gateway, route: Route) -> Places:
    settings, keys = gateway.settings, route.topic.api_keys
    own = route.api.authorization_header or settings.authorization_header.lower()
    internal = settings.internal_key.header.lower() if settings.internal_key.issuer else ""
    if not settings.api_key.issuer:
        keys = ()
    return Places(
        bearer=own.encode("ascii"),
        internal_key=internal.encode("ascii"),
        api_key_headers=tuple(key.name.encode() for key in keys if key.place == "header"),
        api_key_parameters=tuple(key.name for key in keys if key.place == "query"),
        query_token=settings.query_token,
    )


def _without(head: RequestHead, upgrade: Upgrade, rest: Rest) -> tuple[RequestHead, Upgrade, str]:
    """Take the credentials out of query and subprotocols; headers are dropped later, by name."""
    if rest.query != head.query:
        head = head.but(query=rest.query)
    if not rest.marker:
        return head, upgrade, ""
    headers = [(name, value) for name, value in head.headers if name != _PROTOCOL]
    if rest.protocols:
        headers.append((_PROTOCOL, ", ".join(rest.protocols).encode("latin-1")))
    return (
        head.but(headers=tuple(headers)),
        upgrade._replace(protocols=rest.protocols),
        rest.marker,
    )
