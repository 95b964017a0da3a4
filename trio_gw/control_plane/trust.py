"""The trust in the servers of API Manager: REST, `amqps://` and `ssl://` logins alike.

Called once at start. Blocks: it reads files.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from trio_gw.guard.anchors import load_anchors

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.config.control_plane import ControlPlaneSettings


def tls_context(settings: ControlPlaneSettings, base: Path) -> ssl.SSLContext:
    """Make the TLS settings of a client. `base` is the folder that `ca` is relative to.

    Without `ca` the authorities of the system count. Raises UnusableError.
    """
    if settings.insecure_skip_verify:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if not settings.ca:
        return ssl.create_default_context()
    anchors = load_anchors(base / settings.ca, "control_plane.ca")
    return ssl.create_default_context(cadata="\n".join(anchors))
