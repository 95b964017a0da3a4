"""The backend JWT: a signed token that describes the caller to backends (spec: security §7).

`proxy.connection` calls it for every handshake when `[backend_jwt]` is enabled. `/.wellknown/jwks`
serves `jwks`, with which backends verify the token. No I/O and no clock.

A token costs a signature, so it is cached for the same caller and API until shortly before it
expires. The key of the cache is the whole caller, not the id of its token: two issuers may use the
same id, and a token that is renewed under its id may have other claims.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization

from trio_gw.guard.certificates import algorithms_for

if TYPE_CHECKING:
    from trio_gw.config.api import ApiProject
    from trio_gw.config.settings import BackendJwt
    from trio_gw.guard.caller import Caller
    from trio_gw.guard.certificates import KeyPair

RENEWED = 5.0  # seconds before its expiry at which a token is replaced
CACHE_SIZE = 1000
_TENANT = "-1234"  # the number of `carbon.super`, the only tenant
# Claims that describe the caller's token itself, or are too large: not copied.
_NOT_COPIED = frozenset(
    {
        *("iss", "sub", "aud", "exp", "nbf", "iat", "jti"),
        *("application", "tierInfo", "subscribedAPIs"),
    }
)

_Key = tuple[str, str, str, "Caller"]


class Assertions:
    """Makes the header that describes the caller to a backend."""

    def __init__(self, settings: BackendJwt, pair: KeyPair, cache_size: int = CACHE_SIZE) -> None:
        self._settings = settings
        self._name = settings.header.lower().encode("ascii")
        dialect = settings.dialect.rstrip("/")
        self._prefix = f"{dialect}/" if dialect else ""
        self._key = pair.private_key
        self._algorithm_name = algorithm_of(pair)
        self._algorithm: Any = jwt.get_algorithm_by_name(self._algorithm_name)
        identity = {"kid": _key_id(pair), "x5t": thumbprint(pair)}
        head = {"typ": "JWT", "alg": self._algorithm_name}
        head[settings.key_id] = identity[settings.key_id]
        self._head = self._encode(msgspec.json.encode(head))
        public = self._algorithm.to_jwk(pair.private_key.public_key(), as_dict=True)
        public.pop("key_ops", None)  # RFC 7517 §4.3: not together with `use`
        key = {**public, "use": "sig", "alg": self._algorithm_name, **identity}
        self.jwks = msgspec.json.encode({"keys": [key]})
        # Least recently used first; the number is the expiry time.
        self._made: OrderedDict[_Key, tuple[bytes, int]] = OrderedDict()
        self._cache_size = cache_size

    def header(self, caller: Caller, api: ApiProject, now: float) -> tuple[bytes, bytes] | None:
        """Return the header for this caller, None for an anonymous one.

        `now` is in epoch seconds.
        """
        if caller.anonymous:
            return None
        key = (api.name, api.base_path, api.version, caller)
        found = self._made.get(key)
        if found is None or found[1] - RENEWED <= now:
            self._made.pop(key, None)
            if len(self._made) >= self._cache_size:
                self._made.popitem(last=False)
            issued = int(now)
            expires = issued + self._settings.validity
            found = self._sign(self._claims(caller, api, issued, expires)), expires
            self._made[key] = found
        else:
            self._made.move_to_end(key)
        return self._name, found[0]

    def _claims(self, caller: Caller, api: ApiProject, issued: int, expires: int) -> dict[str, Any]:
        application = caller.application
        told = {
            "subscriber": application.owner or caller.subject,
            "applicationid": application.id,
            "applicationname": application.name,
            "applicationtier": application.tier,
            "applicationUUId": application.uuid,
            "applicationAttributes": dict(application.attributes),
            "apiname": api.name,
            "apicontext": api.base_path,
            "version": api.version,
            "tier": caller.subscription.tier,
            "keytype": caller.key_type,
            "usertype": "Application_User",
            "enduser": caller.subject,
            "enduserTenantId": _TENANT,
        }
        renamed = dict(caller.renamed)
        named = ((renamed.get(name, name), value) for name, value in caller.claims().items())
        copied = {name: value for name, value in named if name not in _NOT_COPIED}
        # In this order, so that a claim of the caller's token never replaces one of the gateway's.
        return {
            **copied,
            **{self._prefix + name: value for name, value in told.items() if value},
            "iss": self._settings.issuer,
            "iat": issued,
            "exp": expires,
            "jti": str(uuid.uuid4()),
        }

    def _sign(self, claims: dict[str, Any]) -> bytes:
        signed = self._head + b"." + self._encode(msgspec.json.encode(claims))
        return signed + b"." + self._encode(self._algorithm.sign(signed, self._key))

    def _encode(self, data: bytes) -> bytes:
        urlsafe = self._settings.encoding == "base64url"
        encoded = base64.urlsafe_b64encode(data) if urlsafe else base64.b64encode(data)
        return encoded.rstrip(b"=")


def _key_id(pair: KeyPair) -> str:
    """Name the key by the SHA-256 of its certificate (RFC 7515 §4.1.8)."""
    der = pair.certificate.public_bytes(serialization.Encoding.DER)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def algorithm_of(pair: KeyPair) -> str:
    """Choose the algorithm: for RSA keys RS256, as the reference system does."""
    able = algorithms_for(pair.private_key.public_key())
    return "RS256" if "RS256" in able else min(able)


def thumbprint(pair: KeyPair) -> str:
    """Make `x5t` as the reference system does: base64url of the *hex* SHA-1, with padding."""
    der = pair.certificate.public_bytes(serialization.Encoding.DER)
    hexadecimal = hashlib.sha1(der, usedforsecurity=False).hexdigest()
    return base64.urlsafe_b64encode(hexadecimal.encode()).decode()
