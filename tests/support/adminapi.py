"""The admin API's other side: requests as `apictl` makes them."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

import trio

from support.gateway import Answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable, Mapping
    from pathlib import Path

BASE = "/api/mgw/adapter/0.1"
BASIC = "Basic YWRtaW46YWRtaW4="
AGENT = "go-resty/2.4.0 (https://github.com/go-resty/resty)"
BOUNDARY = "8d1a9c2e5f7b4a60b3c1d2e3f4a5968778695a4b3c2d1e0f1a2b3c4d5e6f"


def packed(project: Path, top: str = "", *, directories: bool = True) -> bytes:
    """Zip a project folder as apictl does: streamed, deflated, with entries for folders."""
    out = io.BytesIO()

    class Unseekable(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            return out.write(data)

    with zipfile.ZipFile(Unseekable(), "w", zipfile.ZIP_DEFLATED) as zipped:
        if directories and top:
            zipped.writestr(f"{top}/", b"")
        for path in sorted(project.rglob("*")):
            name = str(path.relative_to(project))
            name = f"{top}/{name}" if top else name
            if path.is_dir():
                if directories:
                    zipped.writestr(f"{name}/", b"")
            else:
                zipped.writestr(name, path.read_bytes())
    return out.getvalue()


def form(
    data: bytes,
    filename: str = "project-artifact123.zip",
    part: str = "file",
    kind: str = "application/zip",
) -> tuple[bytes, str]:
    """Build a multipart body with one file, byte for byte as resty does; and its type."""
    head = (
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="{part}"; filename="{filename}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


class AdminAnswer(Answer):
    """An answer with its reason phrase."""

    @property
    def reason(self) -> str:
        """The text after the status."""
        return self.raw.partition(b"\r\n")[0].split(b" ", 2)[2].decode()

    @property
    def line(self) -> str:
        """Status and phrase, as apictl prints them."""
        return f"{self.status} {self.reason}"


class Reached(Protocol):
    """What a client has to know of a gateway; `opened` takes the streams that it opens."""

    @property
    def admin_port(self) -> int: ...

    @property
    def opened(self) -> list[trio.abc.Stream]: ...

    def trust(self) -> ssl.SSLContext: ...


class AdminClient:
    """Talks to the admin listener of a gateway, a connection for each request."""

    def __init__(self, gateway: Reached, *, slash: str = "") -> None:
        self._gateway = gateway
        self.token = ""
        self.base = slash + BASE

    async def connect(self) -> trio.SSLStream[trio.SocketStream]:
        """Open a connection, with what Go's client offers in ALPN."""
        context: ssl.SSLContext = self._gateway.trust()
        context.set_alpn_protocols(["h2", "http/1.1"])
        stream = await trio.open_tcp_stream("127.0.0.1", self._gateway.admin_port)
        self._gateway.opened.append(stream)
        secure = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        await secure.do_handshake()
        assert secure.selected_alpn_protocol() == "http/1.1"
        return secure

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] = b"",
        size: int | None = None,
    ) -> AdminAnswer:
        """Make one request; `size` is the length of a body that comes in pieces."""
        fields = {"User-Agent": AGENT, **(headers or {}), "Accept-Encoding": "gzip"}
        if isinstance(body, bytes):
            size = len(body)
        if size or method in ("POST", "PUT"):
            fields["Content-Length"] = str(size)
        with trio.fail_after(60):
            async with await self.connect() as stream:
                return await _ask(stream, method, path, fields, body)

    # -- what apictl does ----------------------------------------------------------------------

    async def login(
        self,
        username: str = "admin",
        password: str = "admin",  # noqa: S107 - the well-known one
    ) -> AdminAnswer:
        """`apictl mg login`; keeps the token."""
        body = f'{{"password":"{password}","username":"{username}"}}'.encode()
        kind = {"Content-Type": "application/json", "Accept": "application/json"}
        answer = await self.ask("POST", f"{self.base}/oauth2/token", kind, body)
        if answer.status == 200:
            self.token = answer.json()["accessToken"]
        return answer

    async def deploy(self, zipped: bytes, *, override: bool = False, **framing: str) -> AdminAnswer:
        """`apictl mg deploy api`."""
        body, kind = form(zipped, **framing)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json",
            "Connection": "keep-alive",
            "Content-Type": kind,
        }
        query = "?override=true" if override else ""
        return await self.ask("POST", f"{self.base}/apis{query}", headers, body)

    async def list(self, limit: str = "25", query: str = "") -> AdminAnswer:
        """`apictl mg get apis`."""
        text = urlencode({"limit": limit, "query": query})
        return await self.ask("GET", f"{self.base}/apis?{text}", self._bearer())

    async def undeploy(
        self, name: str, version: str = "1.0.0", vhost: str = "", environments: str = ""
    ) -> AdminAnswer:
        """`apictl mg undeploy api`."""
        text = urlencode(
            {"apiName": name, "environments": environments, "version": version, "vhost": vhost}
        )
        return await self.ask("DELETE", f"{self.base}/apis?{text}", self._bearer())

    async def get(self, path: str) -> AdminAnswer:
        """Ask for one of the gateway's own views."""
        return await self.ask("GET", path, self._bearer())

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def logged_in(gateway: Any) -> AdminClient:
    """Return a client that has a token."""
    client = AdminClient(gateway)
    assert (await client.login()).status == 200
    return client


async def _pieces(body: bytes | AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    if isinstance(body, bytes):
        for at in range(0, len(body), 16384):
            yield body[at : at + 16384]
    else:
        async for piece in body:
            yield piece


async def _ask(
    stream: trio.SSLStream[trio.SocketStream],
    method: str,
    path: str,
    fields: dict[str, str],
    body: bytes | AsyncIterable[bytes],
) -> AdminAnswer:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode())
    async for piece in _pieces(body):
        await stream.send_all(piece)
    raw = bytearray()
    while not _whole(raw):
        data = await stream.receive_some()
        if not data:
            break
        raw += data
    return AdminAnswer(bytes(raw))


def _whole(raw: bytearray) -> bool:
    head, blank, body = bytes(raw).partition(b"\r\n\r\n")
    if not blank:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    return False
