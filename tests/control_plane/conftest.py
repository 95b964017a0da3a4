"""Fixtures for tests of the control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.rabbitmq import RabbitMQ

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A second broker, for tests of failover; they leave it running."""
    broker = RabbitMQ(tmp_path_factory.mktemp("second"))
    try:
        broker.start()
        yield broker
    finally:
        broker.close()
