"""Asking a running gateway: the client behind `deploy`, `undeploy`, `apis` and `check --against`.

Speaks the REST API of Choreo Connect's adapter, so it works with that, too.
"""

from __future__ import annotations

import getpass
import os
import ssl
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec

from trio_gw.errors import Problem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

BASE = "/api/mgw/adapter/0.1"
URL = "https://localhost:9843"
URL_VARIABLE, USER_VARIABLE, PASSWORD_VARIABLE = "GW_URL", "GW_USER", "GW_PASSWORD"
CONNECT = 10.0  # seconds
ANSWER = 60.0  # seconds without a byte


class RefusedError(Exception):
    """What was asked for has not been done; says why, and carries the problems it was told."""

    def __init__(self, what: str, problems: tuple[Problem, ...] = ()) -> None:
        self.problems = problems
        super().__init__(what)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say whom to ask, and as whom."""
    parser.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE, URL),
        help=f"the admin API of the gateway (default: ${URL_VARIABLE}, else {URL})",
    )
    credentials(parser)


def credentials(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say as whom, and which certificate is trusted."""
    parser.add_argument(
        "--user",
        default=os.environ.get(USER_VARIABLE, "admin"),
        help=f"the user (default: ${USER_VARIABLE}, else admin)",
    )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help=f"read the password from standard input (default: ${PASSWORD_VARIABLE}, else ask)",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--ca", metavar="FILE", help="trust the certificates in this PEM file")
    trust.add_argument("--insecure", action="store_true", help="do not check the certificate")


class Gateway:
    """A gateway's admin API. A context manager; blocks."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises `RefusedError` when there is no password, or the trust cannot be read."""
        self.url: str = options.url.rstrip("/")
        if not self.url.startswith("https://"):
            raise RefusedError(f"{self.url}: the admin API is at an https:// URL")
        self._client = httpx2.Client(
            verify=_trust(options.ca, insecure=options.insecure),
            auth=(options.user, _password(options)),
            timeout=httpx2.Timeout(ANSWER, connect=CONNECT),
        )

    def __enter__(self) -> Gateway:
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
        content: Iterator[bytes] | None = None,
    ) -> bytes:
        """Return the body of an answer with 200. Raises `RefusedError` for any other outcome."""
        try:
            answer = self._client.request(
                method, self.url + path, params=query, headers=headers, content=content
            )
        except httpx2.HTTPError as error:
            raise RefusedError(self._unreachable(error)) from None
        if answer.status_code != 200:
            raise refused(answer.status_code, answer.reason_phrase, answer.content)
        return answer.content

    def _unreachable(self, error: httpx2.HTTPError) -> str:
        text = str(error) or type(error).__name__
        what = f"{self.url}: {text}"
        if "CERTIFICATE_VERIFY_FAILED" in text:
            what += "; name its certificate with --ca (the gateway's own is certs/mg.pem)"
        elif isinstance(error, httpx2.ConnectError):
            what += "; is the gateway running, and is listen.admin this address?"
        return what


def refused(status: int, phrase: str, body: bytes) -> RefusedError:
    """Explain an answer that is no success; the reference system says no more than the status."""
    said = _decoded(body)
    message = str(said.get("message", ""))
    if status == 401:
        message = "user or password is wrong"
    elif not message and status == 404:
        message = "there is no such API"
    elif not message and status == 409:
        message = "the API is there already, or another one has its base path; try --override"
    what = f"{status} {phrase}".rstrip()
    return RefusedError(f"{message} ({what})" if message else what, problems_of(said))


def problems_of(said: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Take the problems out of an answer, as far as there are any."""
    try:
        return msgspec.convert(said.get("problems", ()), tuple[Problem, ...])
    except msgspec.ValidationError:
        return ()


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def warnings_of(body: bytes) -> tuple[Problem, ...]:
    """Take the problems out of the answer to what succeeded."""
    return problems_of(_decoded(body)) if body else ()


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
