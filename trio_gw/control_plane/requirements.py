"""The library that the control plane needs, and what API Manager's certificates are checked with.

`pamqp` is optional (`trio-gw[control-plane]`): only gateways with `control_plane.url` need it.
"""

from __future__ import annotations

import importlib.util
import ssl
from typing import TYPE_CHECKING

from trio_gw.errors import Problem, UnusableError
from trio_gw.guard.anchors import load_anchors

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.config.control_plane import ControlPlaneSettings


def require(url: str) -> None:
    """Raise `UnusableError` if the control plane is on and the library is not installed."""
    if url and importlib.util.find_spec("pamqp") is None:
        what = "control_plane.url is set, but pamqp is not installed"
        hint = "run: pip install 'trio-gw[control-plane]'; or leave [control_plane] out"
        raise UnusableError([Problem("gateway.toml", 0, 0, what, hint)])


def tls_context(settings: ControlPlaneSettings, base: Path) -> ssl.SSLContext:
    """Make the context for all TLS connections to API Manager: REST, `amqps://`, `ssl://`.

    With `ca` only its certificates are trusted, otherwise those of the system. A relative `ca` is
    relative to `base`. Reads files, so it blocks. Raises `UnusableError`.
    """
    if settings.insecure_skip_verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if not settings.ca:
        return ssl.create_default_context()
    anchors = load_anchors(base / settings.ca, "control_plane.ca")
    return ssl.create_default_context(cadata="\n".join(anchors))
