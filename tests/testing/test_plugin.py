"""The pytest plugin: what it costs those who do not use it, and its fixtures in both kinds."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"trio", "cryptography", "msgspec", "yaml", "httpx2", "trio_gw.testing"}
LOOK = f"""
import sys
def test_nothing_is_imported():
    assert not {HEAVY!r} & set(sys.modules)
"""
THREADS = """
import pytest

@pytest.fixture
def gateway_options(gateway_options):
    return gateway_options | {"settings": {"forward_credentials": True}}

def test_it_works(threaded_gateway, threaded_backend):
    gateway = threaded_gateway
    assert gateway.topic("/rooms/{room}").secured
    assert gateway.status("/rooms/{room}", room=1) == 401
    with gateway.connect("/rooms/{room}", room=1, token=gateway.token()) as client:
        client.send("hello")
        assert client.receive() == "hello"
        arrived = threaded_backend.accept()
        assert arrived.header("authorization")
        assert threaded_backend.receive() == arrived.receive() == "hello"
        arrived.close(4000, "done")
        assert client.wait_closed() == client.closed == (4000, "done")
    assert any("/rooms/1" in line for line in gateway.logs)

def test_errors_come_through(threaded_gateway):
    from trio_gw.testing import ProblemsError, HandshakeRefusedError, gateway_thread
    with pytest.raises(HandshakeRefusedError), threaded_gateway.connect("/rooms/{room}", room=1):
        pass
    with pytest.raises(LookupError), threaded_gateway.connect("/nowhere"):
        pass
    with pytest.raises(ZeroDivisionError), gateway_thread():
        1 / 0
    with pytest.raises(ProblemsError), gateway_thread(projects="nowhere"):
        pass
"""
TRIO = """
async def test_it_works(trio_gateway, trio_backend):
    token = trio_gateway.token()
    async with trio_gateway.connect("/rooms/{room}", room=1, token=token) as client:
        await client.send("hello")
        assert await trio_backend.receive() == await client.receive() == "hello"
"""


def run(folder: Path, test: str, *arguments: str) -> str:
    """Run one test file as a project would; returns what pytest printed."""
    backend = "ws://backend.invalid/v2"
    write(
        folder / "apis",
        "Chat",
        api("Chat", "/chat", backend),
        asyncapi({"/rooms/{room}": {"publish": {}}}),
    )
    (folder / "gateway.toml").write_text('authorization_header = "Authorization"\n')
    (folder / "pytest.ini").write_text(
        "[pytest]\ntrio_gw_projects = apis\ntrio_gw_settings = gateway.toml\n"
    )
    (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def test_it_costs_nothing_until_a_fixture_is_used(tmp_path: Path) -> None:
    bare = ("-p", "no:trio", "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert "1 passed" in run(tmp_path, LOOK, *bare)


def test_the_fixtures_for_plain_pytest(tmp_path: Path) -> None:
    assert "2 passed" in run(
        tmp_path, THREADS, "-p", "no:trio", "-W", "ignore::pytest.PytestConfigWarning"
    )


def test_the_fixtures_for_pytest_trio(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, TRIO, "-o", "trio_mode=true")
