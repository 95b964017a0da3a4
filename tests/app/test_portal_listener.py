"""The plain listener of the portal: which settings bind it, and what happens to a taken port."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest

from trio_gw.app import listeners
from trio_gw.app.listeners import bind_all, close_all
from trio_gw.config.portal import PortalSettings
from trio_gw.config.settings import Settings
from trio_gw.errors import UnusableError

LISTEN = {"http": "localhost:0", "https": "localhost:0", "admin": "localhost:0"}


def bound(portal: dict[str, Any], **listen: str) -> list[str]:
    """Bind what these settings name, and return the names."""
    settings = msgspec.convert({"listen": {**LISTEN, **listen}, "portal": portal}, Settings)
    found = bind_all(settings)
    close_all(found)
    return [name for name, sockets in found.items() if sockets]


def test_it_needs_the_portal_and_the_admin_listener() -> None:
    local = {"local": "localhost:0"}
    assert bound(local) == ["http", "https", "admin", "portal"]
    assert bound({"local": ""}) == ["http", "https", "admin"]
    assert bound({**local, "enabled": False}) == ["http", "https", "admin"]
    assert bound(local, admin="") == ["http", "https"]


def test_a_taken_port(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        local = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(UnusableError) as caught:
            bound({"local": local})
        assert "portal.local" in str(caught.value.problems[0])
        # The default port: another gateway of this machine may have it.
        monkeypatch.setattr(listeners, "PortalSettings", lambda: PortalSettings(local=local))
        assert bound({"local": local}) == ["http", "https", "admin"]
        assert "the portal is at the admin listener only" in caplog.text
