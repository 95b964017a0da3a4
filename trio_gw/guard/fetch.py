"""HTTP requests to the servers of an issuer, bounded in time and size.

Called by `keys` and `introspection` with URLs of the settings; a URL never comes from a token.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio

if TYPE_CHECKING:
    import ssl

    import httpx2

    Client = httpx2.AsyncClient

FETCH_SECONDS = 5.0  # for a whole exchange, redirects included
MAX_BYTES = 1 << 20  # of a document
_MAX_REDIRECTS = 3
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})\b", re.IGNORECASE)
# Uncompressed, so that the size limit also limits memory.
_HEADERS = {"accept": "application/json", "accept-encoding": "identity"}


class FetchError(Exception):
    """A server returned no document; the text says why, without the request."""


def client(tls: ssl.SSLContext | None) -> Client:
    """Make a client; `tls` replaces the system's trust."""
    import httpx2  # only gateways with such issuers need it

    return httpx2.AsyncClient(verify=tls or True, timeout=FETCH_SECONDS)


async def get(client: Client, url: str) -> tuple[bytes, float | None]:
    """Fetch a document, and the number of seconds for which it is fresh."""
    import httpx2

    try:
        with trio.fail_after(FETCH_SECONDS):
            target = httpx2.URL(url)
            for _ in range(_MAX_REDIRECTS + 1):
                async with client.stream("GET", target, headers=_HEADERS) as response:
                    if response.has_redirect_location:
                        target = _redirected(target, response.headers["location"])
                        continue
                    return await _body(response), _max_age(response)
            raise FetchError("too many redirects")
    except trio.TooSlowError:
        raise FetchError(f"no answer within {FETCH_SECONDS:.0f} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FetchError(f"{type(error).__name__} {error}".strip()) from None


async def post(
    client: Client, url: str, form: dict[str, str], username: str, password: str
) -> bytes:
    """Post a form with the client's credentials (RFC 6749 §2.3.1); no redirect is followed."""
    import httpx2

    pair = f"{quote(username, safe='')}:{quote(password, safe='')}".encode()
    headers = _HEADERS | {"authorization": "Basic " + base64.b64encode(pair).decode()}
    try:
        with trio.fail_after(FETCH_SECONDS):
            async with client.stream("POST", url, data=form, headers=headers) as response:
                return await _body(response)
    except trio.TooSlowError:
        raise FetchError(f"no answer within {FETCH_SECONDS:.0f} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FetchError(f"{type(error).__name__} {error}".strip()) from None


def _redirected(source: httpx2.URL, location: str) -> httpx2.URL:
    target = source.join(location)
    if (target.scheme, target.host, target.port) != (source.scheme, source.host, source.port):
        raise FetchError("it redirects to another server")
    return target


async def _body(response: httpx2.Response) -> bytes:
    if response.status_code != 200:
        raise FetchError(f"the server answered {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchError("the server sent it compressed, unasked")
    body = bytearray()
    # Cancel instead of return: only that closes the generators below at once.
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            if len(body) + len(chunk) > MAX_BYTES:
                scope.cancel()
            else:
                body += chunk
    if scope.cancel_called:
        raise FetchError("it is larger than 1 MiB")
    return bytes(body)


def _max_age(response: httpx2.Response) -> float | None:
    """Read max-age (RFC 9111 §5.2.2.1)."""
    found = _MAX_AGE.search(response.headers.get("cache-control", ""))
    return float(found[1]) if found else None
