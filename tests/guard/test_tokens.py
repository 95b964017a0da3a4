"""Bearer tokens: accepted tokens, answers to refused ones, and known attacks.

Case numbers (J1 …) are those of the conformance cases for tokens, scopes and keys. Tests
build tokens by hand where a library refuses to create them.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from support.examples import examples
from support.secrets import secret, wrote
from support.visits import visit
from trio_gw.config.settings import Issuer
from trio_gw.errors import Refusal
from trio_gw.guard.caller import Application, Caller, Subscription, check_key_type
from trio_gw.guard.compact import UnacceptableError, UndecodableError, parse
from trio_gw.guard.credentials import CredentialPlaces
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.guard.certificates import PrivateKey

NOW = 1_900_000_000.0
ISSUER = "https://localhost:9443/oauth2/token"
OTHER = "https://other.example/token"
CURVES = "https://curves.example/token"
JAVA_UUID = "bad08a86-3dfd-3ade-a8fd-8ef69b15005a"

HINT = "Make sure you have provided the correct security credentials"
CHALLENGE = (
    b'Bearer realm="Choreo Connect", error="invalid_token",'
    b' error_description="The provided token is invalid"'
)

ROWS = {
    "A": (401, "900901", "Invalid Credentials", HINT),
    "B": (
        401,
        "900901",
        "Invalid Credentials",
        f"Not a JWT token. Failed to decode the token header. {HINT}",
    ),
    "C": (401, "900901", "Invalid Credentials", f"Invalid Credentials. {HINT}"),
    "E": (401, "900900", *["Unclassified Authentication Failure"] * 2),
    "H": (
        403,
        "900910",
        "The access token does not allow you to access the requested resource",
        "User is NOT authorized to access the Resource: /notifications. Scope validation failed.",
    ),
    "expired": (
        401,
        "900903",
        "Access Token Expired",
        "Access Token Expired. Renew the access token and try again",
    ),
}


class World:
    """The issuers of these tests: one with a certificate, one with a JWK set, one with curves."""

    def __init__(self, folder: Path) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.other = rsa.generate_private_key(65537, 2048)
        self.p256 = ec.generate_private_key(ec.SECP256R1())
        self.p384 = ec.generate_private_key(ec.SECP384R1())
        self.p521 = ec.generate_private_key(ec.SECP521R1())
        self.ed25519 = ed25519.Ed25519PrivateKey.generate()
        self.ed448 = ed448.Ed448PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wso2carbon")])
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=9999))
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        (folder / "carbon.pem").write_bytes(self.certificate)
        (folder / "other.json").write_text(
            json.dumps(
                {
                    "keys": [
                        {**RSAAlgorithm.to_jwk(self.other.public_key(), as_dict=True), "kid": "1"}
                    ]
                }
            )
        )
        curves: dict[str, dict[str, Any]] = {
            "p256": ECAlgorithm.to_jwk(self.p256.public_key(), as_dict=True),
            "p384": ECAlgorithm.to_jwk(self.p384.public_key(), as_dict=True),
            "p521": ECAlgorithm.to_jwk(self.p521.public_key(), as_dict=True),
            "ed25519": OKPAlgorithm.to_jwk(self.ed25519.public_key(), as_dict=True),
            "ed448": OKPAlgorithm.to_jwk(self.ed448.public_key(), as_dict=True),
            "rsa": RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True),
        }
        (folder / "curves.json").write_text(
            json.dumps({"keys": [{**key, "kid": kid} for kid, key in curves.items()]})
        )
        every = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
        self.keyring = KeyRing(
            [
                Issuer(ISSUER, name="Resident", certificate="carbon.pem"),
                Issuer(OTHER, jwks="other.json", consumer_key_claim="client_id"),
                Issuer(CURVES, name="Curves", jwks="curves.json", algorithms=(*every, "EdDSA")),
            ],
            folder,
        )
        self.valid = self.token()

    def token(
        self,
        claims: dict[str, Any] | None = None,
        *,
        header: dict[str, Any] | None = None,
        drop: str = "",
        key: PrivateKey | None = None,
        padded: bool = False,
    ) -> bytes:
        """Create and sign a token like those in the test suite of the reference system."""
        every = {
            "sub": "admin",
            "aud": "http://org.wso2.apimgt/gateway",
            "iss": ISSUER,
            "keytype": "PRODUCTION",
            "jti": "f2d5e4c1",
            "iat": int(NOW * 1000),  # in milliseconds, as in the reference system
            "exp": int(NOW) + 3600,
            **(claims or {}),
        }
        every.pop(drop, None)
        return sign(
            {"typ": "JWT", "alg": "RS256", "x5t": "c29tZQ==", **(header or {})},
            json.dumps(every).encode(),
            key or self.key,
            padded=padded,
        )


def part(data: bytes, *, padded: bool = False) -> bytes:
    text = base64.urlsafe_b64encode(data)
    return text if padded else text.rstrip(b"=")


def sign(
    header: dict[str, Any] | bytes, payload: bytes, key: PrivateKey, *, padded: bool = False
) -> bytes:
    """Sign any bytes with the algorithm of the header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = part(raw, padded=padded) + b"." + part(payload, padded=padded)
    name = "RS256" if isinstance(header, bytes) else str(header["alg"])
    try:
        algorithm = jwt.get_algorithm_by_name(name)
    except NotImplementedError:
        algorithm = jwt.get_algorithm_by_name("RS256")
    signature = part(algorithm.sign(signed, key), padded=padded)
    secret(signature.decode())
    return signed + b"." + signature


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("issuers"))


