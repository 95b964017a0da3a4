"""What protects the pages of the portal in a browser: host names, origins, headers of answers.

spec: portal §3.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from trio_gw.config.addresses import is_loopback
from trio_gw.guard.crosssite import is_foreign, own_origins

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from trio_gw.guard.authority import AuthorityNames

Head = list[tuple[bytes, bytes]]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'{sources}; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_PERMISSIONS = ", ".join(
    f"{name}=()"
    for name in (
        *("accelerometer", "autoplay", "bluetooth", "camera", "display-capture", "geolocation"),
        *("gyroscope", "hid", "magnetometer", "microphone", "midi", "payment", "serial", "usb"),
    )
)
FIXED: Head = [
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # With `no-referrer` browsers post forms with `Origin: null`.
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", _PERMISSIONS.encode()),
]


def policy(sources: tuple[str, ...]) -> bytes:
    """Write the content security policy; scripts may connect to `sources` too."""
    return _POLICY.format(sources="".join(f" {one}" for one in sources)).encode("latin-1")


def is_known_host(authority: str, names: AuthorityNames, server: str) -> bool:
    """Return whether a page may be asked for with this `Host`.

    Of addresses only those of loopback, and the one of the listener itself (`server`).
    """
    if not names.has(authority):
        return False
    host = authority.rpartition(":")[0] if not authority.endswith("]") else authority
    host = (host if ":" in authority else authority).strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return is_loopback(host) or address == ipaddress.ip_address(server.partition("%")[0])


def is_own_origin(headers: Headers, scheme: str, port: int) -> bool:
    """Return whether a page of the portal itself makes this request: it names its origin."""
    origins = [one.encode("latin-1") for one in headers.getlist("origin")]
    sites = [one.encode("latin-1") for one in headers.getlist("sec-fetch-site")]
    own = own_origins(scheme, headers.get("host", "").encode("latin-1"), port)
    return bool(origins) and not is_foreign(sites, origins, own)
