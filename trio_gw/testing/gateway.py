"""A real gateway in the nursery of a test: real sockets on free ports, real TLS."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionRejected, wrap_client_stream

from trio_gw.app import worker
from trio_gw.errors import UnusableError, has_errors
from trio_gw.guard.certificates import load_pair
from trio_gw.guard.testkey import TestKeys
from trio_gw.testing.connection import (
    MAX_MESSAGE,
    TIMEOUT,
    HandshakeRefusedError,
    RecordingConnection,
)
from trio_gw.testing.logs import captured
from trio_gw.testing.projects import ProblemsError, prepare, redirected
from trio_gw.testing.scopes import unwrapped
from trio_gw.testing.topics import filled, find, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from trio_gw.errors import Problem
    from trio_gw.testing.logs import Capture
    from trio_gw.testing.projects import Prepared, Projects, SettingsSource
    from trio_gw.testing.topics import ServedTopic


class HasUrl(Protocol):
    """Whatever says where it listens."""

    @property
    def url(self) -> str: ...


Backends = str | HasUrl | Mapping[str, str | HasUrl]


class ServedGateway:
    """A gateway that serves; made by `serve_gateway`.

    `problems` are warnings about the projects. `folder` holds its copy of the projects in `apis`
    and its own certificate in `certs`.
    """

    def __init__(self, running: worker.Running, prepared: Prepared, capture: Capture) -> None:
        self.folder = prepared.apis.parent
        self.certificate = prepared.certificate
        self.problems: tuple[Problem, ...] = prepared.problems
        self._running = running
        self._capture = capture
        self._validity = prepared.settings.testkey.validity
        self._keys = TestKeys(
            prepared.settings.testkey, load_pair(prepared.certificate, prepared.key)
        )
        http, https = running.addresses.http, running.addresses.https
        assert http is not None
        assert https is not None
        self.port, self.tls_port = http[1], https[1]

    @property
    def base_url(self) -> str:
        """The URL of the gateway itself, without a path."""
        return f"ws://localhost:{self.port}"

    @property
    def topics(self) -> tuple[ServedTopic, ...]:
        """All topics, in the order in which the gateway tries them."""
        return served(self._running.live.table)

    @property
    def logs(self) -> tuple[str, ...]:
        """The lines that the gateway has logged so far, level INFO and above."""
        return tuple(self._capture.lines)

    def topic(self, name: str, *, api: str = "") -> ServedTopic:
        """Find a topic by its name in the definition.

        `api` (`<name>:<version>`) is needed where several APIs have one of that name.
        Raises LookupError.
        """
        return find(self.topics, name, api)

    def url(
        self, topic: str, *, api: str = "", tls: bool = False, query: str = "", **parameters: object
    ) -> str:
        """Write the URL of a topic: `gw.url("/rooms/{room}", room=7)`.

        Values are percent-encoded. Raises LookupError for an unknown topic or parameter.
        """
        found = find(self.topics, topic, api)
        scheme, port = ("wss", self.tls_port) if tls else ("ws", self.port)
        path = filled(found.path, parameters)
        return f"{scheme}://{found.host}:{port}{path}{'?' if query else ''}{query}"

    def token(
        self, scope: str | Iterable[str] = "", *, user: str = "admin", expired: bool = False
    ) -> str:
        """Make a token that this gateway accepts, with these scopes."""
        scopes = scope if isinstance(scope, str) else " ".join(scope)
        now = time.time() - (self._validity + 60 if expired else 0)
        return self._keys.mint(user, scopes or None, now)

    @contextlib.asynccontextmanager
    async def connect(
        self,
        topic: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        api: str = "",
        tls: bool = False,
        query: str = "",
        timeout: float = TIMEOUT,
        **parameters: object,
    ) -> AsyncIterator[RecordingConnection]:
        """Connect to a topic, or to a URL that begins with `base_url`.

        `token` is sent as bearer token. `timeout` in seconds is the longest time that the
        handshake takes and that methods of the connection wait. Raises `HandshakeRefusedError`
        when the gateway answers with an HTTP error.
        """
        url = topic
        if not topic.startswith(("ws://", "wss://")):
            url = self.url(topic, api=api, tls=tls, query=query, **parameters)
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        if token is not None:
            sent.append((b"Authorization", f"Bearer {token}".encode()))
        refused: HandshakeRefusedError | None = None
        try:
            async with unwrapped() as nursery:
                with trio.fail_after(timeout):
                    stream = await self._open(parts.scheme == "wss")
                    nursery.start_soon(_closed_at_the_end, stream)
                    websocket = await wrap_client_stream(
                        *(nursery, stream, parts.netloc, path),
                        subprotocols=list(subprotocols) or None,
                        extra_headers=sent,
                        max_message_size=MAX_MESSAGE,
                    )
                connection = RecordingConnection(
                    websocket, path=path, headers=websocket.handshake_headers, timeout=timeout
                )
                nursery.start_soon(connection.collect)
                yield connection
                with trio.move_on_after(timeout):
                    await connection.close()
        except* ConnectionRejected as group:
            refused = _refused(group)
        if refused is not None:
            raise refused

    async def status(self, topic: str, **options: object) -> int:
        """Try a handshake and return the status of the response: 101, or that of an error.

        Arguments are those of `connect`.
        """
        try:
            async with self.connect(topic, **options):  # type: ignore[arg-type]
                return 101
        except HandshakeRefusedError as error:
            return error.status

    async def _open(self, tls: bool) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        stream = await trio.open_tcp_stream("localhost", self.tls_port if tls else self.port)
        if not tls:
            return stream
        context = ssl.create_default_context(cafile=str(self.certificate))
        secure = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        await secure.do_handshake()
        return secure


async def _closed_at_the_end(stream: trio.abc.Stream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


def _refused(group: BaseExceptionGroup[ConnectionRejected]) -> HandshakeRefusedError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ConnectionRejected)
    headers = tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in error.headers
    )
    return HandshakeRefusedError(error.status_code, headers, error.body or b"")


@contextlib.asynccontextmanager
async def serve_gateway(
    *,
    projects: Projects | None = None,
    settings: SettingsSource | None = None,
    backend: Backends | None = None,
    strict: bool = False,
) -> AsyncIterator[ServedGateway]:
    """Run a gateway on free ports of this machine.

    `projects` is a project, a folder of projects, or several of both; each is a folder or a zip
    file. They are copied: the gateway writes nothing into them. `settings` has the tables of
    `gateway.toml`, or is the path of such a file, whose `apis` are served without `projects`.
    `backend` receives the traffic of all APIs instead of their own backends: a URL, a
    `RecordingBackend`, or one of these for each `<name>:<version>`.

    Raises `ProblemsError` if a project or a setting is wrong, with `strict` for warnings, too.
    """
    with (
        tempfile.TemporaryDirectory(prefix="trio-gw-", ignore_cleanup_errors=True) as folder,
        captured() as capture,
    ):
        prepared = await trio.to_thread.run_sync(prepare, Path(folder), projects, settings)
        with redirected(prepared.projects, _urls(backend)):
            async with unwrapped() as nursery:
                running = await _started(nursery, prepared, capture)
                gateway = ServedGateway(running, prepared, capture)
                gateway.problems = prepared.named(running.catalog.problems)
                if has_errors(gateway.problems) or (strict and gateway.problems):
                    raise ProblemsError(gateway.problems)
                yield gateway


async def _run(
    prepared: Prepared, capture: Capture, *, task_status: trio.TaskStatus[worker.Running]
) -> None:
    capture.claim()
    await worker.run(prepared.settings, prepared.base, task_status=task_status)


def _urls(backend: Backends | None) -> Mapping[str, str] | str:
    if backend is None:
        return {}
    if isinstance(backend, Mapping):
        return {name: _url(each) for name, each in backend.items()}
    return _url(backend)


def _url(backend: str | HasUrl) -> str:
    return backend if isinstance(backend, str) else backend.url


async def _started(nursery: trio.Nursery, prepared: Prepared, capture: Capture) -> worker.Running:
    try:
        running: worker.Running = await nursery.start(_run, prepared, capture)
    except* UnusableError as group:
        problems = _problems(group)
    else:
        return running
    raise ProblemsError(prepared.named(problems))


def _problems(group: BaseExceptionGroup[UnusableError]) -> list[Problem]:
    found: list[Problem] = []
    for error in group.exceptions:
        found += _problems(error) if isinstance(error, BaseExceptionGroup) else error.problems
    return found