@pytest.fixture
def tokens(world: World) -> Tokens:
    return Tokens(world.keyring)


async def ask(
    tokens: Tokens,
    *values: bytes,
    secured: bool = True,
    scopes: tuple[str, ...] | None = None,
    oauth2: bool = True,
    header: str = "",
    sent_as: bytes = b"authorization",
    now: float = NOW,
) -> Caller:
    return await visit(
        tokens,
        [(b"host", b"localhost"), *[(sent_as, value) for value in values]],
        now,
        places=CredentialPlaces(bearer=header.encode() or b"authorization"),
        secured=secured,
        scopes=scopes,
        oauth2=oauth2,
        topic="/notifications",
    )


async def refused(row: str, tokens: Tokens, *values: bytes, **options: Any) -> Refusal:
    """Check that the token is refused with exactly this row of the error table."""
    with pytest.raises(Refusal) as caught:
        await ask(tokens, *values, **options)
    refusal = caught.value
    status, code, message, description = ROWS[row]
    assert (refusal.status, refusal.code) == (status, code)
    wrote(f"{refusal} {refusal.body!r}", "refusal")
    expected = {"error_message": message, "code": code, "error_description": description}
    assert refusal.body == json.dumps(expected, separators=(",", ":")).encode()
    assert refusal.headers == (
        (b"content-type", b"application/json"),
        (b"www-authenticate", CHALLENGE),
    )
    for value in values:
        for piece in value.split(b"."):
            assert len(piece) < 12 or piece.decode(errors="replace") not in refusal.why
    return refusal


def bearer(token: bytes) -> bytes:
    return b"Bearer " + token


# --- accepted tokens ---


async def test_j1_a_valid_token_names_its_caller(world: World, tokens: Tokens) -> None:
    caller = await ask(tokens, bearer(world.valid))
    assert caller == Caller(
        subject="admin",
        issuer=ISSUER,
        issuer_name="Resident",
        token_id="f2d5e4c1",
        scopes=frozenset({"default"}),
        key_type="PRODUCTION",
        expires_at=NOW + 3600,
        consumer_key="",
        # The UUID is what Java's nameUUIDFromBytes makes of "Resident".
        application=Application("anon:Resident", "-1", JAVA_UUID, "Unlimited"),
        subscription=Subscription(""),
        payload=caller.payload,
        scheme="oauth2",
        issued_at=NOW,
    )
    assert caller.claims()["aud"] == "http://org.wso2.apimgt/gateway"
    assert not caller.anonymous


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  ", b" BeArEr\t"])
async def test_the_scheme_is_taken_in_any_case_and_spacing(
    world: World, tokens: Tokens, scheme: bytes
) -> None:
    assert (await ask(tokens, scheme + world.valid + b" ")).subject == "admin"


async def test_parts_with_padding_are_taken(world: World, tokens: Tokens) -> None:
    token = world.token({"sub": "a"}, padded=True)
    assert b"=" in token
    assert (await ask(tokens, bearer(token))).subject == "a"


