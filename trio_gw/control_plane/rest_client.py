"""The REST interface of API Manager for gateways, over HTTPS. The only user of HTTP here.

Every exchange has a deadline, which moves while a large answer comes in, and a limit of its size.
No answer can end a task: whatever is wrong is a `RestError`. `patiently` repeats a request while
that is temporary. spec: control-plane §2, §4, §13.
"""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import httpx2
import trio

from trio_gw.config.faults import printable
from trio_gw.control_plane.artifacts import MAX_ZIP
from trio_gw.control_plane.rest_faults import Kind, RestError, RestFaults

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from trio_gw.config.control_plane import ControlPlaneSettings

T = TypeVar("T")

MAX_JSON = 64 << 20  # of one answer; 50,000 subscriptions are about 15 MiB
LONGEST_PAUSE = 60.0  # seconds between attempts, unless `retry_interval` is more
TRIES = 5  # of a request whose failure is temporary, while others are answered
SLOW = 6  # times `retry_interval`: the pause when nothing changes by itself

_BASE = "internal/data/v1/"
_CONNECTIONS = 8
_MOST = 20  # times `request_timeout`, for the content of a large answer
_WRITE_BYTES = 1 << 20  # collected before a thread writes them
_DETAIL = 200  # characters of an error's text
# Uncompressed, so that the limits of the size also limit memory.
_HEADERS = {"accept-encoding": "identity", "accept": "*/*"}


class RestClient:
    """The client of one process. `tls` is the trust in the server (`requirements.tls_context`).

    Use it as an async context manager. Its repr hides the password.
    """

    def __init__(self, settings: ControlPlaneSettings, tls: ssl.SSLContext) -> None:
        url = settings.url if settings.url.endswith("/") else f"{settings.url}/"
        pair = f"{settings.username}:{settings.password}".encode()
        self.faults = RestFaults(settings.url)
        self.retry_interval = settings.retry_interval
        self._base = url + _BASE
        self._seconds = settings.request_timeout
        self._hurried = trio.Event()
        self._client = httpx2.AsyncClient(
            verify=tls,
            timeout=settings.request_timeout,
            limits=httpx2.Limits(max_connections=_CONNECTIONS),
            headers={"authorization": "Basic " + base64.b64encode(pair).decode()},
            trust_env=False,
        )

    async def __aenter__(self) -> RestClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await self._client.aclose()

    def __repr__(self) -> str:
        return f"RestClient({self._base!r})"

    def hurry(self) -> None:
        """Try again at once what waits: there is reason to believe that the server is back."""
        hurried, self._hurried = self._hurried, trio.Event()
        hurried.set()

    async def json(self, name: str, query: Mapping[str, str] | None = None) -> bytes:
        """Ask for a document once; return its text. Raises `RestError`."""
        body = bytearray()

        async def read(response: httpx2.Response, progress: MovingDeadline) -> int:
            _check_status(name, response)
            await _collect(name, response, body, progress)
            return response.status_code

        await self._exchange("GET", name, query, None, read)
        return bytes(body)

    async def download(self, name: str, query: Mapping[str, str], file: BinaryIO) -> int:
        """Ask for a file once and write it; return the status: 200, 204 or 404.

        `file` is empty unless the status is 200. A 404 counts only if API Manager says that it has
        found no artifacts. Raises `RestError`, OSError.
        """

        async def read(response: httpx2.Response, progress: MovingDeadline) -> int:
            if response.status_code == 404:
                body = bytearray()
                await _collect(name, response, body, progress)
                if b"No Api artifacts found" not in body:
                    _check_status(name, response)
            elif response.status_code != 204:
                _check_status(name, response)
                await _write(name, response, file, progress)
            return response.status_code

        return await self._exchange("GET", name, query, None, read)

    async def send(self, method: str, name: str, body: bytes) -> None:
        """Send JSON once. Raises `RestError` unless the answer is 200."""

        async def read(response: httpx2.Response, progress: MovingDeadline) -> int:
            _check_status(name, response)
            return response.status_code

        await self._exchange(method, name, None, body, read)

    def reject(self, name: str, what: str) -> RestError:
        """Record that the content of an answer cannot be used; return the error to raise."""
        return self._failed(RestError(Kind.WRONG, name, what))

    async def patiently(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        refusals: int = 1,
        others: Callable[[], bool] = lambda: False,
    ) -> T:
        """Repeat an attempt until it succeeds. Raises `RestError` if its failure is not temporary.

        Such a failure is tried `refusals` times more. After `TRIES` failures any failure is raised
        if `others` says that other requests are answered.

        The pauses begin with `retry_interval` and double.
        """
        pauses = Pauses(self.retry_interval)
        failures = refused = 0
        while True:
            try:
                return await attempt()
            except RestError as error:
                failures += 1
                refused += not error.temporary
                if refused > refusals or (failures >= TRIES and others()):
                    raise
            await pauses.wait(self._hurried)

    async def _exchange(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        read: Callable[[httpx2.Response, MovingDeadline], Awaitable[int]],
    ) -> int:
        """Make one request within the deadline, and record how it went."""
        headers = dict(_HEADERS)
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            status = 0
            with trio.fail_after(self._seconds) as scope:
                progress = MovingDeadline(scope, self._seconds)
                async with self._client.stream(
                    method, self._base + name, params=query, content=body, headers=headers
                ) as response:
                    status = await read(response, progress)
        except trio.TooSlowError:
            what = f"has not answered within {self._seconds:g} seconds"
            raise self._failed(RestError(Kind.UNREACHABLE, name, what)) from None
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, ValueError) as error:
            what = f"cannot be reached ({_detail(error)})"
            raise self._failed(RestError(Kind.UNREACHABLE, name, what)) from None
        except RestError as error:
            raise self._failed(error) from None
        self.faults.succeeded(name)
        return status

    def _failed(self, error: RestError) -> RestError:
        self.faults.failed(error)
        return error


