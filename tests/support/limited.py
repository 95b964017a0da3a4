"""A gateway with one API behind limits, and tokens that name tiers."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa

from support import issuers
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    import trio

ISSUER = "https://issuer.example/token"
DAY: dict[str, Any] = {"per": "31d", "count": "both"}  # no test sees the end of such a window


class Limited:
    """That gateway. Its API is `L`, with the topics `/any` and `/open`.

    Where there is a tier `Topic`, the topic `/tiered` has it.
    """

    def __init__(self, gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
        self.gateway = gateway
        self._signer = signer

    def token(self, plan: str = "AsyncUnlimited", application: str = "Unlimited") -> str:
        """Sign a token whose subscription and application have these tiers."""
        subscription = {"name": "L", "version": "1.0.0", "context": "/l/1.0.0"}
        claims = {
            "iss": ISSUER,
            "sub": "alice",
            "exp": int(time.time()) + 600,
            "application": {"id": 7, "uuid": "u7", "name": "App", "tier": application},
            "subscribedAPIs": [{**subscription, "subscriptionTier": plan}],
            "tierInfo": {plan: {"stopOnQuotaReach": True}},
        }
        return issuers.sign(self._signer, claims, kid="k")

    def connect(self, topic: str = "any", token: str | None = None, **options: Any) -> Any:
        """Connect with this token, or with one whose tiers limit nothing."""
        chosen = self.token() if token is None else token
        return self.gateway.connect(f"/l/1.0.0/{topic}", chosen, **options)


@functools.cache
def _signer() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def start_limited(
    nursery: trio.Nursery,
    base: Path,
    url: str,
    tiers: dict[str, Any],
    *,
    api_tier: str = "",
    topic: dict[str, Any] | None = None,
    **settings: Any,
) -> Limited:
    """Start it in front of the backend at `url`; `topic` adds to all topics."""
    signer = _signer()
    (base / "certs").mkdir(exist_ok=True)
    (base / "certs" / "jwks.json").write_bytes(issuers.key_set(k=signer))
    channels = {
        "/any": {"publish": topic or {}},
        "/open": {"publish": topic or {}, "x-auth-type": "None"},
    }
    if "Topic" in tiers:
        channels["/tiered"] = {"publish": {"x-throttling-tier": "Topic", **(topic or {})}}
    write(base / "apis", "l", api("L", "/l", url, apiThrottlingPolicy=api_tier), asyncapi(channels))
    issuer = {"issuer": ISSUER, "jwks": "certs/jwks.json", "validate_subscription": True}
    gateway = await start_gateway(nursery, base, tiers=tiers, issuers=[issuer], **settings)
    return Limited(gateway, signer)
