"""Issuers' certificate and JWKS files that change while the gateway runs."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt.algorithms
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from support.logged import Logged, logged
from support.tls import chain_of, leaf, replace
from trio_gw.config.settings import Issuer
from trio_gw.guard.keys import KeyRing, NoKeyError
from trio_gw.watch.files import keep_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio

ISSUER = "https://issuer.example"


@pytest.fixture
def said() -> Iterator[Logged]:
    with logged("trio_gw.files") as handler:
        yield handler


def key_set(*kids: str) -> bytes:
    keys: list[dict[str, Any]] = []
    for kid in kids:
        public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
        keys.append(jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True) | {"kid": kid})
    return json.dumps({"keys": keys}).encode()


async def test_a_certificate_is_loaded_again_and_a_bad_one_changes_nothing(
    nursery: trio.Nursery, tmp_path: Path, said: Logged
) -> None:
    ca, path = trustme.CA(), tmp_path / "issuer.pem"
    replace(path, chain_of(leaf(ca)))
    ring = KeyRing([Issuer(ISSUER, certificate="issuer.pem")], tmp_path)
    (first,) = ring.find(ISSUER, None, "RS256")
    await nursery.start(partial(keep_loaded, ring.files(), grace=0.0))
    assert ring.generation == 0, "nothing has changed since the start"
    for fault, text in (
        (chain_of(leaf(ca, days=-1)), "the certificate expired on"),
        (chain_of(ca.issue_cert("a")), "fits none of the algorithms"),
        (b"", "the file is not PEM"),
    ):
        replace(path, fault)
        await said.wait(text)
        assert ring.find(ISSUER, None, "RS256") == (first,)
        assert ring.generation == 0
    replace(path, chain_of(leaf(ca)))
    await said.wait(f"keys of issuer {ISSUER}: loaded again")
    assert ring.find(ISSUER, None, "RS256") != (first,)
    assert ring.generation == 1, "results reached with the old key are forgotten"
    nursery.cancel_scope.cancel()


async def test_a_key_set_file_is_loaded_again(
    nursery: trio.Nursery, tmp_path: Path, said: Logged
) -> None:
    path = tmp_path / "keys.json"
    replace(path, key_set("one"))
    ring = KeyRing([Issuer(ISSUER, name="Files", jwks="keys.json")], tmp_path)
    await nursery.start(partial(keep_loaded, ring.files(), grace=0.0))
    replace(path, b'{"keys": []}')
    await said.wait("the JWK set of issuer Files cannot be used: it has no usable key")
    assert ring.find(ISSUER, "one", "RS256")
    replace(path, key_set("two"))
    await said.wait("keys of issuer Files: loaded again")
    assert ring.find(ISSUER, "two", "RS256")
    with pytest.raises(NoKeyError):
        ring.find(ISSUER, "one", "RS256")
    nursery.cancel_scope.cancel()


def test_a_url_is_no_file(tmp_path: Path) -> None:
    ring = KeyRing([Issuer(ISSUER, jwks="https://unused.invalid/jwks")], tmp_path)
    assert ring.files() == []
