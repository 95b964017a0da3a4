"""The client of the event hub with a real broker (spec: control-plane §6, §13, §14)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from support.events import Collector, following
from support.forwarder import forwarding
from support.publisher import notification, publishing
from support.rabbitmq import free_ports
from trio_gw.control_plane.status import ControlPlaneStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")

BODY_LIMIT = 1 << 20
CONNECTION_OPEN, CONNECTION_CLOSE = b"\0\x0a\0\x28", b"\0\x0a\0\x32"


async def test_events_of_all_keys_arrive_in_order(rabbitmq: RabbitMQ) -> None:
    keys = ("notification", "keymanager", "tokenRevocation", "throttleData")
    sent = [(keys[number % 4], b"%d" % number) for number in range(200)]
    async with following([rabbitmq.url()]) as events, publishing(rabbitmq.port) as publisher:
        for key, data in sent:
            await publisher.put(key, data)
        await publisher.flush()
        await events.until(lambda: len(events.deliveries) == len(sent))
        assert events.deliveries == sent


async def test_other_keys_and_other_virtual_hosts_are_not_received(rabbitmq: RabbitMQ) -> None:
    async with (
        following([rabbitmq.url(vhost="carbon")]) as events,
        publishing(rabbitmq.port, "carbon") as publisher,
        publishing(rabbitmq.port, "/") as elsewhere,
    ):
        assert not await publisher.publish("asyncWebhooksData", b"other key")
        assert not await publisher.publish("Notification", b"other case")
        assert not await elsewhere.publish("notification", b"other virtual host")
        assert await publisher.publish("notification", b"own")
        await events.until(lambda: bool(events.deliveries))
        assert events.bodies == [b"own"]


async def test_what_is_published_before_the_queue_is_bound_waits_for_the_pull(
    rabbitmq: RabbitMQ,
) -> None:
    consumer = Collector()
    consumer.in_bound = trio.Event()
    async with (
        following([rabbitmq.url()], consumer),
        publishing(rabbitmq.port) as publisher,
    ):
        assert await publisher.publish("notification", b"during the pull")
        assert consumer.deliveries == []
        consumer.in_bound.set()
        await consumer.until(lambda: bool(consumer.deliveries))


async def queue_state(rabbitmq: RabbitMQ, vhost: str = "/") -> list[tuple[int, int]]:
    """Return the messages of each queue: waiting, and delivered but not acknowledged."""
    columns = ("messages_ready", "messages_unacknowledged")
    listed = await rabbitmq.ctl("list_queues", "-p", vhost, "--no-table-headers", *columns)
    rows = [line.split() for line in listed.splitlines() if line.strip()]
    return [(int(ready), int(unacknowledged)) for ready, unacknowledged in rows]


async def test_a_message_is_acknowledged_after_it_is_processed(rabbitmq: RabbitMQ) -> None:
    consumer = Collector(hold=True)
    async with (
        following([rabbitmq.url()], consumer, prefetch=2),
        publishing(rabbitmq.port) as publisher,
    ):
        for number in range(5):
            await publisher.publish("notification", b"%d" % number)
        await consumer.until(lambda: len(consumer.deliveries) == 1)
        assert await queue_state(rabbitmq) == [(3, 2)]
        consumer.release.set()
        await consumer.until(lambda: len(consumer.deliveries) == 5)
        while await queue_state(rabbitmq) != [(0, 0)]:
            await trio.lowlevel.checkpoint()


async def test_the_queue_ends_with_the_connection_and_a_new_one_is_bound(
    rabbitmq: RabbitMQ,
) -> None:
    consumer = Collector(hold=True)
    async with (
        following([rabbitmq.url()], consumer),
        publishing(rabbitmq.port) as publisher,
    ):
        await publisher.publish("notification", b"in process")
        await publisher.publish("notification", b"waits")
        await consumer.until(lambda: len(consumer.deliveries) == 1)
    # Nothing is kept for a client that is away: that is why every connect is followed by a pull.
    while await queue_state(rabbitmq):
        await trio.lowlevel.checkpoint()
    async with following([rabbitmq.url()]) as events, publishing(rabbitmq.port) as publisher:
        await publisher.publish("notification", b"new")
        await events.until(lambda: bool(events.deliveries))
        assert events.bodies == [b"new"]


async def test_connections_closed_by_the_broker_are_made_again(rabbitmq: RabbitMQ) -> None:
    status = ControlPlaneStatus()
    async with following([rabbitmq.url()], status=status) as events:
        (broker,) = status.brokers
        assert (broker.connected, broker.connects) == (True, 1)
        await rabbitmq.close_connections()
        await events.until(lambda: events.connects == 2)
        assert "320 CONNECTION_FORCED - closed by a test" in events.reasons[0]
        assert (broker.connected, broker.connects, broker.losses) == (True, 2, 1)
        async with publishing(rabbitmq.port) as publisher:
            assert await publisher.publish("notification", b"after it")
        await events.until(lambda: events.bodies == [b"after it"])


async def test_a_deleted_queue_is_made_again(rabbitmq: RabbitMQ) -> None:
    async with following([rabbitmq.url()]) as events:
        queues = 'rabbit_amqqueue:list(<<"/">>)'
        delete = 'rabbit_amqqueue:delete(Q, false, false, <<"test">>)'
        await rabbitmq.ctl("eval", f"[{delete} || Q <- {queues}].")
        await events.until(lambda: events.connects == 2)
        assert "the queue is gone" in events.reasons[0]


@pytest.mark.parametrize("orderly", [True, False])
async def test_a_broker_that_restarts_during_events_is_followed_again(
    rabbitmq: RabbitMQ, orderly: bool
) -> None:
    async with following([rabbitmq.url()]) as events:
        async with publishing(rabbitmq.port, seconds=240) as publisher:
            await publisher.put("notification", *[b"%d" % number for number in range(1000)])
            await rabbitmq.restart(orderly=orderly)
        await events.until(lambda: events.connects == 2)
        got = events.bodies
        assert got == [b"%d" % number for number in range(len(got))]
        async with publishing(rabbitmq.port) as publisher:
            assert await publisher.publish("notification", b"after it")
        await events.until(lambda: events.bodies[-1:] == [b"after it"])


async def test_the_next_broker_takes_over_in_the_order_of_the_settings(
    rabbitmq: RabbitMQ, second: RabbitMQ
) -> None:
    urls = [rabbitmq.url(), second.url()]
    async with following(urls) as events:
        await trio.to_thread.run_sync(rabbitmq.stop)
        try:
            await events.until(lambda: events.connects == 2)
            async with publishing(second.port) as publisher:
                assert await publisher.publish("notification", b"from the second")
            await events.until(lambda: events.bodies == [b"from the second"])
        finally:
            await trio.to_thread.run_sync(rabbitmq.start)
        await second.close_connections()
        await events.until(lambda: events.connects == 3)
        async with publishing(rabbitmq.port) as publisher:
            assert await publisher.publish("notification", b"from the first")
        await events.until(lambda: events.bodies[-1] == b"from the first")


async def test_a_broker_that_is_down_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    url = f"amqp://admin:admin@127.0.0.1:{port}/?retries=3&connectdelay=0.01"
    async with following([url], connected=False) as events:
        await events.until(lambda: len(events.reasons) == 5)
        assert events.connects == 0
        assert events.reasons[0] == f"amqp://127.0.0.1:{port}: Connection refused"
    lines = [record for record in caplog.records if "Connection refused" in record.getMessage()]
    assert [record.levelname for record in lines] == ["WARNING"] + ["DEBUG"] * 4


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts one authority."""
    context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
    assert context.verify_mode is ssl.CERT_REQUIRED
    return context


