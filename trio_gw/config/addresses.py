"""Host names, addresses, and the `host:port` of listeners. No name is resolved."""

from __future__ import annotations

import ipaddress
import re

# One label of a host name. Underscores are not in RFC 1123, but containers are named with them.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
PREFIX = 64  # bits of an IPv6 address that identify a host; the host chooses the rest
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


def is_host_name(text: str) -> bool:
    """Return whether this is a host name or an IPv4 address in letters, digits, `-`, `_`, `.`."""
    return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None


def parse_address(text: str) -> tuple[str, int]:
    """Split `host:port`; the host is empty for every interface (`:9090`, `*:9090`).

    An IPv6 address is written in brackets and comes back without them: `[::1]:9090`. Names are
    not resolved. Raises ValueError with a text that says what is wrong.
    """
    host, colon, digits = text.rpartition(":")
    if not colon:
        raise ValueError("a port is missing")
    if not (digits.isascii() and digits.isdigit() and int(digits) <= 65535):
        raise ValueError("the port is not a number from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("the text in brackets is not an IPv6 address") from None
    elif ":" in host:
        raise ValueError("an IPv6 address is written in brackets, like [::1]:9090")
    elif host == "*":
        host = ""
    elif host and not is_host_name(host):
        raise ValueError("the host is neither a name nor an address")
    return host, int(digits)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listener on this host.

    Nothing is resolved: `localhost`, 127.0.0.0/8 and ::1 are loopback, every other name is not.
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Not `is_loopback`: since Python 3.13 that also holds for ::ffff:127.0.0.1.
    return any(address in network for network in _LOOPBACK)


def host_of(address: str) -> str:
    """Return the host of an address, for counts by host; other texts are returned unchanged.

    An IPv6 host has a whole network of addresses; without this each would have its own count.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, PREFIX), strict=False))
