"""The order in which brokers are tried."""

from __future__ import annotations

from itertools import islice

from trio_gw.config.broker_url import parse_broker_urls
from trio_gw.control_plane.failover import attempts


def test_each_broker_once_at_once_and_then_in_rounds_with_growing_pauses() -> None:
    brokers = parse_broker_urls(
        ["amqp://a?retries=2&connectdelay=10", "amqp://b?retries=1&connectdelay=1"]
    )
    assert list(islice(attempts(brokers, lambda: 1.0), 17)) == [
        *((0, 0.0), (1, 0.0)),
        *((0, 10.0), (0, 10.0), (1, 1.0)),
        *((0, 20.0), (0, 20.0), (1, 2.0)),
        *((0, 40.0), (0, 40.0), (1, 4.0)),
        *((0, 60.0), (0, 60.0), (1, 8.0)),
        *((0, 60.0), (0, 60.0), (1, 16.0)),
    ]


def test_a_pause_of_the_settings_above_a_minute_stays() -> None:
    brokers = parse_broker_urls(["amqp://a?retries=1&connectdelay=90"])
    assert [pause for _, pause in islice(attempts(brokers, lambda: 0.5), 3)] == [0.0, 45.0, 45.0]


def test_no_brokers_have_no_attempts() -> None:
    assert list(attempts([], lambda: 1.0)) == []
