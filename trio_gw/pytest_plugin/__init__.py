"""The pytest plugin: fixtures with which people test their own API projects.

Loaded by pytest wherever the gateway is installed, so it imports nothing before a fixture is
used. The fixtures for pytest-trio are in `trio_fixtures`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.testing import BlockingBackend, BlockingGateway


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of `pyproject.toml` or `pytest.ini`."""
    parser.addini("trio_gw_projects", "API projects, or folders of them", type="paths")
    parser.addini("trio_gw_settings", "the gateway's settings, a gateway.toml", type="paths")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures for pytest-trio where that is in use."""
    if config.pluginmanager.hasplugin("trio"):
        from trio_gw.pytest_plugin import trio_fixtures

        config.pluginmanager.register(trio_fixtures, "trio_gw_trio_fixtures")


@pytest.fixture
def gateway_options(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Arguments of `serve_gateway`; define a fixture of this name to give others."""
    settings = pytestconfig.getini("trio_gw_settings")
    projects = pytestconfig.getini("trio_gw_projects")
    return {"projects": projects or None, "settings": settings[0] if settings else None}


@pytest.fixture
def threaded_backend() -> Iterator[BlockingBackend]:
    """A backend that sends messages back, in a thread of its own."""
    from trio_gw.testing import backend_thread

    with backend_thread() as backend:
        yield backend


@pytest.fixture
def threaded_gateway(
    gateway_options: dict[str, Any], threaded_backend: BlockingBackend
) -> Iterator[BlockingGateway]:
    """A gateway in a thread of its own; `threaded_backend` receives what it relays."""
    from trio_gw.testing import gateway_thread

    with gateway_thread(**{"backend": threaded_backend, **gateway_options}) as gateway:
        yield gateway
