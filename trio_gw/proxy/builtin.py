"""The built-in endpoints on the traffic ports.

`/health`, `/ready` and `/testkey` accept any method on their exact path, `/.wellknown/jwks` only
GET (spec: routing §12), `/oauth2/token` only POST. They do not answer WebSocket upgrades, so an API
with topics that match every path does not hide them.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

import trio
from msgspec import structs

from trio_gw.config.cors import CorsSettings as Policy
from trio_gw.config.settings import TOKEN_PATH
from trio_gw.errors import JSON_TYPE
from trio_gw.guard.crosssite import is_foreign, own_origins
from trio_gw.guard.token_request import TokenRequest
from trio_gw.proxy.cors_policy import CorsPolicy
from trio_gw.proxy.refusals import foreign_page, not_found, only_get, too_many
from trio_gw.wire.http import bad_request
from trio_gw.workers.shared_state import WorkerState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_gw.errors import Headers
    from trio_gw.guard.testkey import TestKeys
    from trio_gw.guard.token_endpoint import TokenEndpoint
    from trio_gw.wire.head import RequestHead
    from trio_gw.workers.shared_state import SharedState

TEXT = ((b"content-type", b"text/plain"),)
NO_STORE = (b"cache-control", b"no-store")

JWKS = "/.wellknown/jwks"

Answer = tuple[int, "Headers", bytes]


# The policy of `/testkey` if the settings name no origin.
NO_PAGES = CorsPolicy(Policy(enabled=False))


def testkey_cors(cors: Policy) -> CorsPolicy:
    """Create the CORS policy of `/testkey`: only pages with a named origin; `*` names none.

    The endpoint itself defines its methods and headers; `allow_methods` and `allow_headers` are for
    topics.
    """
    named = tuple(origin for origin in cors.allow_origins if origin.strip("*:/"))
    return CorsPolicy(
        structs.replace(
            cors,
            enabled=cors.enabled and bool(named),
            allow_origins=named,
            allow_methods=("GET", "POST"),
            allow_headers=("authorization", "content-type"),
        )
    )


class RequestWindow:
    """A rate limit: admits `limit` requests in `seconds`, then none until the window ends."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._ends = -math.inf
        self._left = 0

    def admit(self, now: float) -> float:
        """Return 0 if the request is admitted, otherwise the seconds to wait."""
        if now >= self._ends:
            self._ends, self._left = now + self._seconds, self._limit
        if self._left:
            self._left -= 1
            return 0.0
        return self._ends - now


class PublicKeys(NamedTuple):
    """The body of `/.wellknown/jwks`, and its rate limit."""

    jwks: bytes
    window: RequestWindow


