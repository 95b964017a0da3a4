"""Test your own API projects against a real gateway (docs/testing-your-api.md).

`serve_gateway` and `serve_backend` are for Trio. `gateway_thread` and `backend_thread` are the same
for code without an event loop. The pytest plugin (`trio_gw.pytest_plugin`) has fixtures for both.
"""

from trio_gw.errors import Problem
from trio_gw.testing.backend import RecordingBackend, serve_backend
from trio_gw.testing.blocking import (
    BlockingBackend,
    BlockingConnection,
    BlockingGateway,
    backend_thread,
    gateway_thread,
)
from trio_gw.testing.connection import (
    Closed,
    ClosedError,
    HandshakeRefusedError,
    RecordingConnection,
)
from trio_gw.testing.gateway import ServedGateway, serve_gateway
from trio_gw.testing.projects import ProblemsError
from trio_gw.testing.topics import ServedTopic

__all__ = [
    "BlockingBackend",
    "BlockingConnection",
    "BlockingGateway",
    "Closed",
    "ClosedError",
    "HandshakeRefusedError",
    "Problem",
    "ProblemsError",
    "RecordingBackend",
    "RecordingConnection",
    "ServedGateway",
    "ServedTopic",
    "backend_thread",
    "gateway_thread",
    "serve_backend",
    "serve_gateway",
]
