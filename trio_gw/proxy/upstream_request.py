"""Builds the request to the backend: the client's request without what is not meant for the
backend.

Called by `connection` for every endpoint that is tried.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from trio_gw.guard.clients import header_value
from trio_gw.proxy import forwarding
from trio_gw.proxy.tracing_observer import HEADERS
from trio_gw.wire.end_to_end import backend_headers

if TYPE_CHECKING:
    from trio_gw.config.api import Cluster, Endpoint
    from trio_gw.proxy.admission import Admitted
    from trio_gw.proxy.services import Services
    from trio_gw.proxy.sessions import Session


def headers(
    services: Services,
    session: Session,
    admitted: Admitted,
    cluster: Cluster,
    endpoint: Endpoint,
    *,
    tls: bool,
) -> list[tuple[bytes, bytes]]:
    """Build the header fields of the upgrade request. `tls`: the client uses TLS."""
    settings = services.settings
    head = admitted.head
    claims = forwarding.claims(
        head,
        peer=session.peer,
        tls=tls,
        request_id=session.request_id,
        trusted=services.trusted,
    )
    certificate_name = settings.tls.client_certificate_header
    drop = _dropped(
        admitted.drop,
        settings.backend_jwt.header,
        certificate_name,
        extensions=bool(admitted.upgrade.extensions),
        basic=cluster.basic is not None,
        traced=services.tracing_observer is not None,
    )
    if services.tracing_observer is not None:
        claims = (*claims, *services.tracing_observer.context_headers(session))
    if (made := _assertion(services, session, admitted)) is not None:
        claims = (*claims, made)
    if cluster.basic is not None:
        claims = (*claims, (b"authorization", forwarding.basic(cluster.basic)))
    if certificate_name and (certificate := session.certificate) is not None:
        name = certificate_name.lower().encode("ascii")
        claims = (*claims, (name, header_value(certificate)))
    host = _host(services, session, admitted, endpoint)
    return backend_headers(head, host=host, drop=drop, added=claims)


def _host(services: Services, session: Session, admitted: Admitted, endpoint: Endpoint) -> bytes:
    """Return the `Host` for a backend: its own, or the client's if the settings ask for that.

    The client's is the host that was checked and that selected the route; never the value of a
    header such as X-Forwarded-Host.
    """
    wanted = services.settings.preserve_host
    if session.route is not None and session.route.api.preserve_host is not None:
        wanted = session.route.api.preserve_host
    own = admitted.head.authority if wanted else b""
    return own or endpoint.authority.encode("ascii")


@functools.lru_cache(maxsize=1000)
def _dropped(
    credentials: frozenset[bytes],
    assertion: str,
    certificate: str,
    *,
    extensions: bool,
    basic: bool,
    traced: bool,
) -> frozenset[bytes]:
    """Return the names of client headers that are not passed on to this backend."""
    # Backends trust these headers, so a client must never be able to set them; the second is
    # dropped even if there is no certificate.
    names = [assertion.lower().encode("ascii"), certificate.lower().encode("ascii")]
    if not extensions:
        names.append(b"sec-websocket-extensions")
    if basic:
        names.append(b"authorization")
    if traced:
        names += HEADERS
    return credentials.union(filter(None, names))


def _assertion(
    services: Services, session: Session, admitted: Admitted
) -> tuple[bytes, bytes] | None:
    assertions, route = services.assertions, session.route
    if assertions is None or route is None:
        return None
    return assertions.header(admitted.caller, route.api, time.time())