class Builtin:
    """Answers requests to the built-in paths."""

    def __init__(
        self,
        testkeys: TestKeys | None,
        clock: Callable[[], float],
        shared_state: SharedState,
        public: PublicKeys | None = None,
        pages: CorsPolicy = NO_PAGES,
        short: Callable[[], bool] = lambda: False,
        tokens: TokenEndpoint | None = None,
    ) -> None:
        """`pages` is the CORS policy for pages of other origins that may request keys.

        `short` tells whether new connections are refused because memory is short.
        """
        self._pages = pages
        self._short = short
        self._shared_state = shared_state
        self._testkeys = testkeys
        self._public = public
        self._clock = clock
        self._tokens = tokens

    @property
    def starting(self) -> bool:
        """Whether projects are still being loaded."""
        return self._shared_state.state in (
            WorkerState.ABSENT,
            WorkerState.STARTING,
            WorkerState.MISSING,
        )

    def serves(self, path: str) -> bool:
        """Whether this is a built-in path."""
        return (
            path in ("/health", "/ready")
            or (path == "/testkey" and self._testkeys is not None)
            or (path == JWKS and self._public is not None)
            or (path == TOKEN_PATH and self._tokens is not None)
        )

    def cors(self, head: RequestHead) -> Headers:
        """Return the CORS headers for any response to a page (Fetch §3.3.3)."""
        return self._pages.headers(head) if head.path == "/testkey" else ()

    async def answer(
        self,
        head: RequestHead,
        body: Callable[[], Awaitable[bytes]],
        client: str,
        *,
        scheme: str = "http",
        port: int = 0,
        secure: bool = False,
    ) -> Answer:
        """Answer a request to a built-in path. `body` reads its body, `client` is the address.

        `scheme` and `port` are those of the listener. `secure`: nobody between can read along.

        Raises `Refusal` if the body is malformed or the rate limit is reached, and 404 while the
        path does not exist yet.
        """
        if head.path == "/health":
            return 200, TEXT, b'{"status": "healthy"}'
        if head.path == "/ready":
            return await self._ready()
        if head.path == JWKS:
            return self._jwks(head)
        if head.path == TOKEN_PATH:
            return await self._token(head, body, client, scheme, port, secure=secure)
        assert self._testkeys is not None
        self._check_page(head, scheme, port)
        if head.method == "OPTIONS" and (preflight := self._pages.preflight(head)) is not None:
            return 204, preflight, b""
        credentials = head.values(b"authorization")
        if len(credentials) > 1:
            raise bad_request("More than one Authorization header")
        status, text = await self._testkeys.answer(
            credentials[0] if credentials else None,
            await body(),
            self._clock(),
            address=client,
            at=trio.current_time(),
            content_type=b", ".join(head.values(b"content-type")).decode("latin-1"),
        )
        return status, (*TEXT, NO_STORE), text.encode()

    async def _token(
        self,
        head: RequestHead,
        body: Callable[[], Awaitable[bytes]],
        client: str,
        scheme: str,
        port: int,
        *,
        secure: bool,
    ) -> Answer:
        """Issue a token to an application; for no web page, as a page cannot keep a secret."""
        assert self._tokens is not None
        own = own_origins(scheme, head.authority, port)
        if is_foreign(head.values(b"sec-fetch-site"), head.values(b"origin"), own):
            raise foreign_page()
        request = TokenRequest(
            head.method,
            tuple(head.values(b"authorization")),
            b", ".join(head.values(b"content-type")).decode("latin-1"),
            await body(),
            client,
            secure,
        )
        return await self._tokens.answer(request, self._clock(), trio.current_time())

    def _check_page(self, head: RequestHead, scheme: str, port: int) -> None:
        """Refuse pages that are neither our own nor named in the settings, for every method.

        Every method creates a key, and counts as an attempt.
        """
        if self._pages.headers(head):
            return
        own = own_origins(scheme, head.authority, port)
        if is_foreign(head.values(b"sec-fetch-site"), head.values(b"origin"), own):
            raise foreign_page()

    async def _ready(self) -> Answer:
        """Answer for all workers; 404 until this worker has been ready once (spec: routing §12)."""
        if self._shared_state.state == WorkerState.DRAINING:
            return 503, TEXT, b'{"status": "draining"}'
        if self.starting:
            raise not_found()
        if self._short():
            return 503, TEXT, b'{"status": "overloaded"}'
        if await self._shared_state.is_converged():
            status: dict[str, object] = {"status": "ready"}
            if failing := self._shared_state.failing():
                # Connections are still served, and the other processes would fail in the same way.
                status["failing"] = failing
            if unresponsive := self._shared_state.unresponsive():
                # The other workers accept new connections until it is replaced.
                status["unresponsive"] = unresponsive
            return 200, TEXT, json.dumps(status).encode()
        return 503, TEXT, b'{"status": "other workers are not ready, or serve other projects"}'

    def _jwks(self, head: RequestHead) -> Answer:
        assert self._public is not None
        if head.method != "GET":
            raise only_get()
        if wait := self._public.window.admit(trio.current_time()):
            raise too_many(wait)
        return 200, JSON_TYPE, self._public.jwks
