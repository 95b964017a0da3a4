"""A real gateway in a test's nursery: real sockets, real TLS, port 0."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from websockets.trio.client import ClientConnection, connect

from support.secrets import secret, wrote
from trio_gw.app import worker
from trio_gw.config.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from trio_gw.supervision.background import BackgroundTasks

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the sample key of RFC 6455 §1.3


class Answer:
    """An HTTP answer as bytes on the wire, taken apart."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        self.status = int(line.split(b" ")[1]) if line else 0
        self.headers = {
            name.decode().lower(): value.decode("latin-1").strip()
            for name, _, value in (field.partition(b":") for field in fields)
        }
        if self.status >= 400:
            wrote(raw.decode("latin-1"), f"answer {self.status}")

    def json(self) -> Any:
        """Decode the body."""
        return msgspec.json.decode(self.body)


class RunningGateway:
    """A gateway that serves, and ways to talk to it."""

    def __init__(
        self,
        running: worker.Running,
        base: Path,
        stop: trio.Event,
        opened: list[trio.abc.Stream],
    ) -> None:
        self.running = running
        self.opened = opened
        self.base = base
        self.apis = base / "apis"
        self.stop = stop
        assert running.addresses.http is not None
        assert running.addresses.https is not None
        self.port = running.addresses.http[1]
        self.tls_port = running.addresses.https[1]
        self.admin_port = 0 if running.addresses.admin is None else running.addresses.admin[1]
        portal = running.addresses.portal
        self.portal_port = 0 if portal is None else portal[1]
        self.metrics_port = running.addresses.metrics[1] if running.addresses.metrics else 0

    def token(self, *scopes: str) -> str:
        """Mint a test token with these scopes."""
        assert self.running.testkeys is not None
        return secret(self.running.testkeys.mint("admin", " ".join(scopes) or None, time.time()))

    def trust(self) -> ssl.SSLContext:
        """Return a client context that trusts the gateway's certificate, and checks it."""
        return ssl.create_default_context(cafile=str(self.base / "certs" / "mg.pem"))

    def connect(
        self, path: str, token: str | None = None, *, tls: bool = False, **options: Any
    ) -> AbstractAsyncContextManager[ClientConnection]:
        """Connect with a third-party WebSocket client."""
        headers = dict(options.pop("additional_headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {secret(token)}"
        port = self.tls_port if tls else self.port
        return connect(
            f"{'wss' if tls else 'ws'}://localhost:{port}{path}",
            additional_headers=headers,
            ssl=options.pop("ssl", None) or (self.trust() if tls else None),
            proxy=None,
            max_size=None,
            **options,
        )

    async def open(self, *, tls: bool = False) -> trio.abc.Stream:
        """Open a bare connection to the gateway; closed with it at the latest."""
        stream: trio.abc.Stream = await trio.open_tcp_stream(
            "127.0.0.1", self.tls_port if tls else self.port
        )
        self.opened.append(stream)
        if tls:
            secure = trio.SSLStream(
                stream, self.trust(), server_hostname="localhost", https_compatible=True
            )
            await secure.do_handshake()
            return secure
        return stream

    async def upgrade(
        self, path: str, token: str | None = None, *, tls: bool = False, extra: bytes = b""
    ) -> trio.abc.Stream:
        """Open a WebSocket by hand: the bare stream, right behind a valid 101."""
        stream = await self.open(tls=tls)
        await stream.send_all(self.handshake(path, token, extra))
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):  # not one byte more: frames may follow at once
            octet = await stream.receive_some(1)
            assert octet, head
            head += octet
        assert head.startswith(b"HTTP/1.1 101 "), head
        return stream

    def handshake(self, path: str, token: str | None = None, extra: bytes = b"") -> bytes:
        """Write a valid upgrade request; `extra` holds whole header lines."""
        lines = [
            b"GET %s HTTP/1.1" % path.encode(),
            b"Host: localhost:%d" % self.port,
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + KEY,
        ]
        if token is not None:
            lines.append(b"Authorization: Bearer " + secret(token).encode())
        return b"\r\n".join(lines) + b"\r\n" + extra + b"\r\n"

    async def ask(
        self, request: bytes, *, tls: bool = False, stream: trio.abc.Stream | None = None
    ) -> Answer:
        """Send raw bytes, read until the gateway closes; fails if it does not within 10 s."""
        stream = stream or await self.open(tls=tls)
        answer = bytearray()
        with trio.fail_after(60):
            async with stream:
                await stream.send_all(request)
                while data := await stream.receive_some():
                    answer += data
        return Answer(bytes(answer))

    async def status(self, path: str, *, host: str = "localhost", token: str | None = None) -> int:
        """Make a handshake for this host, with a test key unless told otherwise."""
        request = self.handshake(path, self.token() if token is None else token or None)
        request = request.replace(b"Host: localhost:%d" % self.port, b"Host: " + host.encode())
        stream = await self.open()
        async with stream:
            await stream.send_all(request)
            with trio.fail_after(60):
                return int((await stream.receive_some())[9:12])

    async def get(
        self, path: str, *, method: str = "GET", headers: bytes = b"", body: bytes = b"",
        tls: bool = False,
    ) -> Answer:  # fmt: skip
        """Make a plain HTTP request."""
        head = b"%s %s HTTP/1.1\r\nHost: localhost\r\n" % (method.encode(), path.encode())
        if body:
            head += b"Content-Length: %d\r\n" % len(body)
        return await self.ask(head + headers + b"\r\n" + body, tls=tls)


async def start_gateway(
    nursery: trio.Nursery,
    base: Path,
    *,
    admin: bool = False,
    background: BackgroundTasks | None = None,
    **settings: Any,
) -> RunningGateway:
    """Start a gateway on `base/apis` and `base/certs`; `settings` as in gateway.toml.

    With `admin` it has the admin listener, too; its settings are `admin_settings`.
    """
    if "admin_settings" in settings:
        settings["admin"] = settings.pop("admin_settings")
    (base / "apis").mkdir(exist_ok=True)
    settings.setdefault("listen", {"http": "localhost:0", "https": "localhost:0", "admin": ""})
    settings["portal"] = {"local": "localhost:0", **settings.get("portal", {})}
    _keep_secrets(settings)
    if admin:
        settings["listen"] = {**settings["listen"], "admin": "localhost:0"}
    decoded = msgspec.convert(settings, Settings)
    stop = trio.Event()
    opened: list[trio.abc.Stream] = []

    async def run(task_status: trio.TaskStatus[worker.Running]) -> None:
        try:
            await worker.run(
                decoded, base, stop=stop, background=background, task_status=task_status
            )
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for stream in opened:
                    await trio.aclose_forcefully(stream)

    running = await nursery.start(run)
    return RunningGateway(running, base, stop, opened)


def _keep_secrets(settings: Any) -> None:
    """Keep every password of the settings, so that a text that holds one is found."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            if name in ("password", "client_secret", "token"):
                secret(value)
            _keep_secrets(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            _keep_secrets(value)
