"""Asks a backend of a draft whether it can be reached: TCP, TLS and the WebSocket upgrade.

Only endpoints that the files themselves name are asked, never addresses at which clouds tell
secrets, for 5 s at most, four at once, and each user only so often. So it is no port scanner for
those who may not deploy, and a slow one for those who may. spec: portal §2.8.
"""

from __future__ import annotations

import base64
import ipaddress
import secrets
import socket
from typing import TYPE_CHECKING

import msgspec
import trio

from trio_gw.config.endpoint import parse
from trio_gw.config.faults import WrongError
from trio_gw.config.project import load
from trio_gw.errors import Refusal
from trio_gw.wire import handshake
from trio_gw.wire.response import ResponseReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.api import ApiProject, Endpoint
    from trio_gw.proxy.dial import Dialer
    from trio_gw.wire.response import BackendResponse

SECONDS = 5.0
AT_ONCE = 4
EVERY, BURST = 2.0, 10  # seconds per probe of one user, and how many at once after a pause
MOST_USERS = 1000
MOST_HEADERS, MOST_VALUE = 20, 200
CHUNK = 4096
_FORBIDDEN_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            *("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::/32", "100.100.100.200/32"),
            *("192.0.0.192/32", "0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8"),
        ),
    )
)
# What a header of a response may tell; others could hold secrets of the backend's network.
_SHOWN = frozenset(
    (
        *("server", "content-type", "content-length", "connection", "upgrade", "date"),
        *("sec-websocket-protocol", "sec-websocket-extensions", "www-authenticate", "location"),
        "sec-websocket-version",
    )
)


class ProbeError(Exception):
    """The probe is refused; the text gives the reason."""


class TooManyProbesError(Exception):
    """The user has asked too often."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many probes")
        self.seconds = seconds


class Probed(msgspec.Struct, frozen=True):
    """What was found. `stage` is where it ended: "tcp", "tls", "upgrade", or "done"."""

    endpoint: str
    stage: str
    what: str
    hint: str = ""
    address: str = ""
    tcp_ms: float | None = None
    tls_ms: float | None = None
    tls: str = ""
    upgrade_ms: float | None = None
    status: int | None = None
    headers: list[tuple[str, str]] = []

    @property
    def good(self) -> bool:
        """Whether the backend accepted the upgrade."""
        return self.stage == "done"


class ProbeLimits:
    """How many probes run, and how often each user may ask."""

    def __init__(self) -> None:
        self.running = trio.CapacityLimiter(AT_ONCE)
        self._due: dict[str, float] = {}  # when each user has all of the burst again

    def count(self, user: str, now: float) -> None:
        """Count a probe of a user. Raises `TooManyProbesError`."""
        due = max(self._due.pop(user, now), now)
        if due - now > EVERY * (BURST - 1):
            self._due[user] = due
            raise TooManyProbesError(due - now - EVERY * (BURST - 1))
        self._due[user] = due + EVERY
        while len(self._due) > MOST_USERS:
            del self._due[next(iter(self._due))]


def endpoint_of(
    files: Mapping[str, bytes], url: str, environ: Mapping[str, str]
) -> tuple[ApiProject, Endpoint]:
    """Find the endpoint with this URL in a project. Raises `ProbeError` if it names none."""
    project = load(files, "project", environ).project
    if project is None:
        raise ProbeError("the project has errors; correct them first")
    try:
        wanted = parse(url)
    except WrongError as error:
        raise ProbeError(error.what) from None
    for cluster in filter(None, (project.production, project.sandbox)):
        for each in cluster.endpoints:
            if msgspec.structs.replace(each, trust=()) == wanted:
                return project, each
    raise ProbeError("only backends that the project itself names can be asked")


async def probe(endpoint: Endpoint, dialer: Dialer, user_agent: str) -> Probed:
    """Ask one backend. Never raises for what it answers."""
    url = str(msgspec.structs.replace(endpoint, query=""))
    try:
        with trio.fail_after(SECONDS):
            address = await _address(endpoint)
            return await _ask(url, endpoint, address, dialer, user_agent)
    except trio.TooSlowError:
        return Probed(url, "tcp", f"no answer within {SECONDS:g} s", "is a firewall between?")
    except socket.gaierror:
        what = f"the name `{endpoint.host}` is not known here"
        return Probed(url, "tcp", what, "correct the name, or the resolver of this machine")
    except ProbeError as error:
        return Probed(url, "tcp", str(error), "such addresses are never probed")


async def _address(endpoint: Endpoint) -> str:
    """Resolve the name once, so that the checked address is the one that is called."""
    found = await trio.socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for each in addresses:
        if is_forbidden(each):
            raise ProbeError(f"{endpoint.host} is an address of this network's own services")
    return addresses[0]


def is_forbidden(address: str) -> bool:
    """Return whether an address is link-local, or one where clouds give out secrets."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return any(found in network for network in _FORBIDDEN_NETWORKS)