async def test_j7_a_claim_that_is_an_object_does_no_harm(world: World, tokens: Tokens) -> None:
    token = world.token({"realm": {"signing_tenant": "carbon.super"}})
    caller = await ask(tokens, bearer(token))
    assert caller.claims()["realm"] == {"signing_tenant": "carbon.super"}


async def test_j19_an_api_can_name_its_own_header(world: World, tokens: Tokens) -> None:
    await ask(tokens, bearer(world.valid), header="authheader", sent_as=b"authheader")


async def test_j20_another_header_does_not_count(world: World, tokens: Tokens) -> None:
    await refused("A", tokens, bearer(world.valid), header="authheader", sent_as=b"auth-header")
    await refused("A", tokens, bearer(world.valid), header="authheader")


@pytest.mark.parametrize(
    ("alg", "kid"),
    [
        *[(f"{family}{bits}", "rsa") for family in ("RS", "PS") for bits in (256, 384, 512)],
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("ES512", "p521"),
        ("EdDSA", "ed25519"),
        ("EdDSA", "ed448"),
    ],
)
async def test_every_allowed_algorithm_verifies_and_detects_changes(
    world: World, tokens: Tokens, alg: str, kid: str
) -> None:
    key = world.key if kid == "rsa" else getattr(world, kid)
    token = world.token({"iss": CURVES}, header={"alg": alg, "kid": kid}, key=key)
    assert (await ask(tokens, bearer(token))).issuer_name == "Curves"
    header, payload, signature = token.split(b".")
    changed = payload.replace(b"a", b"b", 1) if b"a" in payload else payload[::-1]
    flipped = (b"B" if signature[:1] == b"A" else b"A") + signature[1:]
    await refused("C", tokens, bearer(b".".join([header, payload, flipped])))
    with pytest.raises(Refusal):
        await ask(tokens, bearer(b".".join([header, changed, signature])))


async def test_without_key_id_every_fitting_key_of_a_set_is_tried(
    world: World, tokens: Tokens
) -> None:
    token = world.token({"iss": CURVES}, header={"alg": "ES384"}, key=world.p384)
    assert (await ask(tokens, bearer(token))).subject == "admin"


async def test_an_unsecured_topic_ignores_credentials(world: World, tokens: Tokens) -> None:
    for values in ((), (b"Bearer dGVzdHRva2VuIC1uCg==",), (b"x" * 99_999,), (b"a", b"b")):
        caller = await ask(tokens, *values, secured=False, scopes=("s",), oauth2=False)
        assert caller == Caller(
            "anonymous",
            consumer_key="192.0.2.1",
            application=Application("", "0", "192.0.2.1", "Unlimited"),
            subscription=Subscription("Unauthenticated", stop_on_quota=True),
            scheme="none",
        )
        assert (caller.anonymous, caller.expires_at, caller.claims()) == (True, None, {})


# --- answers to refused tokens ---


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Something %s",  # J3
        b"Bearer Bearer %s",  # J6
        b"%s",
        b"Bearer %s extra",
        b"Basic YWRtaW46YWRtaW4=",
        b"Bearer opaque-token",
        b"Bearer a.b",
        b"Bearer a.b.",
        b"Bearer a..",
        b"Bearer a.b.c.d",
        b"Bearer a.b.c.d.e",
        b"Bearer \xc2\xa0",
        "Bearer\N{NO-BREAK SPACE}".encode() + b"%s",
    ],
)
async def test_row_a_what_is_no_bearer_token(world: World, tokens: Tokens, value: bytes) -> None:
    await refused("A", tokens, value.replace(b"%s", world.valid))


async def test_row_a_no_header_and_two_headers(world: World, tokens: Tokens) -> None:
    await refused("A", tokens)
    await refused("A", tokens, bearer(world.valid), bearer(world.valid))
    await refused("A", tokens, bearer(world.valid), b"")


async def test_row_a_scopes_without_an_oauth2_scheme(world: World, tokens: Tokens) -> None:
    for scopes in ((), ("default",)):
        await refused("A", tokens, bearer(world.valid), scopes=scopes, oauth2=False)
        await ask(tokens, bearer(world.valid), scopes=scopes, oauth2=True)
    await ask(tokens, bearer(world.valid), scopes=None, oauth2=False)


async def test_row_a_a_token_above_sixteen_kibibytes(world: World, tokens: Tokens) -> None:
    fits = world.token({"fill": "x" * 11_000})
    assert 14_000 < len(fits) < 16_000
    await ask(tokens, bearer(fits))
    await refused("A", tokens, bearer(world.token({"fill": "x" * 13_000})))


