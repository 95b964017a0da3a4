"""Real git repositories on loopback: commits made by git, served by git over HTTP and TLS.

Every request goes to `git http-backend`, the program that comes with git; around it is no more
than what a web server does: TLS, Basic credentials, and CGI.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11
import trio

from support.projects import api, asyncapi, write
from support.secrets import secret

if TYPE_CHECKING:
    import ssl

USER = "gateway"
TOKEN = secret("glpat-oo7Ahr4eiN0queiyohx2")
OPEN: dict[str, Any] = {"publish": {}, "x-auth-type": "None"}
_NOBODY = {
    **{f"GIT_{who}_NAME": "Somebody" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "somebody@example.com" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git in a folder, with nobody's configuration."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        input=stdin,
        env={**os.environ, **_NOBODY},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class Repository:
    """A working copy of somebody, and the bare repository that they push to."""

    def __init__(self, root: Path, branch: str = "main") -> None:
        self.work = root / "work"
        self.bare = root / "served" / "apis.git"
        self.branch = branch
        self.work.mkdir(parents=True)
        self.bare.mkdir(parents=True)
        git(self.work, "init", "--quiet", f"--initial-branch={branch}")
        git(self.bare, "init", "--quiet", "--bare", f"--initial-branch={branch}")

    @property
    def url(self) -> str:
        """The address on this machine."""
        return f"file://{self.bare}"

    def project(self, folder: str, backend: str | None, *topics: str, **data: Any) -> Path:
        """Write a project with open topics, not committed yet."""
        shutil.rmtree(self.work / folder, ignore_errors=True)
        channels = dict.fromkeys(topics or ("/*",), OPEN)
        name, context = data.pop("name", folder.title()), data.pop("context", f"/{folder}")
        meta = api(name, context, backend, **data)
        return write(self.work, folder, meta, asyncapi(channels))

    def commit(self, *, force: bool = False) -> str:
        """Commit all there is, and push it; return the commit."""
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "-m", "Change it")
        return self.push(force=force)

    def push(self, *, force: bool = False) -> str:
        """Push what is committed."""
        options = ("--force",) if force else ()
        git(self.work, "push", "--quiet", *options, str(self.bare), f"HEAD:{self.branch}")
        return git(self.work, "rev-parse", "HEAD")


def relatives(mark: str) -> list[bytes]:
    """Give the command lines of all processes that have this text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes())
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return [line for line in found if line]  # what has ended and is not reaped has none


async def all_end(mark: str) -> None:
    """Return when there are no such processes any more; fails after a minute."""
    with trio.fail_after(60):
        while relatives(mark):
            await trio.testing.wait_all_tasks_blocked(0.01)


class GitServer:
    """Serves the repositories below a folder; `requests` are the lines of what was asked for.

    With `redirect` it sends everybody elsewhere.
    """

    def __init__(self, root: Path, scheme: str, *, credentials: str = "") -> None:
        self.requests: list[str] = []
        self.credentials: list[str] = []  # what was shown with them
        self.gate = trio.Event()  # answers wait for it
        self.gate.set()
        self.arrived = trio.Event()
        self.port = 0
        self._root = root
        self._scheme = scheme
        self.expected = f"Basic {base64.b64encode(credentials.encode()).decode()}".encode()
        self.open = not credentials
        self.redirect = ""

    @property
    def url(self) -> str:
        """The address of the repository `apis.git`."""
        return f"{self._scheme}://localhost:{self.port}/apis.git"

    async def asked(self, more: int = 1) -> None:
        """Wait for so many more requests."""
        wanted = len(self.requests) + more
        with trio.fail_after(60):
            while len(self.requests) < wanted:
                await self.arrived.wait()

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, a request after the other."""
        connection = h11.Connection(h11.SERVER)
        async with stream:
            try:
                while True:
                    request = await _next(connection, stream)
                    if not isinstance(request, h11.Request):
                        return
                    body = bytearray()
                    while isinstance(event := await _next(connection, stream), h11.Data):
                        body += event.data
                    status, fields, answer = await self._answer(request, bytes(body))
                    head = h11.Response(
                        status_code=status,
                        headers=[*fields, ("Content-Length", str(len(answer)))],
                    )
                    data = (connection.send(head) or b"") + (
                        connection.send(h11.Data(data=answer)) or b""
                    )
                    await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
                    connection.start_next_cycle()
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
                return  # git hung up

    async def _answer(
        self, request: h11.Request, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        target = request.target.decode()
        self.requests.append(f"{request.method.decode()} {target}")
        arrived, self.arrived = self.arrived, trio.Event()
        arrived.set()
        await self.gate.wait()
        fields = dict(request.headers)
        self.credentials.append(fields.get(b"authorization", b"").decode())
        if self.redirect:
            return 302, [("Location", self.redirect + target)], b""
        if not self.open and fields.get(b"authorization") != self.expected:
            return 401, [("WWW-Authenticate", 'Basic realm="git"')], b""
        path, _, query = target.partition("?")
        done = await trio.run_process(
            ["git", "http-backend"],
            stdin=body,
            capture_stdout=True,
            capture_stderr=True,
            env={
                **os.environ,
                **_NOBODY,
                "GIT_PROJECT_ROOT": str(self._root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": request.method.decode(),
                "CONTENT_TYPE": fields.get(b"content-type", b"").decode(),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": fields.get(b"content-encoding", b"").decode(),
                "GIT_PROTOCOL": fields.get(b"git-protocol", b"").decode(),
            },
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        status, given = 200, []
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value[:3])
            else:
                given.append((name, value))
        return status, given, answer


async def start_git_server(
    nursery: trio.Nursery, root: Path, *, tls: ssl.SSLContext | None = None, credentials: str = ""
) -> GitServer:
    """Serve the repositories below `root`, with TLS if there is a context for it."""
    server = GitServer(root, "http" if tls is None else "https", credentials=credentials)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listener.socket.getsockname()[1]

    async def handle(stream: trio.SocketStream) -> None:
        if tls is None:
            await server.handle(stream)
        else:
            await server.handle(
                trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            )

    nursery.start_soon(trio.serve_listeners, handle, [listener])
    return server


async def _next(connection: h11.Connection, stream: trio.abc.Stream) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some()))
    return event
