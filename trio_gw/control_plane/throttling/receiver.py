"""One event receiver of the Traffic Manager: login, batches of events, replies.

The login goes to a connection of its own, with TLS; the events to another one. Each step has a
deadline. spec: control-plane §8.1.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config.addresses import parse_address
from trio_gw.wire import databridge
from trio_gw.wire.databridge import BridgeProtocolError, ReplyDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.config.control_plane import ThrottlingSettings
    from trio_gw.wire.databridge import BridgeReply

CONNECT = 10.0  # seconds to connect, and for the TLS handshake
REPLY = 30.0  # seconds for a reply
CLOSE = 1.0  # seconds to end a session
CHUNK = 4096  # bytes per read
MAX_ERROR = 200  # characters of a receiver's error that are logged


class ReceiverError(Exception):
    """A receiver cannot be used now. The text has no credentials."""


class LoginRefusedError(ReceiverError):
    """The receiver does not accept user and password."""


class BatchRefusedError(ReceiverError):
    """The receiver works, but does not accept these events."""


class ReceiverAddress(NamedTuple):
    """Where a receiver listens, with or without TLS."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ReceiverAddresses(NamedTuple):
    """Both addresses of one receiver."""

    publish: ReceiverAddress
    login: ReceiverAddress


def receiver_groups(settings: ThrottlingSettings) -> list[list[ReceiverAddresses]]:
    """Read the addresses. The groups share the events; in a group receivers replace each other.

    The settings have been checked: each address is valid, and both lists have the same shape.
    """
    groups = []
    for publish, login in zip(settings.publish, settings.login, strict=True):
        both = ([entry] if isinstance(entry, str) else list(entry) for entry in (publish, login))
        pairs = zip(*both, strict=True)
        groups.append([ReceiverAddresses(_address(one), _address(two)) for one, two in pairs])
    return groups


def _address(text: str) -> ReceiverAddress:
    scheme, _, place = text.partition("://")
    return ReceiverAddress(*parse_address(place.removesuffix("/")), scheme == "ssl")


class _Channel:
    """One connection: a message, then its reply."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._decoder = ReplyDecoder()

    async def ask(self, message: bytes) -> BridgeReply:
        """Send a message and return the reply. Raises ReceiverError."""
        try:
            with trio.fail_after(REPLY):
                await self._stream.send_all(message)
                while True:
                    data = await self._stream.receive_some(CHUNK)
                    if not data:
                        raise ReceiverError("it closed the connection instead of replying")
                    if (reply := self._decoder.feed(data)) is not None:
                        return reply
        except trio.TooSlowError:
            raise ReceiverError(f"no reply within {REPLY:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ReceiverError("the connection was lost") from None
        except BridgeProtocolError as error:
            raise ReceiverError(f"its reply is not one of an event receiver: {error}") from None

    async def close(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self._stream)


class Receiver:
    """The connection to one receiver. Used by one task. Close it with `close`."""

    def __init__(
        self, addresses: ReceiverAddresses, username: str, password: str, tls: ssl.SSLContext
    ) -> None:
        self.addresses = addresses
        self._login = databridge.login(username, password)
        self._tls = tls
        self._session = b""
        self._channel: _Channel | None = None

    @property
    def connected(self) -> bool:
        """Return whether there is a session, and a connection for events."""
        return self._channel is not None

    async def open(self) -> None:
        """Log in, and connect for events. Raises ReceiverError."""
        await self.close()
        self._session = b""
        self._session = await self._log_in()
        self._channel = _Channel(await self._connect(self.addresses.publish))

    async def send(self, events: Sequence[bytes]) -> None:
        """Send a batch; once more after a new login if the session has ended.

        Raises ReceiverError if the receiver cannot be used, BatchRefusedError if it does not accept
        the events. The connection is closed then.
        """
        try:
            for again in (False, True):
                assert self._channel is not None
                reply = await self._channel.ask(databridge.publish(self._session, events))
                if not reply.error:
                    return
                if not reply.session_ended or again:
                    raise BatchRefusedError(f"it refused events: {_shown(reply)}")
                self._session = await self._log_in()
        except ReceiverError:
            self._session = b""
            await self.close()  # noqa: ASYNC120 - returns without waiting
            raise

    async def close(self) -> None:
        """Close the connection for events at once."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def log_out(self) -> None:
        """End the session if that takes no more than a second. Never raises."""
        session, self._session = self._session, b""
        with trio.move_on_after(CLOSE, shield=True):
            await self.close()
            if session:
                with contextlib.suppress(ReceiverError):
                    await self._ask_once(databridge.logout(session))

    async def _log_in(self) -> bytes:
        reply = await self._ask_once(self._login)
        if reply.error:
            if "Authentication" in reply.error:
                raise LoginRefusedError("it refuses user or password")
            raise ReceiverError(f"the login failed: {_shown(reply)}")
        if not reply.session:
            raise ReceiverError("its reply to the login has no session")
        return reply.session

    async def _ask_once(self, message: bytes) -> BridgeReply:
        """Send one message on a connection of its own to the address for logins."""
        channel = _Channel(await self._connect(self.addresses.login))
        try:
            return await channel.ask(message)
        finally:
            await channel.close()  # noqa: ASYNC102 - returns without waiting

    async def _connect(self, address: ReceiverAddress) -> trio.abc.Stream:
        try:
            with trio.fail_after(CONNECT):
                stream = await trio.open_tcp_stream(address.host, address.port)
                return await self._secure(stream, address.host) if address.tls else stream
        except (trio.TooSlowError, trio.BrokenResourceError, OSError, ValueError) as error:
            raise _explained(error, address) from None

    async def _secure(self, stream: trio.SocketStream, host: str) -> trio.abc.Stream:
        """Do the TLS handshake; closes the stream if it fails."""
        try:
            secure = trio.SSLStream(stream, self._tls, server_hostname=host, https_compatible=True)
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)  # noqa: ASYNC120 - returns without waiting
            raise
        return secure


def _explained(error: Exception, address: ReceiverAddress) -> ReceiverError:
    """Say why a connection failed."""
    if isinstance(error, trio.TooSlowError):
        return ReceiverError(f"no connection to {address} within {CONNECT:g} s")
    if isinstance(error, trio.BrokenResourceError):
        if isinstance(cause := error.__cause__, ssl.SSLCertVerificationError):
            why = f"{cause.verify_message}; check control_plane.ca"
            return ReceiverError(f"the certificate of {address} is not accepted: {why}")
        return ReceiverError(f"the TLS handshake with {address} failed")
    why = getattr(error, "strerror", None) or "no address of it can be reached"
    return ReceiverError(f"no connection to {address}: {why}")


def _shown(reply: BridgeReply) -> str:
    """Make the error of a receiver fit for a log line."""
    text = f"{reply.error.rpartition('.')[2]}: {reply.message}" if reply.message else reply.error
    return "".join(one if one.isprintable() else " " for one in text[:MAX_ERROR])