async def test_events_come_over_tls(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.url(tls=True)
    async with (
        following([url], tls=trusting(rabbitmq.ca)) as events,
        publishing(rabbitmq.port) as publisher,
    ):
        await publisher.publish("notification", bytes(BODY_LIMIT))
        await events.until(lambda: events.bodies == [bytes(BODY_LIMIT)])


@pytest.mark.parametrize("tls", [None, trusting(trustme.CA())])
async def test_a_certificate_of_another_authority_is_named_as_the_reason(
    rabbitmq: RabbitMQ, tls: ssl.SSLContext | None
) -> None:
    async with following([rabbitmq.url(tls=True)], tls=tls, connected=False) as events:
        await events.until(lambda: bool(events.reasons))
        assert "its certificate is not trusted" in events.reasons[0]
        assert "`control_plane.ca`" in events.reasons[0]


async def test_a_certificate_of_another_host_is_named_as_the_reason(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.url(tls=True).replace("localhost", "127.0.0.1")
    async with following([url], tls=trusting(rabbitmq.ca), connected=False) as events:
        await events.until(lambda: bool(events.reasons))
        assert "IP address mismatch" in events.reasons[0]


async def test_tls_to_a_port_without_it_is_named_as_the_reason(rabbitmq: RabbitMQ) -> None:
    url = f"amqps://admin:admin@localhost:{rabbitmq.port}/?retries=1&connectdelay=0.1"
    async with following([url], connected=False) as events:
        await events.until(lambda: bool(events.reasons))
        assert "TLS failed" in events.reasons[0]


async def test_a_wrong_password_names_the_setting_once(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    url = rabbitmq.url().replace("admin:admin", "admin:not-the-password")
    async with following([url], connected=False) as events:
        await events.until(lambda: len(events.reasons) == 2)
    for text in events.reasons + [record.getMessage() for record in caplog.records]:
        assert "not-the-password" not in text
    assert "refuses user or password, see `control_plane.events`" in events.reasons[0]
    assert "403 ACCESS_REFUSED" in events.reasons[0]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1


async def test_a_missing_virtual_host_is_named_as_the_reason(rabbitmq: RabbitMQ) -> None:
    async with following([rabbitmq.url(vhost="nowhere")], connected=False) as events:
        await events.until(lambda: bool(events.reasons))
        assert "it refuses the virtual host 'nowhere': 530 NOT_ALLOWED" in events.reasons[0]


async def test_a_silent_broker_is_noticed_and_the_next_one_used(
    rabbitmq: RabbitMQ, second: RabbitMQ
) -> None:
    urls = [rabbitmq.url(), second.url()]
    async with following(urls, heartbeat=1) as events:
        rabbitmq.pause()
        try:
            began = trio.current_time()
            with trio.fail_after(30):
                await events.until(lambda: bool(events.reasons))
            assert 1.5 < trio.current_time() - began < 6
            assert "no heartbeat for 2.5 s" in events.reasons[0]
        finally:
            rabbitmq.resume()


async def test_a_quiet_connection_stays(rabbitmq: RabbitMQ, seconds: float) -> None:
    async with following([rabbitmq.url()], heartbeat=1) as events:
        with trio.move_on_after(max(seconds, 4)):
            await events.until(lambda: bool(events.reasons))
        assert events.reasons == []
        async with publishing(rabbitmq.port) as publisher:
            await publisher.publish("notification", notification("API_CREATE"))
        await events.until(lambda: len(events.deliveries) == 1)


async def test_frames_may_be_cut_at_every_octet(rabbitmq: RabbitMQ) -> None:
    async with forwarding(rabbitmq.port, octets=1) as forwarder:
        url = f"amqp://admin:admin@127.0.0.1:{forwarder.port}/"
        async with following([url]) as events, publishing(rabbitmq.port) as publisher:
            for number in range(20):
                await publisher.publish("notification", b"%d" % number)
            await events.until(lambda: len(events.deliveries) == 20)
            assert events.bodies == [b"%d" % number for number in range(20)]


async def test_a_message_above_the_limit_is_discarded_and_counted(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    status = ControlPlaneStatus()
    async with (
        following([rabbitmq.url()], status=status) as events,
        publishing(rabbitmq.port) as publisher,
    ):
        for size in (BODY_LIMIT, BODY_LIMIT + 1, 5 * BODY_LIMIT, 0, 1):
            await publisher.publish("notification", bytes(size))
        await events.until(lambda: len(events.deliveries) == 3)
        assert [len(body) for body in events.bodies] == [BODY_LIMIT, 0, 1]
        while await queue_state(rabbitmq) != [(0, 0)]:
            await trio.lowlevel.checkpoint()
        assert events.reasons == []
    assert status.events == {"other": {"malformed": 2}}
    assert sum("discarded a message" in record.getMessage() for record in caplog.records) == 1


# How many octets of the broker arrive: a start of about 500, then short answers to each step.
STOPS = [1, 20, 400, 515, 535, 550, 563, 590, 625, 640, 650, 660, 690, 10**6]


@pytest.mark.parametrize("most", STOPS)
@pytest.mark.parametrize("tls", [False, True])
async def test_it_ends_within_a_second_when_it_is_cancelled(
    rabbitmq: RabbitMQ, tls: bool, most: int
) -> None:
    target = rabbitmq.tls_port if tls else rabbitmq.port
    async with forwarding(target, most=most * 4 if tls else most) as forwarder:
        scheme = "amqps" if tls else "amqp"
        url = f"{scheme}://admin:admin@localhost:{forwarder.port}/"
        consumer = Collector(hold=True)
        context = trusting(rabbitmq.ca)
        async with following([url], consumer, tls=context, connected=False):
            async with trio.open_nursery() as nursery:

                async def first(wait: Callable[[], Awaitable[None]]) -> None:
                    await wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(first, forwarder.stalled.wait)
                nursery.start_soon(first, lambda: consumer.until(lambda: consumer.connects > 0))
            began = trio.current_time()
        assert trio.current_time() - began < 2
        assert consumer.reasons == []
    if not tls:  # what is opened is closed
        assert (CONNECTION_OPEN in forwarder.sent) == (CONNECTION_CLOSE in forwarder.sent)
        assert most < 600 or CONNECTION_OPEN in forwarder.sent
