"""Requests that a browser makes for somebody else's web page (CSRF). Pure.

Browsers send credentials that they have cached along with whatever a page makes them send. They
do tell whose page it is, in `Sec-Fetch-Site` (Fetch Metadata) and `Origin` (RFC 6454); clients that
are no browsers send neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))  # methods that change nothing (RFC 9110 §9.2.1)
_OURS = (b"same-origin", b"none")  # none: somebody typed it, or chose a bookmark
_PORTS = {"http": "80", "https": "443"}


def is_foreign(sites: Sequence[bytes], origins: Sequence[bytes], own: Collection[bytes]) -> bool:
    """Tell whether a request comes from a page that is not `own` (origins as browsers write them).

    `sites` and `origins` are all values of `Sec-Fetch-Site` and of `Origin`. What no browser
    sends, such as two of one of them, is foreign too.
    """
    if len(sites) > 1 or len(origins) > 1:
        return True
    return any(site not in _OURS for site in sites) or any(one not in own for one in origins)


def own_origins(scheme: str, authority: bytes, port: int) -> tuple[bytes, ...]:
    """Name the origin of pages that were asked for with this `Host`; `port` is the listener's."""
    host = authority.decode("latin-1").lower()
    name, colon, given = host.rpartition(":")
    if not colon or given.endswith("]"):
        name, given = host, ""
    ports = (given,) if given else (_PORTS[scheme], str(port))
    return tuple(
        f"{scheme}://{name}{'' if one == _PORTS[scheme] else f':{one}'}".encode("latin-1")
        for one in ports
    )
