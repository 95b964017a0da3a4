"""What the gateway's own tokens say about the key that signed them.

Shared by `testkey` and `assertion`.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from trio_gw.guard.certificates import algorithms_for

if TYPE_CHECKING:
    from trio_gw.guard.certificates import KeyPair


def algorithm_of(pair: KeyPair) -> str:
    """Choose how to sign: of the six ways an RSA key has, the one the reference system uses."""
    able = algorithms_for(pair.private_key.public_key())
    return "RS256" if "RS256" in able else min(able)


def thumbprint(pair: KeyPair) -> str:
    """Make `x5t` as the reference system does: base64url of the *hex* SHA-1, with padding."""
    der = pair.certificate.public_bytes(serialization.Encoding.DER)
    hexadecimal = hashlib.sha1(der, usedforsecurity=False).hexdigest()
    return base64.urlsafe_b64encode(hexadecimal.encode()).decode()
