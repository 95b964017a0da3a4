"""The gateway and the backend for code without an event loop: each runs in its own thread."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import outcome
import trio

from trio_gw.testing.backend import serve_backend
from trio_gw.testing.connection import TIMEOUT
from trio_gw.testing.gateway import serve_gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from trio_gw.errors import Problem
    from trio_gw.testing.backend import RecordingBackend
    from trio_gw.testing.connection import Closed, Message, RecordingConnection
    from trio_gw.testing.gateway import Backends, ServedGateway
    from trio_gw.testing.projects import Projects, SettingsSource
    from trio_gw.testing.topics import ServedTopic

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Loop:
    """A Trio event loop in a thread of its own."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._ready.set()
            await trio.sleep_forever()

    def __enter__(self) -> _Loop:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._nursery is not None
        trio.from_thread.run_sync(self._nursery.cancel_scope.cancel, trio_token=self._token)
        self._thread.join()

    def call(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Run an async function in the loop, and wait for its result."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    @contextlib.contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an async context manager, in a task of its own."""
        held = _Held(manager)
        assert self._nursery is not None
        nursery = self._nursery
        value = self.call(nursery.start, held.run)
        try:
            yield value.unwrap()
        finally:
            self.call(held.leave)


class _Held:
    """A task that stays in an async context manager."""

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._leave = trio.Event()
        self._left = trio.Event()
        self._failed: Exception | None = None

    async def run(self, *, task_status: trio.TaskStatus[outcome.Outcome[Any]]) -> None:
        entered = False
        try:
            async with self._manager as value:
                entered = True
                task_status.started(outcome.Value(value))
                await self._leave.wait()
        except Exception as error:
            self._failed = error
            if not entered:
                self._failed = None  # it is raised by `unwrap`
                task_status.started(outcome.Error(error))
        finally:
            self._left.set()

    async def leave(self) -> None:
        self._leave.set()
        await self._left.wait()
        if self._failed is not None:
            raise self._failed


class BlockingConnection:
    """`RecordingConnection` for code without an event loop."""

    def __init__(self, loop: _Loop, connection: RecordingConnection) -> None:
        self._loop = loop
        self._connection = connection
        self.path = connection.path
        self.headers = connection.headers

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides agreed on."""
        return self._connection.subprotocol

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages that have arrived so far."""
        return self._connection.messages

    @property
    def closed(self) -> Closed | None:
        """How the connection ended; None while it is open."""
        return self._connection.closed

    def header(self, name: str) -> str | None:
        """Return the value of a header; of several, joined with commas."""
        return self._connection.header(name)

    def send(self, message: Message) -> None:
        """Send a text or binary message. Raises `ClosedError`."""
        self._loop.call(self._connection.send, message)

    def receive(self) -> Message:
        """Return the next message. Raises `ClosedError`, and `trio.TooSlowError`."""
        return self._loop.call(self._connection.receive)

    def wait_closed(self) -> Closed:
        """Wait until the other side closes the connection, and return how."""
        return self._loop.call(self._connection.wait_closed)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""
        self._loop.call(self._connection.close, code, reason)


class BlockingBackend:
    """`RecordingBackend` for code without an event loop; made by `backend_thread`."""

    def __init__(self, loop: _Loop, backend: RecordingBackend) -> None:
        self._loop = loop
        self._backend = backend
        self.port = backend.port
        self.url = backend.url

    @property
    def connections(self) -> tuple[BlockingConnection, ...]:
        """All connections that have been made so far, the first one first."""
        return tuple(BlockingConnection(self._loop, each) for each in self._backend.connections)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages of all connections that have arrived so far."""
        return self._backend.messages

    def accept(self) -> BlockingConnection:
        """Return the next connection. Raises `trio.TooSlowError`."""
        return BlockingConnection(self._loop, self._loop.call(self._backend.accept))

    def receive(self) -> Message:
        """Return the next message of any connection. Raises `trio.TooSlowError`."""
        return self._loop.call(self._backend.receive)


class BlockingGateway:
    """`ServedGateway` for code without an event loop; made by `gateway_thread`."""

    def __init__(self, loop: _Loop, gateway: ServedGateway) -> None:
        self._loop = loop
        self._gateway = gateway
        self.port, self.tls_port = gateway.port, gateway.tls_port
        self.base_url = gateway.base_url
        self.folder: Path = gateway.folder
        self.certificate: Path = gateway.certificate
        self.problems: tuple[Problem, ...] = gateway.problems

    @property
    def topics(self) -> tuple[ServedTopic, ...]:
        """All topics, in the order in which the gateway tries them."""
        return self._gateway.topics

    @property
    def logs(self) -> tuple[str, ...]:
        """The lines that the gateway has logged so far, level INFO and above."""
        return self._gateway.logs

    def topic(self, name: str, *, api: str = "") -> ServedTopic:
        """Find a topic by its name in the definition. Raises LookupError."""
        return self._gateway.topic(name, api=api)

    def url(
        self, topic: str, *, api: str = "", tls: bool = False, query: str = "", **parameters: object
    ) -> str:
        """Write the URL of a topic. Raises LookupError for an unknown topic or parameter."""
        return self._gateway.url(topic, api=api, tls=tls, query=query, **parameters)

    def token(
        self, scope: str | Iterable[str] = "", *, user: str = "admin", expired: bool = False
    ) -> str:
        """Make a token that this gateway accepts, with these scopes."""
        return self._gateway.token(scope, user=user, expired=expired)

    @contextlib.contextmanager
    def connect(
        self, topic: str, *, token: str | None = None, **options: object
    ) -> Iterator[BlockingConnection]:
        """Connect to a topic. Arguments are those of `ServedGateway.connect`.

        Raises `HandshakeRefusedError`.
        """
        manager = self._gateway.connect(topic, token=token, **options)  # type: ignore[arg-type]
        with self._loop.entered(manager) as connection:
            yield BlockingConnection(self._loop, connection)

    def status(self, topic: str, *, token: str | None = None, **options: object) -> int:
        """Try a handshake and return the status of the response."""

        async def ask() -> int:
            return await self._gateway.status(topic, token=token, **options)

        return self._loop.call(ask)


@contextlib.contextmanager
def backend_thread(*, echo: bool = True, timeout: float = TIMEOUT) -> Iterator[BlockingBackend]:
    """Run a backend in a thread. Arguments are those of `serve_backend`."""
    with _Loop() as loop, loop.entered(serve_backend(echo=echo, timeout=timeout)) as backend:
        yield BlockingBackend(loop, backend)


@contextlib.contextmanager
def gateway_thread(
    *,
    projects: Projects | None = None,
    settings: SettingsSource | None = None,
    backend: Backends | None = None,
    strict: bool = False,
) -> Iterator[BlockingGateway]:
    """Run a gateway in a thread. Arguments are those of `serve_gateway`."""
    manager = serve_gateway(projects=projects, settings=settings, backend=backend, strict=strict)
    with _Loop() as loop, loop.entered(manager) as gateway:
        yield BlockingGateway(loop, gateway)
