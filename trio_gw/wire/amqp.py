"""AMQP 0-9-1 for a client that consumes: frames, handshake, deliveries, acknowledgements. Pure.

`pamqp` encodes and decodes the methods; `wire.amqp_frames` splits frames and assembles contents, so
that the broker chooses neither how much is decoded nor how much is kept. One connection has one
channel and one exclusive queue that the broker names, bound to keys of `amq.topic`.

Feed the octets that arrive, then call `next_event` until it returns None. Send
`data_to_send()` after each call of any method (spec: control-plane §6, §13, §14).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pamqp import commands, exceptions, header
from pamqp import frame as codec

from trio_gw.wire.amqp_frames import (
    FRAME_MAX,
    FRAME_MIN,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    AmqpDiscarded,
    AmqpError,
    AmqpMessage,
    Content,
    Frame,
    FrameSplitter,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pamqp.common import FieldTable

_CHANNEL_MAX = 2047
_CHANNEL = 1
_EXCHANGE = "amq.topic"
_TEXT = 200  # characters of a text of the broker
_ACCESS_REFUSED, _NOT_ALLOWED = 403, 530
_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
}

# The methods that a broker may send to this client. Only these are decoded: after the start none of
# them has a table, whose decoding costs much more than its octets.
_KNOWN = {
    method.index
    for method in (
        *(commands.Connection.Start, commands.Connection.Tune, commands.Connection.OpenOk),
        *(commands.Connection.Close, commands.Connection.CloseOk, commands.Connection.Blocked),
        *(commands.Connection.Unblocked, commands.Channel.OpenOk, commands.Channel.Flow),
        *(commands.Channel.Close, commands.Channel.CloseOk, commands.Queue.DeclareOk),
        *(commands.Queue.BindOk, commands.Basic.QosOk, commands.Basic.ConsumeOk),
        *(commands.Basic.Cancel, commands.Basic.Deliver),
    )
}

_Expected = TypeVar("_Expected", bound=codec.FrameTypes)


class AmqpReady(NamedTuple):
    """The queue is bound and consumed: from now on no event is missed."""

    queue: str


AmqpEvent = AmqpReady | AmqpMessage | AmqpDiscarded


class _State(enum.Enum):
    START = "the start of the connection"
    LOGIN = "the answer to user and password"
    VHOST = "the answer to the virtual host"
    CHANNEL = "the channel"
    PREFETCH = "the prefetch limit"
    QUEUE = "the queue"
    BINDING = "the bindings"
    CONSUMER = "the consumer"
    READY = "messages"
    CLOSING = "the end of the connection"
    CLOSED = "nothing"


class AmqpConnection:
    """One connection, from the protocol header to its close.

    `heartbeat` is the wish in seconds, and later what both agreed on; 0 is none. Every method
    may queue octets for `data_to_send`. After an AmqpError, send those, and close the socket.
    """

    def __init__(
        self,
        user: str,
        password: str,
        vhost: str,
        keys: Sequence[str],
        *,
        heartbeat: int,
        prefetch: int,
        name: str,
    ) -> None:
        self.heartbeat = heartbeat
        self._user = user
        self._password = password
        self._vhost = vhost
        self._keys = keys
        self._prefetch = prefetch
        self._name = name
        self._state = _State.START
        self._splitter = FrameSplitter()
        self._out = bytearray(header.ProtocolHeader().marshal())
        self._queue = ""
        self._bound = 0
        self._tag = 0  # of the last delivery
        self._content: Content | None = None

    @property
    def opened(self) -> bool:
        """The broker has accepted the login, so the connection ends with a close."""
        return self._state not in (_State.START, _State.LOGIN, _State.CLOSED)

    def data_to_send(self) -> bytes:
        """Return the octets to send, and forget them."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def feed(self, data: bytes) -> None:
        """Add octets that arrived. Take all events before the next call: they bound the memory."""
        self._splitter.feed(data)

    def end(self) -> AmqpError:
        """Return why the connection ended, when the broker has closed the socket."""
        if self._state is _State.LOGIN:
            return AmqpError("it closed the connection after the login", refused=True)
        return AmqpError(f"it closed the connection while it was to send {self._state.value}")

    def acknowledge(self, tag: int) -> None:
        """Acknowledge this delivery and all before it."""
        self._send(_CHANNEL, commands.Basic.Ack(tag, True))

    def beat(self) -> None:
        """Send a heartbeat."""
        self._out += HEARTBEAT_FRAME

    def close(self) -> None:
        """Ask for the end of the connection; it is not `opened` when the broker has confirmed."""
        if self._state not in (_State.CLOSING, _State.CLOSED):
            self._state = _State.CLOSING
            self._send(0, commands.Connection.Close(200, "the client ends", 0, 0))

    def next_event(self) -> AmqpEvent | None:
        """Return the next event, or None if more octets are needed. Raises AmqpError."""
        while (frame := self._splitter.next_frame()) is not None:
            event = self._frame(frame)
            if event is not None:
                return event
        return None

    def _frame(self, frame: Frame) -> AmqpEvent | None:
        if frame.kind == HEARTBEAT or self._state is _State.CLOSED:
            return None
        if frame.kind == METHOD:
            return self._method(frame.channel, _decoded(frame))
        if self._state is _State.CLOSING:
            return None
        if self._content is None or frame.channel != _CHANNEL:
            raise AmqpError("it sent content without a message")
        message = self._content.add(frame)
        if message is not None:
            self._content = None
        return message

    def _method(self, channel: int, method: codec.FrameTypes) -> AmqpEvent | None:
        if isinstance(method, commands.Connection.Close | commands.Channel.Close):
            self._closed_by_broker(channel, method)
            return None
        if self._state is _State.CLOSING:
            if isinstance(method, commands.Connection.CloseOk):
                self._state = _State.CLOSED
            return None
        if self._content is not None:
            raise AmqpError("it sent a method inside a message")
        match method:
            case commands.Basic.Deliver() if self._state is _State.READY:
                tag = method.delivery_tag or 0
                if tag <= self._tag or channel != _CHANNEL:
                    raise AmqpError("it sent a delivery out of order")
                self._tag = tag
                self._content = Content(tag, method.routing_key or "")
                return None
            case commands.Basic.Cancel():
                raise AmqpError("it ended the consumer: the queue is gone")
            case commands.Channel.Flow():
                self._send(_CHANNEL, commands.Channel.FlowOk(method.active))
                return None
            case commands.Connection.Blocked() | commands.Connection.Unblocked():
                return None  # it concerns publishers only
        return self._step(method)

    def _step(self, method: codec.FrameTypes) -> AmqpReady | None:
        """Continue the handshake."""
        match self._state:
            case _State.START:
                self._start(self._expect(method, commands.Connection.Start))
            case _State.LOGIN:
                self._tune(self._expect(method, commands.Connection.Tune))
            case _State.VHOST:
                self._expect(method, commands.Connection.OpenOk)
                self._ask(_State.CHANNEL, commands.Channel.Open())
            case _State.CHANNEL:
                self._expect(method, commands.Channel.OpenOk)
                self._ask(_State.PREFETCH, commands.Basic.Qos(prefetch_count=self._prefetch))
            case _State.PREFETCH:
                self._expect(method, commands.Basic.QosOk)
                # An exclusive queue: releases of RabbitMQ refuse transient ones that are not.
                declare = commands.Queue.Declare(exclusive=True, auto_delete=True)
                self._ask(_State.QUEUE, declare)
            case _State.QUEUE:
                self._bind(self._expect(method, commands.Queue.DeclareOk).queue or "")
            case _State.BINDING:
                self._expect(method, commands.Queue.BindOk)
                self._bound += 1
                if self._bound == len(self._keys):
                    self._ask(_State.CONSUMER, commands.Basic.Consume(0, self._queue))
            case _State.CONSUMER:
                self._expect(method, commands.Basic.ConsumeOk)
                self._state = _State.READY
                return AmqpReady(self._queue)
            case _:
                raise AmqpError(f"it sent {method.name} without a reason")
        return None

    def _start(self, start: commands.Connection.Start) -> None:
        if (start.version_major, start.version_minor) != (0, 9):
            raise AmqpError("it speaks another version of AMQP, not 0-9-1")
        if "PLAIN" not in _text(start.mechanisms).split():
            raise AmqpError("it does not accept a password (SASL PLAIN)")
        client: FieldTable = {
            "product": "trio-gw",
            "connection_name": self._name,
            "capabilities": dict(_CAPABILITIES),
        }
        self._state = _State.LOGIN
        login = f"\0{self._user}\0{self._password}"
        self._send(0, commands.Connection.StartOk(client, "PLAIN", login, "en_US"))

    def _tune(self, tune: commands.Connection.Tune) -> None:
        frame_max = _smaller(tune.frame_max or 0, FRAME_MAX)
        if frame_max < FRAME_MIN:
            raise AmqpError(f"it proposes frames of {frame_max} octets, which is too small")
        self._splitter.frame_max = frame_max
        channels = _smaller(tune.channel_max or 0, _CHANNEL_MAX)
        self.heartbeat = min(tune.heartbeat or 0, self.heartbeat)
        self._send(0, commands.Connection.TuneOk(channels, frame_max, self.heartbeat))
        self._state = _State.VHOST
        self._send(0, commands.Connection.Open(self._vhost))

    def _bind(self, queue: str) -> None:
        self._queue = queue
        try:
            for key in self._keys:
                bind = commands.Queue.Bind(0, queue, _EXCHANGE, key)
                self._ask(_State.BINDING, bind)
        except ValueError:
            raise AmqpError("it gave the queue a name that is not valid") from None

    def _closed_by_broker(
        self, channel: int, method: commands.Connection.Close | commands.Channel.Close
    ) -> None:
        """Confirm a close of the broker. Raises AmqpError, unless this side closes as well."""
        waited, text = self._state, _text(method.reply_text)
        if self._password not in ("", self._user):
            text = text.replace(self._password, "***")
        if isinstance(method, commands.Connection.Close):
            self._state = _State.CLOSED
            self._send(0, commands.Connection.CloseOk())
        else:
            self._send(channel, commands.Channel.CloseOk())
        if waited is _State.CLOSING:
            return
        said = f"{method.reply_code} {text[:_TEXT]}"
        if waited is _State.LOGIN and method.reply_code in (_ACCESS_REFUSED, _NOT_ALLOWED):
            raise AmqpError(said, refused=True)
        if waited is _State.VHOST:
            raise AmqpError(f"it refuses the virtual host {self._vhost!r}: {said}")
        what = "connection" if self._state is _State.CLOSED else "channel"
        raise AmqpError(f"it closed the {what}: {said}")

    def _expect(self, method: codec.FrameTypes, wanted: type[_Expected]) -> _Expected:
        if not isinstance(method, wanted):
            raise AmqpError(f"it sent {method.name} where {self._state.value} was expected")
        return method

    def _ask(self, state: _State, method: codec.FrameTypes) -> None:
        self._state = state
        self._send(_CHANNEL, method)

    def _send(self, channel: int, method: codec.FrameTypes) -> None:
        self._out += codec.marshal(method, channel)


def _decoded(frame: Frame) -> codec.FrameTypes:
    """Decode a method frame. Raises AmqpError."""
    if int.from_bytes(frame.payload[:4], "big") not in _KNOWN:
        raise AmqpError("it sent a method that is not for a client")
    try:
        return codec.unmarshal(frame.data)[2]
    except (exceptions.PAMQPException, ArithmeticError, LookupError, OSError, RecursionError):
        raise AmqpError("it sent a malformed method") from None
    except (TypeError, ValueError):
        raise AmqpError("it sent a malformed method") from None


def _smaller(proposed: int, wanted: int) -> int:
    """Return the smaller limit; 0 is no limit."""
    return min(proposed, wanted) if proposed else wanted


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