NOT_OBJECTS = [b"", b"aaa", b"null", b"[]", b'"text"', b"1", b"{", b'{"a":NaN}', b"\xff", b"{}{}"]


async def test_row_b_what_is_nested_deeper_than_anybody_would(world: World, tokens: Tokens) -> None:
    """Such a token could be decoded here, but not encoded again for a backend."""
    for depth, good in ((63, True), (64, False), (500, False), (900, False)):
        nested: list[Any] = []
        for _ in range(depth - 1):
            nested = [nested]
        token = world.token({"nested": nested})
        if good:
            assert (await ask(tokens, bearer(token))).claims()["nested"] == nested
        else:
            await refused("B", tokens, bearer(token))


async def test_j5_row_b_what_cannot_be_decoded(world: World, tokens: Tokens) -> None:
    await refused("B", tokens, b"Bearer aaa.bbb.ccc")
    header, payload, signature = world.valid.split(b".")
    for junk in (*NOT_OBJECTS, b"[" * 5000, b'{"a":' * 2000):
        await refused("B", tokens, bearer(part(junk) + b"." + payload + b"." + signature))
        await refused("B", tokens, bearer(header + b"." + part(junk) + b"." + signature))
    for broken in (b"", b"*", header + b"=", header + b"====", header[:-1] + b"+", b"A" * 5):
        await refused("B", tokens, bearer(broken + b"." + payload + b"." + signature))
    await refused("B", tokens, bearer(world.valid + b"."))


@pytest.mark.parametrize("header", [{"alg": None}, {"alg": 5}, {"alg": ["RS256"]}, {"kid": 1}])
async def test_row_b_a_header_of_wrong_types(
    world: World, tokens: Tokens, header: dict[str, Any]
) -> None:
    await refused("B", tokens, bearer(world.token(header=header)))


async def test_j2_row_c_a_signature_that_does_not_verify(world: World, tokens: Tokens) -> None:
    header, payload, signature = world.valid.split(b".")
    for bad in (signature[:-4], signature[:-1], b"AAAA", b"*", signature[::-1], signature + b"AA"):
        await refused("C", tokens, bearer(b".".join([header, payload, bad])))
    forged = world.token({"sub": "root"}).split(b".")
    await refused("C", tokens, bearer(b".".join([header, forged[1], signature])))


@pytest.mark.parametrize("issuer", ["", "https://localhost:9443", ISSUER + "/", None, 5, [ISSUER]])
async def test_row_c_an_issuer_that_is_not_trusted(
    world: World, tokens: Tokens, issuer: object
) -> None:
    await refused("C", tokens, bearer(world.token({"iss": issuer})))


async def test_row_c_no_issuer_at_all(world: World, tokens: Tokens) -> None:
    await refused("C", tokens, bearer(world.token(drop="iss")))


async def test_row_e_a_key_that_nobody_knows(world: World, tokens: Tokens) -> None:
    token = world.token({"iss": OTHER}, header={"kid": "2"}, key=world.other)
    await refused("E", tokens, bearer(token))


async def test_j4_an_expired_token_is_told_so(world: World, tokens: Tokens) -> None:
    token = world.token({"exp": int(NOW) - 3600})
    await refused("expired", tokens, bearer(token))
    await refused("expired", tokens, bearer(token))  # from the cache


async def test_an_expired_token_with_a_bad_signature_is_not_called_expired(
    world: World, tokens: Tokens
) -> None:
    token = world.token({"exp": int(NOW) - 3600}, key=world.other)
    await refused("C", tokens, bearer(token))


# --- times ---


async def test_expiry_has_five_seconds_of_grace_cached_or_not(world: World) -> None:
    token = bearer(world.token({"exp": int(NOW)}))
    for tokens in (Tokens(world.keyring), Tokens(world.keyring, cache_size=0)):
        await ask(tokens, token, now=NOW)
        await ask(tokens, token, now=NOW + 4.9)
        await refused("expired", tokens, token, now=NOW + 5)
        await ask(tokens, token, now=NOW + 4.9)
    await refused("expired", Tokens(world.keyring, skew=0.0), token, now=NOW)


