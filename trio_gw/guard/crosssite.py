"""Requests that a browser makes for a page of another site (CSRF). Pure.

Browsers add cached credentials to the requests that a page makes. They name the site of the page in
`Sec-Fetch-Site` (Fetch Metadata) and `Origin` (RFC 6454); other clients send neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))  # methods that change nothing (RFC 9110 §9.2.1)
_OURS = (b"same-origin", b"none")  # none: a typed address or a bookmark
_PORTS = {"http": "80", "https": "443"}


def is_foreign(sites: Sequence[bytes], origins: Sequence[bytes], own: Collection[bytes]) -> bool:
    """Return whether a request comes from a page that is not `own` (origins in browsers' form).

    `sites` and `origins` are all values of `Sec-Fetch-Site` and of `Origin`. Values that no browser
    sends, such as two of one header, count as foreign.
    """
    if len(sites) > 1 or len(origins) > 1:
        return True
    return any(site not in _OURS for site in sites) or any(one not in own for one in origins)


def own_origins(scheme: str, authority: bytes, port: int) -> tuple[bytes, ...]:
    """Return the origin of pages requested with this `Host`; `port` is that of the listener."""
    host = authority.decode("latin-1").lower()
    name, colon, given = host.rpartition(":")
    if not colon or given.endswith("]"):
        name, given = host, ""
    ports = (given,) if given else (_PORTS[scheme], str(port))
    return tuple(
        f"{scheme}://{name}{'' if one == _PORTS[scheme] else f':{one}'}".encode("latin-1")
        for one in ports
    )
