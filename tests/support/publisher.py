"""Publishes events to a broker as API Manager does (spec: control-plane §6)."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from pamqp import body, commands, frame, header, heartbeat

from support.rabbitmq import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

EXCHANGE = "amq.topic"
_FRAME = 131072 - 8  # octets of a body in one frame

Method = TypeVar("Method", bound=frame.FrameTypes)


def inner(kind: str, **members: Any) -> dict[str, Any]:
    """Return the inner event of a notification: `members` win over the usual values."""
    return {
        "eventId": "ev-1",
        "timeStamp": int(time.time() * 1000),
        "type": kind,
        "tenantId": -1234,
        "tenantDomain": "carbon.super",
        **members,
    }


def payload(**members: Any) -> bytes:
    """Return the body of a message with these members of `payloadData`."""
    return json.dumps({"event": {"payloadData": members}}).encode()


def notification(kind: str, **members: Any) -> bytes:
    """Return the body of an event for the key `notification` (§6.1, §6.2)."""
    event = inner(kind, **members)
    encoded = base64.b64encode(json.dumps(event).encode()).decode()
    return payload(eventType=kind, timestamp=event["timeStamp"], event=encoded)


def key_manager(name: str, action: str, value: Mapping[str, Any] | None, **more: Any) -> bytes:
    """Return the body of an event for the key `keymanager` (§6.3)."""
    encoded = "" if value is None else base64.b64encode(json.dumps(value).encode()).decode()
    members = {"type": "default", "enabled": True, "tenantDomain": "carbon.super", **more}
    return payload(
        event_type="key_manager_configuration", name=name, action=action, value=encoded, **members
    )


def revocation(token: str, expiry: int, **more: Any) -> bytes:
    """Return the body of an event for the key `tokenRevocation` (§6.4); `expiry` in ms."""
    members = {"ttl": "5000", "type": "Default", "tenantId": -1234, **more}
    return payload(eventId="r1", revokedToken=token, expiryTime=expiry, **members)


def _frames(key: str, data: bytes) -> bytes:
    method = commands.Basic.Publish(exchange=EXCHANGE, routing_key=key, mandatory=True)
    properties = commands.Basic.Properties(content_type="text/plain")
    sent = frame.marshal(method, 1)
    sent += frame.marshal(header.ContentHeader(0, len(data), properties), 1)
    for start in range(0, len(data), _FRAME):
        sent += frame.marshal(body.ContentBody(data[start : start + _FRAME]), 1)
    return sent


class Publisher:
    """One connection that publishes; every message is confirmed by the broker."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._data = bytearray()
        self._published = self._confirmed = self._returned = 0

    async def open(self, vhost: str) -> None:
        """Log in and open a channel whose messages are confirmed."""
        await self._stream.send_all(header.ProtocolHeader().marshal())
        await self._wait(commands.Connection.Start)
        login = f"\0{USER}\0{PASSWORD}"
        await self._send(0, commands.Connection.StartOk({}, "PLAIN", login, "en_US"))
        await self._wait(commands.Connection.Tune)
        await self._send(0, commands.Connection.TuneOk(1, 131072, 0))
        await self._send(0, commands.Connection.Open(vhost))
        await self._wait(commands.Connection.OpenOk)
        await self._send(1, commands.Channel.Open())
        await self._wait(commands.Channel.OpenOk)
        await self._send(1, commands.Confirm.Select())
        await self._wait(commands.Confirm.SelectOk)

    async def publish(self, key: str, data: bytes) -> bool:
        """Publish one message; return whether a queue is bound to its key."""
        returned = self._returned
        await self.put(key, data)
        await self.flush()
        return self._returned == returned

    async def put(self, key: str, *messages: bytes) -> None:
        """Send messages without waiting for the broker; `flush` waits."""
        self._published += len(messages)
        await self._stream.send_all(b"".join(_frames(key, data) for data in messages))

    async def repeat(self, key: str, data: bytes, times: int) -> None:
        """Publish the same message many times, and wait for the broker."""
        self._published += times
        await self._stream.send_all(_frames(key, data) * times)
        await self.flush()

    async def flush(self) -> None:
        """Wait until the broker has confirmed everything."""
        while self._confirmed < self._published:
            await self._wait(commands.Basic.Ack)

    async def _send(self, channel: int, method: frame.FrameTypes) -> None:
        await self._stream.send_all(frame.marshal(method, channel))

    async def _wait(self, wanted: type[Method]) -> Method:
        """Return the next frame of this kind; confirmations and returns are counted."""
        while True:
            got = await self._frame()
            if isinstance(got, commands.Basic.Ack):
                self._confirmed = got.delivery_tag or 0
            elif isinstance(got, commands.Basic.Return):
                self._returned += 1
            elif isinstance(got, commands.Connection.Close | commands.Channel.Close):
                raise AssertionError(f"the broker closed: {got.reply_code} {got.reply_text}")
            if isinstance(got, wanted):
                return got

    async def _frame(self) -> frame.FrameTypes:
        while True:
            size = 7 + int.from_bytes(self._data[3:7], "big") + 1
            if len(self._data) >= 7 and len(self._data) >= size:
                _, _, got = frame.unmarshal(bytes(self._data[:size]))
                del self._data[:size]
                if not isinstance(got, heartbeat.Heartbeat):
                    return got
            data = await self._stream.receive_some()
            assert data, "the broker closed the connection"
            self._data += data


@contextlib.asynccontextmanager
async def publishing(port: int, vhost: str = "/", seconds: float = 60) -> AsyncIterator[Publisher]:
    """Connect to a broker on this machine, to publish; everything within some seconds."""
    with trio.fail_after(seconds):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            publisher = Publisher(stream)
            await publisher.open(vhost)
            yield publisher
