"""Whom an address stands for, where something is counted by address."""

from __future__ import annotations

import ipaddress

PREFIX = 64  # bits of an IPv6 address that tell hosts apart; the rest is the host's to choose


def host(address: str) -> str:
    """Name the host of an address; what is no address stands for itself.

    An IPv6 host has a whole network of addresses, and would have a count of its own for each.
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