class MovingDeadline:
    """The deadline of an exchange: it moves with each part of the content, up to a limit."""

    def __init__(self, scope: trio.CancelScope, seconds: float) -> None:
        self._scope = scope
        self._seconds = seconds
        self._last = trio.current_time() + seconds * _MOST

    def made(self) -> None:
        """Give the next part its time."""
        self._scope.deadline = min(trio.current_time() + self._seconds, self._last)


class Pauses:
    """Pauses that double, from `first` to `longest` seconds, each varied by up to a quarter."""

    def __init__(self, first: float, longest: float = LONGEST_PAUSE) -> None:
        self._first = first
        self._next = first
        self._longest = max(longest, first)

    async def wait(self, until: trio.Event) -> None:
        """Wait for the next pause, or until an event."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        with trio.move_on_after(pause * random.uniform(0.75, 1.25)):  # noqa: S311 - not a secret
            await until.wait()

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._next = self._first


def _check_status(name: str, response: httpx2.Response) -> None:
    """Raise `RestError` unless the status is 200."""
    status = response.status_code
    if status == 200:
        return
    what = f"answers {status}"
    if status in (401, 403):
        raise RestError(Kind.REFUSED, name, f"refuses the user or the password ({status})", status)
    if response.has_redirect_location:
        what += ", a redirect, which is not followed"
    kind = Kind.FAILED if status >= 500 or status == 429 else Kind.WRONG
    raise RestError(kind, name, what, status)


async def _collect(
    name: str, response: httpx2.Response, body: bytearray, progress: MovingDeadline
) -> None:
    async def take(chunk: bytes) -> None:
        nonlocal body
        body += chunk

    await _read(name, response, MAX_JSON, take, progress)


async def _write(
    name: str, response: httpx2.Response, file: BinaryIO, progress: MovingDeadline
) -> None:
    """Write the content to a file, in threads and in large parts."""
    part = bytearray()

    async def take(chunk: bytes) -> None:
        nonlocal part
        part += chunk
        if len(part) >= _WRITE_BYTES:
            full, part = part, bytearray()
            await trio.to_thread.run_sync(file.write, full)

    await _read(name, response, MAX_ZIP, take, progress)
    await trio.to_thread.run_sync(file.write, part)


async def _read(
    name: str,
    response: httpx2.Response,
    limit: int,
    take: Callable[[bytes], Awaitable[None]],
    progress: MovingDeadline,
) -> None:
    """Pass the content on, up to `limit` bytes. Raises `RestError` if there is more."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise RestError(Kind.WRONG, name, "has sent a compressed answer, unasked")
    size = 0
    # Cancel instead of return: only that closes the generators below at once.
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            size += len(chunk)
            progress.made()
            if size > limit:
                scope.cancel()
            else:
                await take(chunk)
    if scope.cancel_called:
        raise RestError(Kind.WRONG, name, f"has sent more than {limit >> 20} MiB")


def _detail(error: Exception) -> str:
    text = printable(" ".join(str(error).split())[:_DETAIL])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