@pytest.mark.parametrize(
    ("exp", "row"),
    [
        ("1e10", ""),
        ("9999999999", ""),
        (str(NOW + 0.5), ""),
        ("1.9e9", ""),
        ("0", "expired"),
        ("-1", "expired"),
        ("-1.5", "expired"),
        ("253402300799", ""),
        ("253402300800", "C"),
        (str(int(NOW * 1000)), "C"),  # milliseconds
        ("1e300", "C"),
        ("-1e300", "C"),
        ("9" * 400, "C"),
        ("-" + "9" * 400, "C"),
        ("1e400", "B"),  # a JSON number that does not fit into a double
        ("9" * 5000, "B"),
        ('"1999999999"', "C"),
        ("true", "C"),
        ("null", "C"),
        ("[1999999999]", "C"),
        ("{}", "C"),
    ],
)
async def test_an_expiry_of_any_shape_is_handled(
    world: World, tokens: Tokens, exp: str, row: str
) -> None:
    payload = json.dumps({"iss": ISSUER, "sub": "a"})[:-1] + f', "exp": {exp}}}'
    token = bearer(sign({"alg": "RS256"}, payload.encode(), world.key))
    for _ in range(2):
        if row:
            await refused(row, tokens, token)
        else:
            assert (await ask(tokens, token)).expires_at == float(exp)


async def test_row_c_no_expiry(world: World, tokens: Tokens) -> None:
    await refused("C", tokens, bearer(world.token(drop="exp")))


@pytest.mark.parametrize("iat", [None, 0, -1, 1e300, "yesterday", {}, int(NOW * 1000)])
async def test_the_time_of_issue_is_not_checked(world: World, tokens: Tokens, iat: object) -> None:
    await ask(tokens, bearer(world.token({"iat": iat})))
    await ask(tokens, bearer(world.token(drop="iat")))


@pytest.mark.parametrize("nbf", [int(NOW) + 6, NOW + 5.5, 1e300, "soon", True, [], -1e300])
async def test_row_c_a_token_that_is_not_valid_yet(
    world: World, tokens: Tokens, nbf: object
) -> None:
    await refused("C", tokens, bearer(world.token({"nbf": nbf})))


@pytest.mark.parametrize("nbf", [int(NOW) + 5, NOW, 0, -1, None])
async def test_a_start_time_that_has_come_is_fine(
    world: World, tokens: Tokens, nbf: object
) -> None:
    await ask(tokens, bearer(world.token({"nbf": nbf})))


async def test_a_token_that_came_too_early_is_taken_later(world: World, tokens: Tokens) -> None:
    token = bearer(world.token({"nbf": int(NOW) + 60}))
    await refused("C", tokens, token)
    await ask(tokens, token, now=NOW + 60)


# --- scopes ---

PETS = ("write:pets", "read:pets")


@pytest.mark.parametrize("scope", ["write:pets", "read:pets", "write:pets read:pets"])
async def test_j9_j10_j12_one_common_scope_is_enough(
    world: World, tokens: Tokens, scope: str
) -> None:
    caller = await ask(tokens, bearer(world.token({"scope": scope})), scopes=PETS)
    assert caller.scopes == frozenset(scope.split())


@pytest.mark.parametrize(
    "scope", [None, "", " ", "foo bar", "WRITE:PETS", "write:pets,read:pets", "write", 5, {}, True]
)
async def test_j8_j11_row_h_no_common_scope(world: World, tokens: Tokens, scope: object) -> None:
    await refused("H", tokens, bearer(world.token({"scope": scope})), scopes=PETS)


async def test_j8_row_h_no_scope_claim(world: World, tokens: Tokens) -> None:
    token = bearer(world.token())
    await refused("H", tokens, token, scopes=PETS)
    await ask(tokens, token, scopes=("default",))
    await ask(tokens, token, scopes=())


@pytest.mark.parametrize(
    "scope", [[], ["write:other"], ["foo", "bar"], [5, None, ["write:scopes"]]]
)
async def test_j13_row_h_wrong_scopes_as_an_array(
    world: World, tokens: Tokens, scope: list[object]
) -> None:
    token = bearer(world.token({"scope": scope}))
    await refused("H", tokens, token, scopes=("write:scopes", "read:scopes"))


@pytest.mark.parametrize(
    "scope", [["write:scopes"], ["read:scopes"], ["write:scopes", "read:scopes"]]
)
async def test_j14_right_scopes_as_an_array(world: World, tokens: Tokens, scope: list[str]) -> None:
    token = bearer(world.token({"scope": scope}))
    await ask(tokens, token, scopes=("write:scopes", "read:scopes"))


