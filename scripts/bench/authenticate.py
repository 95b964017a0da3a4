"""Measure the cost of authentication per handshake: a new token, by algorithm, and a cached one."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from trio_gw.config.rules.tokens import ALGORITHMS
from trio_gw.config.settings import Issuer
from trio_gw.guard.credentials import CredentialPlaces, take
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.revocations import Revocations
from trio_gw.guard.schemes import AccessPolicy, Handshake, Verifiers, authenticate
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from trio_gw.guard.certificates import PrivateKey

TOKENS = 500
NOW = 1_900_000_000.0
ISSUER = "https://issuer.example/token"
RSA = rsa.generate_private_key(65537, 2048)
RSA_4096 = rsa.generate_private_key(65537, 4096)
CURVES = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
ED25519 = ed25519.Ed25519PrivateKey.generate()
# Name of the row, algorithm, private key, public key as a JWK.
KINDS: list[tuple[str, str, PrivateKey, dict[str, Any]]] = [
    *(
        (f"{alg}, 2,048 bits", alg, RSA, RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True))
        for alg in ("RS256", "RS512", "PS256")
    ),
    (
        "RS256, 4,096 bits",
        "RS256",
        RSA_4096,
        RSAAlgorithm.to_jwk(RSA_4096.public_key(), as_dict=True),
    ),
    *(
        (alg, alg, key, ECAlgorithm.to_jwk(key.public_key(), as_dict=True))
        for alg, key in CURVES.items()
    ),
    ("EdDSA", "EdDSA", ED25519, OKPAlgorithm.to_jwk(ED25519.public_key(), as_dict=True)),
]
DEMAND = AccessPolicy("/t", "Chat", "1.0.0", "/chat/1.0.0", scopes=("read",))
SELF = {
    "subscribedAPIs": [
        {"name": f"A{n}", "version": "1.0.0", "context": f"/a{n}/1.0.0", "subscriptionTier": "Gold"}
        for n in range(20)
    ]
    + [{"name": "Chat", "version": "1.0.0", "subscriptionTier": "Gold"}]
}


async def measure(
    alg: str, key: PrivateKey, jwk: dict[str, Any], **more: object
) -> tuple[float, float]:
    """Return microseconds of processor time per handshake: new token, cached token (median)."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "keys").write_text(json.dumps({"keys": [{**jwk, "kid": "1"}]}))
        issuer = Issuer(
            ISSUER,
            jwks="keys",
            algorithms=tuple(sorted(ALGORITHMS)),
            validate_subscription="subscribedAPIs" in more,
        )
        guard = Verifiers(Tokens(KeyRing([issuer], Path(folder))), Revocations())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "alice",
        "scope": "read write",
        "exp": int(NOW) + 600,
        **more,
    }
    headers: list[tuple[tuple[bytes, bytes], ...]] = []
    for number in range(TOKENS):
        token = jwt.encode(claims | {"jti": f"{number}"}, key, alg, {"kid": "1"})
        headers.append(((b"host", b"x"), (b"authorization", b"Bearer " + token.encode())))
    rounds = []
    for _ in range(6):
        start = time.process_time()
        for fields in headers:
            presented, _ = take(CredentialPlaces(), fields, "", ())
            await authenticate(guard, DEMAND, Handshake(NOW, "192.0.2.1", presented))
        rounds.append((time.process_time() - start) / TOKENS * 1e6)
    return rounds[0], statistics.median(rounds[1:])


async def main() -> None:
    """Print the table."""
    print(f"\n| authentication, {TOKENS} tokens | first time, µs | remembered, µs |")
    print("|---|---:|---:|")
    for name, alg, key, jwk in KINDS:
        first, again = await measure(alg, key, jwk)
        print(f"| {name} | {first:.0f} | {again:.1f} |")
    first, again = await measure("RS256", RSA, KINDS[0][3], **SELF)
    print(f"| RS256 with 21 subscriptions | {first:.0f} | {again:.1f} |")


trio.run(main)
