"""Rules of `[tls]`: certificates by host name, trust, and the header of the client certificate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.config.addresses import is_host_name
from trio_gw.config.rules.faults import Fault, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Headers that mean something else to a backend, or that belong to the upgrade.
_TAKEN = frozenset(
    {
        *("accept", "age", "authorization", "connection", "cookie", "date", "expect", "forwarded"),
        *("apikey", "content-length", "content-type", "host", "internal-key", "keep-alive"),
        *("origin", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade", "user-agent", "via", "x-forwarded-for"),
        *("x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto"),
        *("x-forwarded-server", "x-jwt-assertion", "x-real-ip", "x-request-id"),
    }
)


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of these."""
    tls = settings.tls
    for path, value in ((("tls", "cert"), tls.cert), (("tls", "key"), tls.key)):
        if not value:
            yield Fault(path, f"{dotted(path)} is empty", "name a path, or leave the key out")
    for index, pair in enumerate(tls.certificates):
        place = ("tls", "certificates", index)
        for name, value in (("cert", pair.cert), ("key", pair.key)):
            if not value:
                yield Fault((*place, name), f"{dotted((*place, name))} is empty", "name a PEM file")
        for host in pair.hosts:
            if not is_host_name(host.removeprefix("*.")):
                yield Fault(
                    (*place, "hosts"),
                    f"{dotted(place)}.hosts: {host!r} is not a host name",
                    'write it like "ws.example.com" or "*.example.com"',
                )
    header = tls.client_certificate_header
    path = ("tls", "client_certificate_header")
    if header and not _NAME.fullmatch(header.lower()):
        yield Fault(
            path,
            f"tls.client_certificate_header: {header!r} is not a name for a header",
            "use letters, digits and hyphens, like x-client-certificate-subject",
        )
    elif header.lower() in _TAKEN or header.lower().startswith("sec-"):
        yield Fault(
            path,
            f"tls.client_certificate_header: {header!r} is the name of another header",
            "choose a name of its own, like x-client-certificate-subject",
        )
