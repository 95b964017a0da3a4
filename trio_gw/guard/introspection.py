"""Opaque tokens, verified by asking their issuer (RFC 7662).

Called by `schemes` for bearer tokens that are not JWTs, when an issuer has an `introspection_url`.
`run` keeps the HTTP client open; a handshake waits in `verify` for at most 5 seconds. Answers are
cached by the digest of the token: positive ones for a minute, but not beyond the expiry of the
token, negative ones for ten seconds. An issuer that does not answer is not asked again for one
second; meanwhile its tokens are refused with 503.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import trio

from trio_gw.guard import fetch, refusals
from trio_gw.guard.caller import from_claims
from trio_gw.guard.compact import LAST_DATE, is_date, is_shallow
from trio_gw.guard.subscription import carried
from trio_gw.guard.tokens import CACHE_SIZE, SKEW, Verified, is_audience

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from trio_gw.config.settings import Issuer

logger = logging.getLogger("trio_gw.introspection")

GOOD_SECONDS = 60.0
BAD_SECONDS = 10.0
REST_SECONDS = 1.0  # pause after an issuer did not answer
AT_ONCE = 16  # requests to one issuer at the same time
WAIT_SECONDS = 5.0  # maximum wait of a handshake, queueing included
MAX_OPAQUE = 4096  # bytes
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1


class _Remembered(NamedTuple):
    """An answer, and its expiry on Trio's clock; None means `not active`."""

    verified: Verified | None
    until: float


class _IntrospectionServer:
    """An issuer with an introspection endpoint, and its state."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.turns = trio.CapacityLimiter(AT_ONCE)
        self.rests_until = float("-inf")
        self.failing = False


class Introspection:
    """Asks issuers about opaque tokens and caches the answers. `tls` as in `KeyRing`."""

    def __init__(self, issuers: Iterable[Issuer], *, tls: ssl.SSLContext | None = None) -> None:
        self._endpoints = [
            _IntrospectionServer(issuer) for issuer in issuers if issuer.introspection_url
        ]
        self._tls = tls
        self._client: fetch.Client | None = None
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._asking: dict[bytes, trio.Event] = {}

    def __bool__(self) -> bool:
        return bool(self._endpoints)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the HTTP client open until cancelled."""
        async with fetch.client(self._tls) as self._client:
            task_status.started()
            await trio.sleep_forever()

    async def verify(self, token: bytes, now: float) -> Verified:
        """Verify an opaque token, or raise the Refusal to answer with; `now` in epoch seconds.

        If several handshakes have the same unknown token, one asks, and all use the answer.
        """
        if len(token) > MAX_OPAQUE or not _TOKEN.fullmatch(token):
            raise refusals.no_credential("neither a JWT nor an opaque token")
        digest = hashlib.sha256(token).digest()
        with trio.move_on_after(WAIT_SECONDS):
            while (found := self._remembered.get(digest)) is None or (
                found.until <= trio.current_time()
            ):
                if (asking := self._asking.get(digest)) is not None:
                    await asking.wait()
                    continue
                self._asking[digest] = trio.Event()
                try:
                    found = await self._ask(token, digest)
                    self._remember(digest, found)
                finally:
                    self._asking.pop(digest).set()
                break
            self._remembered.move_to_end(digest)
            return _judge(found.verified, now)
        raise refusals.unable("no turn at the introspection endpoint in time")

    def _remember(self, digest: bytes, found: _Remembered) -> None:
        self._remembered.pop(digest, None)
        if len(self._remembered) >= CACHE_SIZE:
            self._remembered.popitem(last=False)
        self._remembered[digest] = found

    async def _ask(self, token: bytes, digest: bytes) -> _Remembered:
        """Ask every issuer until one knows the token. Raises Refusal if one did not answer."""
        silent = ""
        for endpoint in self._endpoints:
            if trio.current_time() < endpoint.rests_until:
                silent = endpoint.issuer.title
                continue
            try:
                claims = await self._exchange(endpoint, token)
            except fetch.FetchError as error:
                silent = endpoint.issuer.title
                _failed(endpoint, str(error))
                continue
            if endpoint.failing:
                endpoint.failing = False
                logger.info("issuer %s: introspection answers again", endpoint.issuer.title)
            if (found := _verified(claims, endpoint.issuer, digest)) is not None:
                return _Remembered(found, trio.current_time() + GOOD_SECONDS)
        if silent:
            raise refusals.unable(f"issuer {silent} does not answer")
        return _Remembered(None, trio.current_time() + BAD_SECONDS)

    async def _exchange(self, endpoint: _IntrospectionServer, token: bytes) -> dict[str, Any]:
        issuer = endpoint.issuer
        assert self._client is not None
        form = {"token": token.decode("ascii"), "token_type_hint": "access_token"}
        async with endpoint.turns:
            data = await fetch.post(
                self._client,
                issuer.introspection_url,
                form,
                issuer.client_id,
                issuer.client_secret,
            )
        try:
            answer = msgspec.json.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise fetch.FetchError("its answer is not JSON") from None
        if not is_shallow(answer, data):
            raise fetch.FetchError("its answer is nested too deeply")
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise fetch.FetchError("its answer does not say whether the token is active")
        return answer


def _failed(endpoint: _IntrospectionServer, why: str) -> None:
    endpoint.rests_until = trio.current_time() + REST_SECONDS
    level = logging.DEBUG if endpoint.failing else logging.WARNING
    endpoint.failing = True
    logger.log(level, "issuer %s: introspection failed: %s", endpoint.issuer.title, why)


def _verified(claims: dict[str, Any], issuer: Issuer, digest: bytes) -> Verified | None:
    """Read an answer (RFC 7662 §2.2); None unless it confirms a token of this issuer."""
    expiry = claims.get("exp")
    if (
        claims["active"] is not True
        or claims.get("iss", issuer.issuer) != issuer.issuer
        or not is_audience(claims.get("aud"), issuer.audience)
        or not (expiry is None or is_date(expiry, LAST_DATE))
    ):
        return None
    caller = from_claims(claims, msgspec.json.encode(claims), issuer, digest.hex())
    if not caller.consumer_key and not issuer.consumer_key_claim:
        client = claims.get("client_id")
        caller = msgspec.structs.replace(
            caller, consumer_key=client if isinstance(client, str) else ""
        )
    return Verified(caller, carried(claims), issuer, 0)


def _judge(found: Verified | None, now: float) -> Verified:
    if found is None:
        raise refusals.inactive()
    expires_at = found.caller.expires_at
    if expires_at is not None and expires_at <= now - SKEW:
        raise refusals.expired()
    return found