async def test_scopes_are_checked_on_every_call_cached_or_not(world: World, tokens: Tokens) -> None:
    token = bearer(world.token({"scope": "a"}))
    await ask(tokens, token, scopes=("a",))
    await refused("H", tokens, token, scopes=("b",))
    await ask(tokens, token, scopes=("b", "a"))


# --- claims ---


async def test_identity_claims(world: World, tokens: Tokens) -> None:
    async def caller(claims: dict[str, Any], drop: str = "") -> Caller:
        return await ask(tokens, bearer(world.token(claims, drop=drop)))

    assert (await caller({"consumerKey": "k", "azp": "z"})).consumer_key == "k"
    assert (await caller({"azp": "z"})).consumer_key == "z"
    assert (await caller({"azp": ["z"]})).consumer_key == ""
    assert (await caller({"sub": 5})).subject == ""
    assert (await caller({}, drop="sub")).subject == ""
    unnamed = world.token(drop="jti")
    digest = hashlib.sha256(unnamed).hexdigest()
    assert (await ask(tokens, bearer(unnamed))).token_id == digest
    other = world.token(
        {"iss": OTHER, "client_id": "c", "azp": "z"}, header={"kid": "1"}, key=world.other
    )
    named = await ask(tokens, bearer(other))
    assert (named.consumer_key, named.issuer_name, named.application.name) == (
        "c",
        OTHER,
        f"anon:{OTHER}",
    )


@pytest.mark.parametrize(
    ("claim", "key_type"),
    [
        ("PRODUCTION", "PRODUCTION"),
        ("production", "PRODUCTION"),
        ("Sandbox", "SANDBOX"),
        ("", "PRODUCTION"),
        (None, "PRODUCTION"),
        ("other", "OTHER"),
        (5, "5"),
    ],
)
async def test_the_key_type_is_read_in_any_case(
    world: World, tokens: Tokens, claim: object, key_type: str
) -> None:
    caller = await ask(tokens, bearer(world.token({"keytype": claim})))
    assert caller.key_type == key_type


@pytest.mark.parametrize(
    ("key_type", "anonymous", "production", "sandbox", "expected"),
    [
        ("PRODUCTION", False, True, False, "production"),
        ("PRODUCTION", False, True, True, "production"),
        ("SANDBOX", False, True, True, "sandbox"),
        ("SANDBOX", False, False, True, "sandbox"),
        ("PRODUCTION", True, True, True, "production"),
        ("PRODUCTION", True, False, True, "sandbox"),
    ],
)
def test_the_key_type_chooses_the_backend(
    key_type: str, anonymous: bool, production: bool, sandbox: bool, expected: str
) -> None:
    caller = Caller("a", key_type=key_type, scheme="none" if anonymous else "oauth2")
    assert check_key_type(caller, production, sandbox) == expected


@pytest.mark.parametrize(
    ("key_type", "production", "sandbox", "text"),
    [
        ("PRODUCTION", False, True, "Production key offered to an API with no production endpoint"),
        ("SANDBOX", True, False, "Sandbox key offered to an API with no sandbox endpoint"),
        ("OTHER", True, True, "Invalid key type."),
    ],
)
def test_row_k_a_key_for_the_wrong_environment(
    key_type: str, production: bool, sandbox: bool, text: str
) -> None:
    with pytest.raises(Refusal) as caught:
        check_key_type(Caller("a", key_type=key_type), production, sandbox)
    refusal = caught.value
    assert (refusal.status, refusal.code) == (401, "900901")
    assert (
        refusal.body
        == (
            '{"error_message":"Invalid Credentials","code":"900901",'
            f'"error_description":"{text}. {HINT}"}}'
        ).encode()
    )
    assert refusal.headers[1] == (b"www-authenticate", CHALLENGE)


