"""The token endpoint of registered applications: OAuth 2.0 client credentials (RFC 6749 §4.4).

`proxy.builtin` calls `answer` with the parts of a request. Tokens are signed with the gateway's
own key, like test keys; they differ by their issuer, whose subscriptions are validated. Guesses of
secrets are slowed by address. Neither tokens nor secrets are kept. spec: portal §2.
"""

from __future__ import annotations

import hmac
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jwt
import msgspec

from trio_gw.config import registry, tiers
from trio_gw.guard.accounts import SlowDownError
from trio_gw.guard.assertion import algorithm_of, thumbprint
from trio_gw.guard.attempts import Attempts
from trio_gw.guard.token_request import CHALLENGE, OAuthError, credentials, form
from trio_gw.guard.tokens import MAX_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.registry import ConsumerKey, KeyType, RegisteredApplication
    from trio_gw.config.tiers import Tier
    from trio_gw.errors import Headers
    from trio_gw.guard.certificates import KeyPair
    from trio_gw.guard.token_request import ClientCredentials, TokenRequest

DEFAULT_SCOPE = "default"  # that of a token without any; the reference has the same
TENANT = "carbon.super"
_HEADERS: Headers = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"pragma", b"no-cache"),
)
_NO_SECRET = registry.digest("")
_MAX_SCOPE = 4096  # characters


class ScopedApi(NamedTuple):
    """What a token says of an API, and the scopes of its topics."""

    name: str
    version: str
    base_path: str
    organization: str
    scopes: frozenset[str]


class KeyOwner(NamedTuple):
    """A consumer key with its application."""

    application: RegisteredApplication
    key_type: KeyType
    key: ConsumerKey


class ApplicationLookup(Protocol):
    """What the endpoint asks about applications."""

    async def owner(self, consumer_key: str) -> KeyOwner | None:
        """Return the owner of a key, as it is now."""

    def api(self, api: str) -> ScopedApi | None:
        """Return an API that is served, by its id."""

    def earliest(self, subject: str, consumer_key: str) -> float:
        """Return the time (epoch seconds) before which no token of these may be issued."""


