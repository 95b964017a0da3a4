"""Who is calling: a bearer token becomes a `Caller`, or the handshake is refused.

Called by `proxy.connection` once per handshake (spec: security §3). The steps are: find the one
credential, look its digest up among the tokens verified before, else parse it, check issuer,
algorithm, key, signature and times, and read the claims. Scopes are checked on every call,
because they belong to the topic and not to the token.

Two promises. No answer, log line, repr or cache entry holds a token: `Refusal.why` only names
the check that failed. And no input whatever raises anything but `Refusal`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

import jwt
import msgspec

from trio_gw.config.rules.issuers import ALGORITHMS
from trio_gw.errors import Refusal, auth_refusal
from trio_gw.guard.compact import CompactToken, UnacceptableError, UndecodableError, is_date, parse
from trio_gw.guard.keys import KeyRing, NoKeyError, NotTrustedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.settings import Issuer

MAX_TOKEN = 16 * 1024  # bytes; far above any real token, far below what costs time to parse
_HINT = "Make sure you have provided the correct security credentials"
_ALGORITHMS = {name: jwt.get_algorithm_by_name(name) for name in ALGORITHMS}


class Caller(msgspec.Struct, frozen=True):
    """The verified principal of a handshake.

    `token_id` is the claim `jti`, else the hex SHA-256 of the token. `key_type` is upper-case.
    `expires_at` is in epoch seconds, None without a token. `payload` is the claims as signed,
    for what needs more of them than the fields here. The repr shows no claims.
    """

    subject: str
    issuer: str = ""
    issuer_name: str = ""
    token_id: str = ""
    scopes: frozenset[str] = frozenset()
    key_type: str = "PRODUCTION"
    expires_at: float | None = None
    application: str = ""
    consumer_key: str = ""
    payload: bytes = b""
    anonymous: bool = False

    def claims(self) -> dict[str, Any]:
        """Decode all claims of the token; empty without one."""
        return msgspec.json.decode(self.payload, type=dict[str, Any]) if self.payload else {}

    def __repr__(self) -> str:
        return f"Caller(subject={self.subject!r}, issuer_name={self.issuer_name!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("subject", self.subject), ("issuer_name", self.issuer_name)]


ANONYMOUS = Caller("anonymous", anonymous=True)
"""The caller of every topic without security (spec: security §4)."""


class Tokens:
    """Checks credentials against the keys of a key ring, and remembers what it has verified.

    `default_header` is where the token is expected unless the API names a header of its own;
    `skew` is in seconds; `cache_size` is a number of tokens, 0 for none.
    """

    def __init__(
        self,
        keyring: KeyRing,
        default_header: str = "authorization",
        skew: float = 5.0,
        cache_size: int = 10_000,
    ) -> None:
        self._keyring = keyring
        self._default_header = default_header.lower().encode()
        self._skew = skew
        self._cache_size = cache_size
        # By the digest of the token; oldest use first. The number is the key ring's generation
        # at verification: when keys change, every entry is verified once more.
        self._verified: OrderedDict[bytes, tuple[Caller, int]] = OrderedDict()

    async def authenticate(
        self,
        *,
        secured: bool,
        scopes: tuple[str, ...] | None,
        oauth2: bool,
        header: str,
        topic: str,
        headers: Iterable[tuple[bytes, bytes]],
        now: float,
    ) -> Caller:
        """Return who is calling, or raise the Refusal to answer with (spec: security §3, §6).

        `secured`, `scopes` and `oauth2` are the topic's; `header` is the API's own credential
        header in lower case, or empty; `headers` have lower-case names; `now` is in epoch
        seconds. Waits only if the token's key is not known yet, and then 5 seconds at most.
        On a token seen before this takes a few microseconds, most of them for its digest.
        """
        if not secured:
            return ANONYMOUS
        name = header.encode() if header else self._default_header
        token = _bearer([value for field, value in headers if field == name])
        if scopes is not None and not oauth2:
            raise _no_credential("the topic has scopes, but its API no oauth2 scheme")
        digest = hashlib.sha256(token).digest()
        found = self._verified.get(digest)
        if found is not None and found[1] == self._keyring.generation:
            self._verified.move_to_end(digest)
            caller = found[0]
        else:
            caller = await self._verify(token, digest, now)
        # `expires_at` of a token is never None; the type says so for anonymous callers.
        if (caller.expires_at or 0.0) <= now - self._skew:
            raise _expired()
        if scopes and caller.scopes.isdisjoint(scopes):
            raise auth_refusal(
                403,
                "900910",
                "The access token does not allow you to access the requested resource",
                f"User is NOT authorized to access the Resource: {topic}. Scope validation failed.",
                why="the token has none of the topic's scopes",
            )
        return caller

    async def _verify(self, token: bytes, digest: bytes, now: float) -> Caller:
        """Check everything about a token but its expiry, and remember it."""
        self._verified.pop(digest, None)
        try:
            parsed = parse(token)
            try:
                keys = self._keyring.find(parsed.issuer, parsed.kid, parsed.alg)
            except NoKeyError:
                await self._keyring.wait_for(parsed.issuer, parsed.kid)
                keys = self._keyring.find(parsed.issuer, parsed.kid, parsed.alg)
        except UndecodableError as error:
            text = f"Not a JWT token. Failed to decode the token header. {_HINT}"
            raise _rejected(text, str(error)) from None
        except (UnacceptableError, NotTrustedError) as error:
            raise _invalid(str(error)) from None
        except NoKeyError as error:
            message = "Unclassified Authentication Failure"
            raise auth_refusal(401, "900900", message, message, why=str(error)) from None
        # The keys in hand are those of this generation; nothing below waits.
        generation = self._keyring.generation
        issuer = self._keyring.issuer(parsed.issuer)
        algorithm = _ALGORITHMS[parsed.alg]
        assert issuer is not None
        if not any(algorithm.verify(parsed.signed, key, parsed.signature) for key in keys):
            raise _invalid("the signature does not verify")
        caller = _caller(parsed, issuer, digest)
        not_before = parsed.claims.get("nbf")
        if not_before is not None and not is_date(not_before, now + self._skew):
            raise _invalid("the token is not valid yet")
        if self._cache_size:
            if len(self._verified) >= self._cache_size:
                self._verified.popitem(last=False)
            self._verified[digest] = (caller, generation)
        return caller


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
        text = "Production key offered to an API with no production endpoint"
    elif caller.key_type == "SANDBOX":
        if has_sandbox:
            return "sandbox"
        text = "Sandbox key offered to an API with no sandbox endpoint"
    else:
        text = "Invalid key type."
    raise _rejected(f"{text}. {_HINT}", text)


def _bearer(values: list[bytes]) -> bytes:
    """Take the token out of the credential header, or refuse (spec: security §3.1)."""
    if len(values) != 1:
        raise _no_credential("no credential header" if not values else "two credential headers")
    value = values[0]
    if len(value) > MAX_TOKEN:
        raise _no_credential("the credential is too long")
    pieces = value.split()
    if len(pieces) != 2 or not value.lstrip().lower().startswith(b"bearer"):
        raise _no_credential("not a bearer credential")
    if value.strip().rstrip(b".").count(b".") != 2:
        raise _no_credential("not three parts")
    return pieces[1]


def _caller(parsed: CompactToken, issuer: Issuer, digest: bytes) -> Caller:
    claims = parsed.claims
    consumer_key = (
        claims.get(issuer.consumer_key_claim)
        if issuer.consumer_key_claim
        else claims.get("consumerKey") or claims.get("azp")
    )
    key_type = claims.get("keytype")
    return Caller(
        subject=_text(claims.get("sub")),
        issuer=issuer.issuer,
        issuer_name=issuer.title,
        token_id=_text(claims.get("jti")) or digest.hex(),
        scopes=_scopes(claims.get("scope")),
        key_type=str(key_type).upper() if key_type else "PRODUCTION",
        expires_at=float(claims["exp"]),
        # What the reference system shows for tokens without a subscription (security §3.5).
        application=f"anon:{issuer.title}",
        consumer_key=_text(consumer_key),
        payload=parsed.payload,
    )


def _scopes(claim: object) -> frozenset[str]:
    """Read the claim `scope`: words in one text, or an array (spec: security §3.6)."""
    if claim is None:
        return frozenset({"default"})
    words = claim.split(" ") if isinstance(claim, str) else claim
    if not isinstance(words, list):
        return frozenset()
    return frozenset(word for word in words if isinstance(word, str) and word)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _rejected(description: str, why: str) -> Refusal:
    return auth_refusal(401, "900901", "Invalid Credentials", description, why=why)


def _no_credential(why: str) -> Refusal:
    return _rejected(_HINT, why)


def _invalid(why: str) -> Refusal:
    return _rejected(f"Invalid Credentials. {_HINT}", why)


def _expired() -> Refusal:
    # Ours: the reference system answers as for a bad signature (spec: mission §2).
    message = "Access Token Expired"
    text = f"{message}. Renew the access token and try again"
    return auth_refusal(401, "900903", message, text, why="the token has expired")