# --- attacks ---


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", " RS256", "RS256 ", "rs256"])
async def test_unsigned_tokens_are_never_taken(world: World, tokens: Tokens, alg: str) -> None:
    claims = json.dumps({"iss": ISSUER, "sub": "root", "exp": int(NOW) + 60}).encode()
    unsigned = part(json.dumps({"alg": alg}).encode()) + b"." + part(claims) + b"."
    await refused("A", tokens, bearer(unsigned))
    for signature in (b"AA", world.valid.split(b".")[2]):
        await refused("C", tokens, bearer(unsigned + signature))


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
async def test_the_public_key_is_never_a_shared_secret(
    world: World, tokens: Tokens, alg: str
) -> None:
    public = world.key.public_key()
    secrets = [
        world.certificate,
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    ]
    header = part(json.dumps({"alg": alg}).encode())
    for issuer in (ISSUER, CURVES):
        claims = part(json.dumps({"iss": issuer, "exp": int(NOW) + 60}).encode())
        for shared in secrets:
            signed = header + b"." + claims
            signature = part(hmac.digest(shared, signed, alg.replace("HS", "sha")))
            await refused("C", tokens, bearer(signed + b"." + signature))


async def test_algorithms_outside_the_issuers_list_are_refused(
    world: World, tokens: Tokens
) -> None:
    for alg in ("RS384", "RS512", "PS256"):
        await refused("C", tokens, bearer(world.token(header={"alg": alg})))


async def test_a_key_of_one_kind_is_not_used_for_another(world: World, tokens: Tokens) -> None:
    token = world.token({"iss": CURVES}, header={"alg": "ES256", "kid": "p384"}, key=world.p384)
    await refused("C", tokens, bearer(token))
    token = world.token({"iss": CURVES}, header={"alg": "RS256", "kid": "p256"})
    await refused("C", tokens, bearer(token))


async def test_the_key_of_one_issuer_does_not_sign_for_another(
    world: World, tokens: Tokens
) -> None:
    await refused("C", tokens, bearer(world.token({"iss": ISSUER}, key=world.other)))
    await refused("C", tokens, bearer(world.token({"iss": OTHER}, header={"kid": "1"})))
    await refused("C", tokens, bearer(world.token({"iss": OTHER})))


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../etc/passwd",
        "/dev/null",
        "1' OR '1'='1",
        "1\0",
        "1\r\nx: y",
        "\u202e1",
        "",
        "1 ",
    ],
)
async def test_a_key_id_is_only_ever_compared(world: World, tokens: Tokens, kid: str) -> None:
    token = world.token({"iss": OTHER}, header={"kid": kid}, key=world.other)
    await refused("E", tokens, bearer(token))
    # With a certificate it is ignored.
    await ask(tokens, bearer(world.token(header={"kid": kid})))


async def test_keys_that_a_token_brings_along_are_ignored(world: World, tokens: Tokens) -> None:
    attacker = rsa.generate_private_key(65537, 2048)
    brought = {
        "jwk": RSAAlgorithm.to_jwk(attacker.public_key(), as_dict=True),
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "x5c": [base64.b64encode(world.certificate).decode()],
    }
    await refused("C", tokens, bearer(world.token(header=brought, key=attacker)))
    await ask(tokens, bearer(world.token(header=brought)))


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], None, "b64"])
async def test_critical_extensions_are_refused(world: World, tokens: Tokens, crit: object) -> None:
    await refused("C", tokens, bearer(world.token(header={"crit": crit, "b64": False})))


async def test_of_duplicate_names_the_last_counts_everywhere(world: World, tokens: Tokens) -> None:
    exp = int(NOW) + 60
    payload = f'{{"iss":"evil","iss":"{ISSUER}","sub":"a","sub":"b","exp":1,"exp":{exp}}}'
    token = sign({"alg": "RS256"}, payload.encode(), world.key)
    caller = await ask(tokens, bearer(token))
    assert (caller.subject, caller.claims()["sub"], caller.expires_at) == ("b", "b", exp)
    twice = b'{"alg":"RS256","alg":"none"}'
    await refused("C", tokens, bearer(sign(twice, payload.encode(), world.key)))


async def test_a_changed_token_does_not_profit_from_a_cached_one(
    world: World, tokens: Tokens
) -> None:
    await ask(tokens, bearer(world.valid))
    header, payload, signature = world.valid.split(b".")
    claims = json.loads(base64.urlsafe_b64decode(payload + b"=="))
    forged = part(json.dumps({**claims, "sub": "root"}).encode())  # the same jti
    await refused("C", tokens, bearer(b".".join([header, forged, signature])))
    await refused("C", tokens, bearer(b".".join([header, payload, signature[:-4]])))
    assert (await ask(tokens, bearer(world.valid))).subject == "admin"