class TokenEndpoint:
    """Issues tokens to applications."""

    def __init__(
        self, issuer: str, pair: KeyPair, applications: ApplicationLookup, known: Mapping[str, Tier]
    ) -> None:
        self._issuer = issuer
        self._applications = applications
        self._tiers = known
        self._attempts = Attempts()
        self.use(pair)

    def use(self, pair: KeyPair) -> None:
        """Sign with this key from now on."""
        self._key = pair.private_key
        self._algorithm = algorithm_of(pair)
        self._x5t = thumbprint(pair)

    async def answer(
        self, request: TokenRequest, now: float, at: float
    ) -> tuple[int, Headers, bytes]:
        """Return status, headers and body. `now` is in epoch seconds, `at` monotonic."""
        try:
            status, headers, body = 200, _HEADERS, await self._token(request, now, at)
        except OAuthError as error:
            status, headers = error.status, (*_HEADERS, *error.headers)
            body = {"error": error.error, "error_description": error.description}
        return status, headers, msgspec.json.encode(body) + b"\n"

    async def _token(self, request: TokenRequest, now: float, at: float) -> dict[str, Any]:
        if request.method != "POST":
            allow = (b"allow", b"POST")
            raise OAuthError(405, "invalid_request", "only POST is allowed here", allow)
        if not request.secure:
            raise OAuthError(403, "invalid_request", "a secret is only accepted over https")
        fields = form(request)
        given = credentials(request, fields)
        owner = await self._authenticate(given, request.address, at)
        kind = fields.get("grant_type")
        if kind is None:
            what = "`grant_type` is missing: send grant_type=client_credentials"
            raise OAuthError(400, "invalid_request", what)
        if kind != "client_credentials":
            what = "only grant_type=client_credentials is supported"
            raise OAuthError(400, "unsupported_grant_type", what)
        return self._issue(owner, fields.get("scope"), now)

    async def _authenticate(self, given: ClientCredentials, address: str, at: float) -> KeyOwner:
        """Check key and secret; a wrong one counts as a failed attempt of this address."""
        if wait := self._attempts.begin(address, at):
            slow = SlowDownError(wait, "too many failed attempts")
            what = f"too many failed attempts; try again in {slow.seconds} s"
            again = (b"retry-after", b"%d" % slow.seconds)
            raise OAuthError(429, "invalid_client", what, again)
        try:
            owner = await self._applications.owner(given.consumer_key)
            expected = _NO_SECRET if owner is None else owner.key.secret
            same = hmac.compare_digest(registry.digest(given.secret), expected)
            if owner is None or not same:
                self._attempts.failed(address, at)
                what = "the consumer key or the consumer secret is wrong"
                raise OAuthError(401, "invalid_client", what, CHALLENGE)
            return owner
        finally:
            self._attempts.end(address)

    def _issue(self, owner: KeyOwner, asked: str | None, now: float) -> dict[str, Any]:
        application, key_type, key = owner
        listed: list[dict[str, str]] = []
        scopes: set[str] = set()
        earliest = self._applications.earliest(application.owner, key.consumer_key)
        for one in application.subscriptions:
            served = self._applications.api(one.api)
            if served is not None:
                scopes |= served.scopes
            name, version, context, publisher = (
                (one.name, one.version, one.context, TENANT) if served is None else served[:4]
            )
            listed.append(
                {
                    "name": name,
                    "context": context,
                    "version": version,
                    "publisher": publisher,
                    "subscriptionTier": one.tier,
                    "subscriberTenantDomain": TENANT,
                }
            )
            earliest = max(earliest, one.since)
        scope = _granted(asked, scopes)
        issued = max(int(now), int(earliest))
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": application.owner,
            "azp": key.consumer_key,
            "keytype": key_type,
            "scope": scope,
            "application": {
                "id": application.id,
                "uuid": application.uuid,
                "name": application.name,
                "tier": application.tier,
                "owner": application.owner,
            },
            "subscribedAPIs": listed,
            "tierInfo": self._tier_info({one.tier for one in application.subscriptions}),
            "jti": str(uuid.uuid4()),
            "iat": issued,
            "exp": int(now) + key.validity,
        }
        token = self._signed(claims)
        if len(token) > MAX_TOKEN // 2:
            # Headers of this size do not pass everywhere. The gateway finds the subscriptions.
            del claims["subscribedAPIs"], claims["tierInfo"]
            token = self._signed(claims)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": key.validity,
            "scope": scope,
        }

    def _signed(self, claims: dict[str, Any]) -> str:
        headers = {"x5t": self._x5t}
        return jwt.encode(
            claims, self._key, algorithm=self._algorithm, headers=headers, sort_headers=False
        )

    def _tier_info(self, names: set[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name in sorted(names):
            tier = self._tiers.get(name) or tiers.Tier(name)
            quota = "bandwidthVolume" if tier.octets else "eventCount"
            found[name] = {"tierQuotaType": quota, "stopOnQuotaReach": tier.stop_on_quota}
        return found


def _granted(asked: str | None, scopes: set[str]) -> str:
    """Cut the scopes that were asked for to those of the subscribed APIs; all without any."""
    if asked is None:
        return " ".join(sorted(scopes)) or DEFAULT_SCOPE
    if len(asked) > _MAX_SCOPE:
        raise OAuthError(400, "invalid_scope", "there are too many scopes")
    granted = [one for one in dict.fromkeys(asked.split()) if one in scopes | {DEFAULT_SCOPE}]
    if not granted:
        what = "none of these scopes is of an API that the application is subscribed to"
        raise OAuthError(400, "invalid_scope", what)
    return " ".join(granted)