async def _ask(
    url: str, endpoint: Endpoint, address: str, dialer: Dialer, user_agent: str
) -> Probed:
    began = trio.current_time()

    def since() -> float:
        return round((trio.current_time() - began) * 1000, 1)

    try:
        plain = await trio.open_tcp_stream(address, endpoint.port)
    except OSError as error:
        what = str(error.__cause__ or error.strerror or error)[:200]
        hint = "is the backend running, and is the port right?"
        return Probed(url, "tcp", f"no connection: {what}", hint, address)
    tcp_ms = since()
    found = Probed(url, "upgrade", "", address=address, tcp_ms=tcp_ms)
    stream: trio.abc.Stream = plain
    try:
        if endpoint.scheme == "wss":
            began = trio.current_time()
            try:
                stream, version = await _secured(plain, endpoint, dialer)
            except (trio.BrokenResourceError, OSError) as error:
                what = f"TLS: {str(error.__cause__ or error)[:200]}"
                hint = "does the certificate fit the name; add its CA below Endpoints"
                return msgspec.structs.replace(found, stage="tls", what=what, hint=hint)
            found = msgspec.structs.replace(found, tls=version, tls_ms=since())
        began = trio.current_time()
        try:
            answer, fits = await _upgraded(stream, endpoint, user_agent)
        except (Refusal, trio.BrokenResourceError) as error:
            what = error.why if isinstance(error, Refusal) else "the backend reset the connection"
            hint = "does it speak WebSocket, with TLS or without, as the URL says?"
            return msgspec.structs.replace(found, what=what[:200], hint=hint)
        return msgspec.structs.replace(_told(found, answer, fits=fits), upgrade_ms=since())
    finally:
        await trio.aclose_forcefully(stream)


async def _secured(
    plain: trio.SocketStream, endpoint: Endpoint, dialer: Dialer
) -> tuple[trio.abc.Stream, str]:
    stream = trio.SSLStream(plain, dialer.context(endpoint), server_hostname=endpoint.host)
    await stream.do_handshake()
    return stream, stream.version() or ""


async def _upgraded(
    stream: trio.abc.Stream, endpoint: Endpoint, user_agent: str
) -> tuple[BackendResponse, bool]:
    """Ask for the upgrade; return the response, and whether a 101 answers this very request."""
    reader = ResponseReader()
    key = base64.b64encode(secrets.token_bytes(16))
    target = (endpoint.path or "/") + (f"?{endpoint.query}" if endpoint.query else "")
    headers = [
        (b"Host", endpoint.authority.encode()),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", key),
        (b"Sec-WebSocket-Version", b"13"),
        (b"User-Agent", user_agent.encode()),
    ]
    await stream.send_all(reader.request(target, headers))
    while (answer := reader.feed(bytes(await stream.receive_some(CHUNK)))) is None:
        pass
    given = {name.lower(): value for name, value in answer.headers}
    return answer, given.get(b"sec-websocket-accept", b"").strip() == handshake.accept_key(key)


def _told(found: Probed, answer: BackendResponse, *, fits: bool) -> Probed:
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")[:MOST_VALUE])
        for name, value in answer.headers[:100]
        if name.decode("latin-1").lower() in _SHOWN
    ][:MOST_HEADERS]
    found = msgspec.structs.replace(found, status=answer.status, headers=headers)
    if answer.status == 101 and fits:
        return msgspec.structs.replace(found, stage="done", what="the backend accepts WebSockets")
    if answer.status == 101:
        what = "it answers 101, but Sec-WebSocket-Accept does not fit"
        return msgspec.structs.replace(found, what=what, hint="is it a WebSocket server?")
    hint = "is the path right, and does the backend ask for a credential?"
    what = f"the backend answers {answer.status} instead of 101"
    return msgspec.structs.replace(found, what=what, hint=hint)