async def test_a_token_has_one_spelling_only(world: World, tokens: Tokens) -> None:
    """Unused bits at the end of a part must not give one token several spellings."""
    header, payload, signature = world.valid.split(b".")
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(signature) % 4 == 2  # 256 bytes leave four unused bits
    other = signature[:-1] + letters[letters.index(signature[-1]) + 1 :][:1]
    await refused("C", tokens, bearer(b".".join([header, payload, other])))


async def test_deep_and_wide_payloads_are_refused_or_taken_without_harm(
    world: World, tokens: Tokens
) -> None:
    deep = b'{"iss":"' + ISSUER.encode() + b'","exp":2000000000,"x":' + b"[" * 3000 + b"]" * 3000
    await refused("B", tokens, bearer(sign({"alg": "RS256"}, deep + b"}", world.key)))
    wide = {f"claim{number}": number for number in range(500)}
    await ask(tokens, bearer(world.token(wide)))


@given(st.binary(max_size=300))
@settings(max_examples=examples(300), deadline=None)
def test_no_bytes_raise_anything_but_the_two_errors(data: bytes) -> None:
    for token in (data, part(b'{"alg":"RS256"}') + b"." + part(data) + b".AA"):
        try:
            parse(token)
        except (UndecodableError, UnacceptableError) as error:
            said = str(error)
        else:
            said = ""
        assert len(said) < 80  # the gateway's own words, nothing from the token


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    claims=st.dictionaries(
        st.sampled_from(["sub", "nbf", "exp", "scope", "keytype", "jti", "azp", "iat", "aud"]), JSON
    )
)
@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_signed_claims_of_any_shape_give_a_caller_or_a_refusal(
    world: World, claims: dict[str, Any]
) -> None:
    tokens = Tokens(world.keyring)
    coroutine = ask(tokens, bearer(world.token(claims)), scopes=("s", "default"))
    try:
        coroutine.send(None)
    except StopIteration as done:
        caller = done.value
        assert isinstance(caller.subject, str)
        assert caller.key_type == caller.key_type.upper()
        repr(caller).encode()
    except Refusal as refusal:
        json.loads(refusal.body)
    else:
        pytest.fail("a token whose key is known must not wait")


# --- the cache ---


async def test_a_cached_token_is_not_verified_again(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await ask(tokens, bearer(world.valid))
    monkeypatch.setattr(world.keyring, "find", lambda *_: pytest.fail("verified again"))
    assert await ask(tokens, bearer(world.valid)) is first


async def test_new_keys_make_every_token_be_verified_again(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await ask(tokens, bearer(world.valid))
    monkeypatch.setattr(world.keyring, "generation", world.keyring.generation + 1)
    second = await ask(tokens, bearer(world.valid))
    assert second == first
    assert second is not first


async def test_the_cache_forgets_what_was_not_used_for_longest(world: World) -> None:
    tokens = Tokens(world.keyring, cache_size=2)
    one, two, three = (bearer(world.token({"sub": name})) for name in "123")
    first, second = await ask(tokens, one), await ask(tokens, two)
    assert await ask(tokens, one) is first
    await ask(tokens, three)
    assert await ask(tokens, one) is first
    assert await ask(tokens, two) is not second


async def test_without_a_cache_every_token_is_verified(world: World) -> None:
    tokens = Tokens(world.keyring, cache_size=0)
    first = await ask(tokens, bearer(world.valid))
    assert await ask(tokens, bearer(world.valid)) is not first


async def test_refused_tokens_are_not_remembered(world: World, tokens: Tokens) -> None:
    for number in range(20):
        await refused("C", tokens, bearer(world.token({"n": number}, key=world.other)))
    assert not tokens._verified


async def test_neither_cache_nor_repr_holds_a_token(world: World, tokens: Tokens) -> None:
    token = world.token({"sub": "alice", "secret": "claim-text"}, drop="jti")
    caller = await ask(tokens, bearer(token))
    held = repr([(key, *entry) for key, entry in tokens._verified.items()])
    fields = [getattr(caller, name) for name in caller.__struct_fields__]
    for piece in token.decode().split("."):
        assert piece not in held
        assert not any(piece in str(field) for field in fields)
    assert repr(caller) == "Caller(subject='alice', issuer_name='Resident')"
    assert "<hidden>" in repr(parse(token))
