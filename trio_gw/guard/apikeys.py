"""Restrictions of an API key: the addresses and the pages that may use it.

Called by `schemes` with the claims of a verified key. Pure. Nothing satisfies a restriction that
cannot be read.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from trio_gw.config.wildcards import fits
from trio_gw.guard import refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ENTRIES = 100


def check(claims: dict[str, Any], address: str, referers: Sequence[bytes]) -> None:
    """Raise Refusal unless the key may be used from this address and this page.

    `permittedIP` lists addresses and networks, `permittedReferer` patterns in which `*` stands
    for any text without a space; commas separate their entries.
    """
    networks, pages = claims.get("permittedIP"), claims.get("permittedReferer")
    if not _is_open(networks) and not _is_in(address, _entries(networks)):
        raise refusals.forbidden("the API key is bound to other addresses")
    if not _is_open(pages) and not _is_from(referers, _entries(pages)):
        raise refusals.forbidden("the API key is bound to other pages")


def _is_open(claim: object) -> bool:
    return claim is None or claim == ""


def _entries(claim: object) -> tuple[str, ...]:
    parts = claim.split(",") if isinstance(claim, str) else ()
    return tuple(part for item in parts[:MAX_ENTRIES] if (part := item.strip()))


def _is_in(address: str, networks: tuple[str, ...]) -> bool:
    try:
        host = ip_address(address.partition("%")[0])  # a link-local address names its interface
    except ValueError:
        return False
    if isinstance(host, IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    for text in networks:
        try:
            if host in ip_network(text, strict=False):
                return True
        except ValueError:
            continue
    return False


def _is_from(referers: Sequence[bytes], patterns: tuple[str, ...]) -> bool:
    if len(referers) != 1:
        return False
    referer = referers[0].decode("latin-1")
    return " " not in referer and any(fits(text, referer) for text in patterns)
