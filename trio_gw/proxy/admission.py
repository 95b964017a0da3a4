"""The authenticate phase: identifies the caller and removes the credentials from the request.

After this phase neither the URI mapping nor a log line nor a backend sees the credentials.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from trio_gw.guard.caller import Caller, check_key_type
from trio_gw.guard.clients import accept
from trio_gw.guard.credentials import Presented, take
from trio_gw.guard.schemes import Handshake, authenticate

if TYPE_CHECKING:
    from trio_gw.errors import Headers
    from trio_gw.guard.clients import ClientPeer
    from trio_gw.guard.credentials import RemainingRequest
    from trio_gw.proxy.services import Services
    from trio_gw.routing.route import Route
    from trio_gw.wire.handshake import Upgrade
    from trio_gw.wire.head import RequestHead

_PROTOCOL = b"sec-websocket-protocol"


class Admitted(msgspec.Struct, frozen=True):
    """The result of the authenticate phase.

    `kind` is `production` or `sandbox`. `head` and `upgrade` are the request for the backend;
    `drop` names headers with credentials that are still to be removed. `marker` is the subprotocol
    that announced a token; it is selected if the backend selects none.
    """

    caller: Caller
    kind: str
    head: RequestHead
    upgrade: Upgrade
    drop: frozenset[bytes]
    marker: str = ""

    def chosen(self, protocol: str) -> Headers:
        """Return the header for the selected subprotocol, if the backend selected none ("")."""
        if protocol or not self.marker:
            return ()
        return ((_PROTOCOL, self.marker.encode("ascii")),)


def check_certificate(route: Route, shown: ClientPeer | None, *, tls: bool) -> ClientPeer | None:
    """Return the client certificate if the API accepts it, otherwise raise `Refusal`.

    spec: security §8. `shown` is the certificate that the TLS handshake verified.
    """
    api = route.api
    pinned = (certificate.pem for certificate in api.client_certificates)
    return accept(shown, api.mutual_tls, pinned, tls=tls)


async def admit(
    services: Services, route: Route, head: RequestHead, upgrade: Upgrade, address: str
) -> Admitted:
    """Identify the caller and the kind of backends for it, or raise `Refusal`.

    spec: security §1. `address` is the client's address, as far as it is known.
    """
    api, policy = route.api, services.topic_policies.of(route)
    presented, marker = Presented(), ""
    if policy.secured:
        presented, rest = take(policy.places, head.values, head.query, upgrade.protocols)
        head, upgrade, marker = _without(head, upgrade, rest)
    visit = Handshake(time.time(), address, presented, tuple(head.values(b"referer")))
    caller = await authenticate(services.guard, policy.demand, visit)
    kind = check_key_type(
        caller, has_production=api.production is not None, has_sandbox=api.sandbox is not None
    )
    return Admitted(caller, kind, head, upgrade, policy.drop, marker)


def _without(
    head: RequestHead, upgrade: Upgrade, rest: RemainingRequest
) -> tuple[RequestHead, Upgrade, str]:
    """Remove credentials from query and subprotocols. Headers are removed later, by name."""
    if rest.query != head.query:
        head = head.replace(query=rest.query)
    if rest.protocols == upgrade.protocols:
        return head, upgrade, ""
    headers = [(name, value) for name, value in head.headers if name != _PROTOCOL]
    if rest.protocols:
        headers.append((_PROTOCOL, ", ".join(rest.protocols).encode("latin-1")))
    return (
        head.replace(headers=tuple(headers)),
        structs.replace(upgrade, protocols=rest.protocols),
        rest.marker,
    )
