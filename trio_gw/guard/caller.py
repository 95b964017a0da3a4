"""The caller: the verified principal of a handshake, with its claims.

Made by `tokens`, `introspection` and `schemes`; used for limits, counts, logs and events.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trio_gw.guard import refusals

if TYPE_CHECKING:
    from trio_gw.config.settings import Issuer


LAST_SECOND = 1e11  # of the year 5138: a larger number is in milliseconds
LAST_TIME = 1e15
Scheme = Literal["none", "oauth2", "internal-key", "api-key"]


class Application(msgspec.Struct, frozen=True):
    """The application that the credential was made for (spec: security §3.5)."""

    name: str = ""
    id: str = ""
    uuid: str = ""
    tier: str = "Unlimited"
    owner: str = ""
    by_bytes: bool = False  # its tier counts octets, not events
    attributes: tuple[tuple[str, str], ...] = ()  # of the control plane, for backends


class Subscription(msgspec.Struct, frozen=True):
    """The application's subscription to the API; `tier` is empty when none was asked for."""

    tier: str = ""
    stop_on_quota: bool = True
    publisher: str = ""
    tenant: str = ""


class Caller(msgspec.Struct, frozen=True):
    """The verified principal of a handshake.

    `scheme` is the scheme that verified it. `token_id` is the claim `jti`, else the hex SHA-256 of
    the token; then `signature_id` is that of its signature. `key_type` is upper-case. `expires_at`
    is in epoch seconds, None without expiry. `payload` holds all claims as signed; the names of
    `renamed` are replaced for backends. With `entitled` the subscription is that of the control
    plane or of the registry, found by `consumer_key` and `issuer_name`. `issued_at` is in epoch
    seconds, None if the token does not say it. The repr shows no claims.
    """

    subject: str
    issuer: str = ""
    issuer_name: str = ""
    token_id: str = ""
    scopes: frozenset[str] = frozenset()
    key_type: str = "PRODUCTION"
    expires_at: float | None = None
    consumer_key: str = ""
    application: Application = Application()
    subscription: Subscription = Subscription()
    payload: bytes = b""
    scheme: Scheme = "oauth2"
    signature_id: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    entitled: bool = False
    issued_at: float | None = None

    @property
    def anonymous(self) -> bool:
        """Return whether no credential was asked for."""
        return self.scheme == "none"

    def claims(self) -> dict[str, Any]:
        """Decode all claims of the token; empty without one."""
        return msgspec.json.decode(self.payload, type=dict[str, Any]) if self.payload else {}

    def __repr__(self) -> str:
        return f"Caller(subject={self.subject!r}, issuer_name={self.issuer_name!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("subject", self.subject), ("issuer_name", self.issuer_name)]


def anonymous(address: str) -> Caller:
    """Make the caller of a topic without security, known by its address (spec: security §4)."""
    return Caller(
        "anonymous",
        consumer_key=address,
        application=Application(id="0", uuid=address),
        subscription=Subscription("Unauthenticated"),
        scheme="none",
    )


def from_claims(
    claims: dict[str, Any],
    payload: bytes,
    issuer: Issuer,
    fallback_id: str,
    scheme: Scheme = "oauth2",
    signature: bytes = b"",
) -> Caller:
    """Read a caller from verified claims; never fails.

    `fallback_id` names the token when it has no id of its own; so does its `signature`.
    """
    names = issuer.claims
    consumer_key = (
        claims.get(issuer.consumer_key_claim)
        if issuer.consumer_key_claim
        else claims.get("consumerKey") or claims.get("azp")
    )
    key_type = member(claims, names.key_type)
    expires_at, issued_at = claims.get("exp"), claims.get("iat")
    token_id = text(member(claims, names.token_id))
    return Caller(
        subject=text(member(claims, names.subject)),
        issuer=issuer.issuer,
        issuer_name=issuer.title,
        token_id=token_id or fallback_id,
        scopes=_scopes(member(claims, names.scope)),
        key_type=str(key_type).upper() if key_type else "PRODUCTION",
        expires_at=None if expires_at is None else float(expires_at),
        consumer_key=text(consumer_key),
        application=_application(claims, issuer, scheme),
        payload=payload,
        scheme=scheme,
        signature_id="" if token_id or not signature else signature_id(signature),
        issued_at=_seconds(issued_at),
    )


def _seconds(claim: object) -> float | None:
    """Return a claim that is a time, in seconds or milliseconds; None for any other."""
    if not isinstance(claim, int | float) or isinstance(claim, bool):
        return None
    if not abs(claim) < LAST_TIME:  # also for what is not a number
        return None
    return claim / 1000 if claim > LAST_SECOND else float(claim)


def signature_id(signature: bytes) -> str:
    """Name a token by its signature: the hex SHA-256 of its text (base64url, no padding)."""
    written = base64.urlsafe_b64encode(signature).rstrip(b"=")
    return hashlib.sha256(written).hexdigest()


def member(claims: dict[str, Any], name: str) -> object:
    """Find a claim by its name, or by a dotted path into nested objects."""
    if name in claims or "." not in name:
        return claims.get(name)
    found: object = claims
    for step in name.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def text(value: object) -> str:
    """Return a claim that is text; an empty text for other types."""
    return value if isinstance(value, str) else ""


def check_key_type(
    caller: Caller, has_production: bool, has_sandbox: bool
) -> Literal["production", "sandbox"]:
    """Choose the backend by the caller's key type (spec: routing §7).

    Raises Refusal if the API has no backend of that type, or there is no such type.
    """
    if caller.anonymous:
        return "production" if has_production else "sandbox"
    if caller.key_type == "PRODUCTION":
        if has_production:
            return "production"
        what = "Production key offered to an API with no production endpoint"
    elif caller.key_type == "SANDBOX":
        if has_sandbox:
            return "sandbox"
        what = "Sandbox key offered to an API with no sandbox endpoint"
    else:
        what = "Invalid key type."
    raise refusals.rejected(f"{what}. {refusals.HINT}", what)


def _application(claims: dict[str, Any], issuer: Issuer, scheme: Scheme) -> Application:
    if scheme == "internal-key":
        return Application("internal-key-app")
    if scheme == "api-key" or issuer.validate_subscription:
        return application(member(claims, issuer.claims.application))
    # The values of the reference for tokens without a subscription (security §3.5), including
    # the name-based UUID as Java makes it: MD5 of the name alone.
    name = issuer.title
    digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return Application(f"anon:{name}", "-1", str(uuid.UUID(bytes=digest, version=3)))


def application(claim: object) -> Application:
    """Read the claim `application`: an object, or the bare name of one."""
    if not isinstance(claim, dict):
        return Application(text(claim))
    number = claim.get("id")
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return Application(
        name=text(claim.get("name")),
        id=str(number) if is_number else text(number),
        uuid=text(claim.get("uuid")),
        tier=text(claim.get("tier")) or "Unlimited",
        owner=text(claim.get("owner")),
        by_bytes=claim.get("tierQuotaType") == "bandwidthVolume",
    )


def _scopes(claim: object) -> frozenset[str]:
    """Read the scopes: words in one text, or an array (spec: security §3.6)."""
    if claim is None:
        return frozenset({"default"})
    words = claim.split(" ") if isinstance(claim, str) else claim
    if not isinstance(words, list):
        return frozenset()
    return frozenset(word for word in words if isinstance(word, str) and word)
