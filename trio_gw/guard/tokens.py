"""Signed tokens: from bytes to a verified `Caller`, with a cache of verified tokens.

Called by `schemes` (spec: security §3.2 to §3.4). The steps are: look up the digest of the token,
else parse it, check kind, issuer, algorithm, key, signature, audience and times, and read the
claims. Requirements of a topic, such as scopes and subscriptions, are not checked here.

Two guarantees: no answer, log line, repr or cache entry holds a token (`Refusal.why` only names the
check that failed), and no input raises anything but `Refusal`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

import jwt
from msgspec import structs

from trio_gw.config.rules.tokens import ALGORITHMS
from trio_gw.guard import refusals
from trio_gw.guard.caller import Caller, from_claims, text
from trio_gw.guard.compact import CompactToken, UnacceptableError, UndecodableError, is_date, parse
from trio_gw.guard.keys import KeyRing, NoKeyError, NotTrustedError
from trio_gw.guard.subscription import NOTHING, Carried, carried

if TYPE_CHECKING:
    from trio_gw.config.settings import Issuer

MAX_REMEMBERED = 4 * 1024  # bytes; so that the tokens of an issuer cannot fill the memory
MAX_TOKEN = 16 * 1024  # bytes; far more than real tokens have, and still cheap to parse
SKEW = 5.0  # tolerated difference of clocks in seconds
CACHE_SIZE = 10_000  # tokens
_ALGORITHMS = {name: jwt.get_algorithm_by_name(name) for name in ALGORITHMS}


class TokenKind(NamedTuple):
    """One kind of signed token, and its properties.

    `token_type` is the required value of that claim. A token of one kind is never accepted as
    another, regardless of its issuer: API keys and Internal-Keys are not subject to scopes.
    """

    scheme: Literal["oauth2", "internal-key", "api-key"]
    token_type: str = ""
    lasting: bool = False  # may come without an expiry time
    unlike: str = "Not a JWT token. Failed to decode the token header"  # sent for other texts


BEARER = TokenKind("oauth2")
INTERNAL_KEY = TokenKind(
    "internal-key", "InternalKey", unlike="Internal key authentication failed."
)
API_KEY = TokenKind("api-key", "apiKey", lasting=True)
_TYPES = frozenset((INTERNAL_KEY.token_type, API_KEY.token_type))


class Verified(NamedTuple):
    """A caller, the subscriptions in its token, and the generation of the key ring."""

    caller: Caller
    carried: Carried
    issuer: Issuer
    generation: int


class Tokens:
    """Checks signed tokens against the keys of a key ring, and caches the results.

    `skew` is in seconds; `cache_size` is a number of tokens, 0 for none.
    """

    def __init__(self, keyring: KeyRing, skew: float = SKEW, cache_size: int = CACHE_SIZE) -> None:
        self._keyring = keyring
        self._skew = skew
        self._cache_size = cache_size
        # By kind and digest of the token; least recently used first. When keys change, every
        # entry is verified again.
        self._verified: OrderedDict[bytes, Verified] = OrderedDict()

    async def verify(
        self, token: bytes, now: float, kind: TokenKind = BEARER, signer: str | None = None
    ) -> Verified:
        """Verify a token, or raise the Refusal to answer with (spec: security §6).

        With `signer` the keys are those of this issuer, regardless of the claim `iss`; `now` is in
        epoch seconds. Waits only for an unknown key, and then at most 5 seconds. A cached token
        takes a few microseconds, most of them for its digest.
        """
        digest = hashlib.sha256(token).digest()
        name = digest + kind.token_type.encode()
        found = self._verified.get(name)
        if found is not None and found.generation == self._keyring.generation:
            self._verified.move_to_end(name)
        else:
            self._verified.pop(name, None)
            found = await self._verify(token, digest, now, kind, signer)
            if self._cache_size and len(token) <= MAX_REMEMBERED:
                if len(self._verified) >= self._cache_size:
                    self._verified.popitem(last=False)
                self._verified[name] = found
        expires_at = found.caller.expires_at
        if expires_at is not None and expires_at <= now - self._skew:
            raise refusals.expired() if kind is BEARER else refusals.invalid("it has expired")
        return found

    async def _verify(
        self, token: bytes, digest: bytes, now: float, kind: TokenKind, signer: str | None
    ) -> Verified:
        """Check everything about a token except its expiry."""
        try:
            parsed = parse(token, lasting=kind.lasting)
            _check_kind(parsed, kind)
            name = parsed.issuer if signer is None else signer
            try:
                keys = self._keyring.find(name, parsed.kid, parsed.alg)
            except NoKeyError:
                await self._keyring.wait_for(name, parsed.kid)
                keys = self._keyring.find(name, parsed.kid, parsed.alg)
        except UndecodableError as error:
            raise refusals.rejected(f"{kind.unlike}. {refusals.HINT}", str(error)) from None
        except (UnacceptableError, NotTrustedError) as error:
            raise refusals.invalid(str(error)) from None
        except NoKeyError as error:
            raise refusals.no_key(str(error)) from None
        # The keys belong to this generation; nothing below waits.
        generation = self._keyring.generation
        issuer = self._keyring.issuer(name)
        algorithm = _ALGORITHMS[parsed.alg]
        assert issuer is not None
        if not any(algorithm.verify(parsed.signed, key, parsed.signature) for key in keys):
            raise refusals.invalid("the signature does not verify")
        claims = parsed.claims
        if kind is BEARER and not is_audience(claims.get("aud"), issuer.audience):
            raise refusals.invalid("the token is for another audience")
        not_before = claims.get("nbf")
        if not_before is not None and not is_date(not_before, now + self._skew):
            raise refusals.invalid("the token is not valid yet")
        caller = from_claims(
            claims, parsed.payload, issuer, digest.hex(), kind.scheme, parsed.signature
        )
        if renamed := self._keyring.renamed(name):
            caller = structs.replace(caller, renamed=renamed)
        wants = kind is not BEARER or issuer.validate_subscription
        return Verified(caller, carried(claims) if wants else NOTHING, issuer, generation)


def _check_kind(parsed: CompactToken, kind: TokenKind) -> None:
    """Refuse a token of another kind, before its issuer is asked for anything."""
    token_type = text(parsed.claims.get("token_type"))
    if kind.token_type and token_type != kind.token_type:
        raise refusals.no_credential(f"the token is no {kind.scheme}")
    if not kind.token_type and token_type in _TYPES:
        raise UnacceptableError("the token is of another kind")


def is_audience(claim: object, wanted: tuple[str, ...]) -> bool:
    """Return whether the audience matches (RFC 7519 §4.1.3); true if none is required."""
    if not wanted:
        return True
    named = claim if isinstance(claim, list) else [claim]
    return any(name in wanted for name in named if isinstance(name, str))
