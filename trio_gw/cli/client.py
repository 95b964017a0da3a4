"""The client of the admin API, for `deploy`, `undeploy`, `apis`, `top` and `check --against`.

It uses the REST API of Choreo Connect's adapter, so it also works with that.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import ssl
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import trio

from trio_gw.cli.admin_options import PASSWORD_VARIABLE
from trio_gw.errors import Problem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

BASE = "/api/mgw/adapter/0.1"
CONNECT = 10.0  # seconds
ANSWER = 60.0  # seconds without a byte
LOOK = 10.0  # seconds for a whole response, for `AsyncAdminClient`
MOST = 32 << 20  # bytes of such a response


class RefusedError(Exception):
    """A request failed. The text gives the reason; `problems` are those of the response.

    `status` is the status of the response, 0 if there was none.
    """

    def __init__(self, what: str, problems: tuple[Problem, ...] = (), status: int = 0) -> None:
        self.problems = problems
        self.status = status
        super().__init__(what)


class AdminClient:
    """A client of the admin API that blocks. A context manager."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises `RefusedError` when there is no password, or the trust cannot be read."""
        self.url = _url(options)
        self._user: str = options.user
        self._password = _password(options)
        self._client = httpx2.Client(
            verify=_trust(options.ca, insecure=options.insecure),
            auth=(self._user, self._password),
            timeout=httpx2.Timeout(ANSWER, connect=CONNECT),
        )

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Iterator[bytes] | bytes | None = None,
    ) -> bytes:
        """Return the body of a response with 200 or 201. Raises `RefusedError` otherwise."""
        try:
            answer = self._client.request(
                method, self.url + path, params=query, headers=headers, content=content
            )
        except httpx2.HTTPError as error:
            raise unreachable(self.url, error) from None
        if answer.status_code not in (200, 201):
            raise refused(answer.status_code, answer.reason_phrase, answer.content)
        return answer.content


class PortalClient(AdminClient):
    """A client of the portal that blocks, with a session while it is a context manager.

    So every user can do what the role of the user allows.
    """

    def __enter__(self) -> PortalClient:
        """Log in. Raises `RefusedError`."""
        fields = {"user": self._user, "password": self._password}
        self._exchange("POST", "/portal/login", data=fields)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RefusedError):
            self._exchange("POST", "/portal/logout", data={})
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Call an endpoint below /portal/api; return its JSON, empty without any."""
        return _decoded(self._exchange(method, f"/portal/api{path}", query=query, json=body))

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: object = None,
        data: Mapping[str, str] | None = None,
    ) -> bytes:
        headers = {"Origin": self.url, "X-Trio-GW": "1", "Accept": "application/json"}
        try:
            answer = self._client.request(
                method,
                self.url + path,
                headers=headers,
                params=query,
                json=json,
                data=data,
                auth=None,  # the session is enough, and cheaper for the gateway
            )
        except httpx2.HTTPError as error:
            raise unreachable(self.url, error) from None
        if answer.status_code not in (200, 201, 204, 303):
            raise refused(answer.status_code, answer.reason_phrase, answer.content)
        return answer.content


class AsyncAdminClient:
    """A client of the admin API for repeated requests. An async context manager, for Trio.

    It requests a token once: checking a hashed password costs the gateway time at each request.
    Any number of requests may run at the same time.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises `RefusedError` when there is no password, or the trust cannot be read."""
        self.url = _url(options)
        self._user: str = options.user
        self._password = _password(options)
        self._token = ""
        self._client = httpx2.AsyncClient(
            verify=_trust(options.ca, insecure=options.insecure), timeout=LOOK
        )

    async def __aenter__(self) -> AsyncAdminClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def login(self) -> None:
        """Get a token. Raises `RefusedError` if name or password is wrong, or no response comes."""
        self._token = ""
        credentials = msgspec.json.encode({"username": self._user, "password": self._password})
        status, phrase, body = await self._exchange(
            "POST", f"{BASE}/oauth2/token", content=credentials
        )
        if status == 200:
            self._token = str(_decoded(body).get("accessToken", ""))
        elif status != 422:  # this password gets no token, but is accepted
            raise refused(status, phrase, body)

    async def ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Return the body of a response with 200. Raises `RefusedError` otherwise."""
        token = self._token
        status, phrase, body = await self._exchange(method, path, query)
        if status == 401 and token:  # the token has expired
            if token == self._token:
                await self.login()
            status, phrase, body = await self._exchange(method, path, query)
        if status != 200:
            raise refused(status, phrase, body)
        return body

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> tuple[int, str, bytes]:
        headers, auth = {}, None
        if content is not None:
            headers["Content-Type"] = "application/json"
        elif self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        else:
            auth = (self._user, self._password)
        url, body = self.url + path, bytearray()
        try:
            with trio.fail_after(LOOK):
                async with self._client.stream(
                    method, url, params=query, headers=headers, content=content, auth=auth
                ) as answer:
                    async for chunk in answer.aiter_bytes():
                        body += chunk
                        if len(body) > MOST:
                            raise RefusedError(f"{self.url}: a response of more than {MOST} bytes")
                    return answer.status_code, answer.reason_phrase, bytes(body)
        except trio.TooSlowError:
            raise RefusedError(f"{self.url}: no answer within {LOOK:.0f} s") from None
        except httpx2.HTTPError as error:
            raise unreachable(self.url, error) from None


def unreachable(url: str, error: httpx2.HTTPError) -> RefusedError:
    """Explain that there is no response."""
    texts, cause = [str(error)], error.__cause__ or error.__context__
    while cause is not None:  # the library does not always give the reason
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    verifying = [text for text in texts if "CERTIFICATE_VERIFY_FAILED" in text]
    text = next(filter(None, [*verifying, *texts]), type(error).__name__)
    what = f"{url}: {text}"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        what += "; name its certificate with --ca (the gateway's own is certs/mg.pem)"
    elif isinstance(error, httpx2.ConnectError):
        what += "; is the gateway running, and is listen.admin this address?"
    return RefusedError(what)


def refused(status: int, phrase: str, body: bytes) -> RefusedError:
    """Explain a failure. The reference system sends no more than the status."""
    answer = _decoded(body)
    message = str(answer.get("message", ""))
    if status == 401:
        message = "user or password is wrong"
    elif not message and status == 404:
        message = "there is no such API"
    elif not message and status == 409:
        message = "the API exists already, or another API has its base path; try --override"
    what = f"{status} {phrase}".rstrip()
    return RefusedError(f"{message} ({what})" if message else what, problems_of(answer), status)


def problems_of(answer: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return the problems in a response."""
    try:
        return msgspec.convert(answer.get("problems", ()), tuple[Problem, ...])
    except msgspec.ValidationError:
        return ()


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}


def warnings_of(body: bytes) -> tuple[Problem, ...]:
    """Return the problems in the response of a success."""
    return problems_of(_decoded(body)) if body else ()


def _url(options: argparse.Namespace) -> str:
    url: str = options.url.rstrip("/")
    if not url.startswith("https://"):
        raise RefusedError(f"{url}: the admin API is at an https:// URL")
    return url


def _trust(ca: str | None, *, insecure: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise RefusedError(f"{ca}: no certificates can be read from it ({error})") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _password(options: argparse.Namespace) -> str:
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if (given := os.environ.get(PASSWORD_VARIABLE)) is not None:
        return given
    if sys.stdin.isatty():
        return getpass.getpass(f"Password of {options.user}: ")
    raise RefusedError(f"no password: set ${PASSWORD_VARIABLE} or use --password-stdin")
