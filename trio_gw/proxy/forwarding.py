"""The headers that describe the client to the backend, and the address of the client.

Backends trust these headers because a gateway sets them. So the client's own are never passed on
(`wire.handshake`), except for a chain from a proxy that the settings trust.
"""

from __future__ import annotations

import base64
import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from trio_gw.config.addresses import host_of, is_loopback
from trio_gw.proxy.sessions import RequestInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.config.api import BasicAuth
    from trio_gw.wire.head import RequestHead

Network = IPv4Network | IPv6Network

MAX_TEXT = 200  # bytes of a header that are kept for reports

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")

CREDENTIALS = frozenset((b"internal-key", b"apikey"))
"""Headers for gateways only; never passed on (spec: differences §2)."""


def client_address(head: RequestHead, peer: str, trusted: Sequence[Network]) -> str:
    """Return the address that a request comes from: the last one that is not a trusted proxy.

    Only entries that a trusted proxy wrote are used, so the chain is read from its end.
    """
    if not trusted or not is_in(peer, trusted):
        return peer
    chain = [
        part.strip() for value in head.values(b"x-forwarded-for") for part in value.split(b",")
    ]
    address = peer
    for part in reversed(chain):
        try:
            address = _address(part.decode("latin-1"))
        except ValueError:
            break
        if not is_in(address, trusted):
            break
    return address


def is_private(head: RequestHead, peer: str, trusted: Sequence[Network]) -> bool:
    """Return whether a request without TLS came a way that nobody can listen to.

    That is a connection of this machine, or one to a trusted proxy that says it had TLS.
    """
    told = head.values(b"x-forwarded-proto")
    if told and trusted and is_in(peer, trusted):
        return told[-1].split(b",")[-1].strip().lower() in (b"https", b"wss")
    return is_loopback(peer) or is_loopback(host_of(peer))


def request_info(head: RequestHead, peer: str, trusted: Sequence[Network]) -> RequestInfo:
    """Collect the facts about a request for logs and events."""
    return RequestInfo(
        vhost=head.host[:MAX_TEXT],
        authority=head.authority[:MAX_TEXT].decode("latin-1"),
        user_agent=_first(head.values(b"user-agent")),
        forwarded_for=_first(head.values(b"x-forwarded-for")),
        address=client_address(head, peer, trusted),
    )


def _first(values: Sequence[bytes]) -> str:
    return values[0][:MAX_TEXT].decode("utf-8", "backslashreplace") if values else ""


def claims(
    head: RequestHead, *, peer: str, tls: bool, request_id: str, trusted: Sequence[Network]
) -> tuple[tuple[bytes, bytes], ...]:
    """Build the X-Forwarded-* and X-Request-ID headers for the backend.

    `peer` is the address of the connection. If it is a trusted proxy, its chain is extended, and
    its values for scheme and host are used.
    """
    addresses = [peer.encode("ascii")]
    scheme, host = b"https" if tls else b"http", head.authority
    if trusted and is_in(peer, trusted):
        addresses = [*head.values(b"x-forwarded-for"), *addresses]
        scheme = (head.values(b"x-forwarded-proto") or [scheme])[0]
        host = (head.values(b"x-forwarded-host") or [host])[0]
    return (
        (b"x-forwarded-for", b", ".join(addresses)),
        (b"x-forwarded-host", host),
        (b"x-forwarded-proto", scheme),
        (b"x-request-id", request_id.encode("ascii")),
    )


def basic(credential: BasicAuth) -> bytes:
    """Build the Authorization header for the backends of a cluster (RFC 7617)."""
    pair = f"{credential.username}:{credential.password}".encode()
    return b"Basic " + base64.b64encode(pair)


def _address(text: str) -> str:
    """Parse an address that a proxy wrote: some add the port, or map IPv4 to IPv6.

    Raises ValueError if it is not an address.
    """
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def is_in(peer: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of these networks."""
    address = ip_address(peer.partition("%")[0])  # a link-local address names its interface
    return any(address in network for network in networks)
