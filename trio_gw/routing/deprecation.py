"""Headers that tell clients that an API is deprecated (RFC 9745), and when it ends (RFC 8594)."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_gw.config.lifecycle import Managed
    from trio_gw.errors import Headers


def deprecation_headers(managed: Managed | None) -> Headers:
    """Return the headers of the response to the upgrade; empty unless the API is deprecated."""
    if managed is None or managed.state != "DEPRECATED":
        return ()
    deprecation = (b"deprecation", b"@%d" % managed.since)
    if not managed.sunset:
        return (deprecation,)
    return deprecation, (b"sunset", formatdate(managed.sunset, usegmt=True).encode("ascii"))
