"""The metrics of the control plane."""

from __future__ import annotations

from trio_gw.control_plane.status import BrokerStatus, ControlPlaneStatus, QueueStatus
from trio_gw.control_plane.status_metrics import show
from trio_gw.telemetry.metrics import Metrics


def test_the_follower_shows_all_and_others_their_part() -> None:
    follower = ControlPlaneStatus("https://apim/", ("Default",), follows=True)
    follower.brokers = [BrokerStatus("a:5672"), BrokerStatus("b:5672")]
    follower.connected(follower.brokers[1])
    follower.pull_failed("x")
    follower.pull_ended(0.5)
    follower.mark_current()
    follower.event("deploy", "applied")
    follower.event("deploy", "applied")
    follower.event("other", "malformed")
    follower.served = {"apis": 3}
    follower.queues["acknowledgements"] = QueueStatus(2, 100, 7)
    first, second = Metrics(index=0), Metrics(index=1)
    show(first, follower)
    other = ControlPlaneStatus("https://apim/", ("Default",))
    other.served = {"apis": 3}
    other.frame_events["published"] = 5
    other.receivers = [BrokerStatus("tm:9611", connected=True)]
    show(second, other)
    lines = first.exposition().decode().splitlines()
    assert {line for line in lines if line.startswith("trio_gw_control_plane")} == {
        "trio_gw_control_plane_stale_seconds 0.0",
        'trio_gw_control_plane_pulls_total{result="good"} 1.0',
        'trio_gw_control_plane_pulls_total{result="failed"} 1.0',
        "trio_gw_control_plane_pull_seconds 0.5",
        'trio_gw_control_plane_events_total{kind="deploy",result="applied"} 2.0',
        'trio_gw_control_plane_events_total{kind="other",result="malformed"} 1.0',
        'trio_gw_control_plane_broker_connected{broker="a:5672"} 0.0',
        'trio_gw_control_plane_broker_connected{broker="b:5672"} 1.0',
        'trio_gw_control_plane_rows{kind="apis"} 3.0',
        'trio_gw_control_plane_queue{queue="acknowledgements",worker="1"} 2.0',
    }
    assert 'trio_gw_dropped_events_total{queue="acknowledgements"} 7.0' in lines
    lines = second.exposition().decode().splitlines()
    assert not [line for line in lines if line.startswith("trio_gw_control_plane")]
    assert 'trio_gw_throttle_events_total{result="published"} 5.0' in lines
    assert 'trio_gw_throttle_receiver_connected{receiver="tm:9611",worker="2"} 1.0' in lines


def test_a_new_number_is_seen_at_the_next_scrape() -> None:
    status = ControlPlaneStatus("https://apim/", ("Default",), follows=True)
    metrics = Metrics()
    show(metrics, status)
    assert b"control_plane_events_total{" not in metrics.exposition()
    status.event("block", "applied")
    assert b'events_total{kind="block",result="applied"} 1.0' in metrics.exposition()
