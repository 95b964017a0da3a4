"""Certificates and private keys: read from PEM files, or created if there are none.

Called by `tls` and `keys`, at start and when files change, and by the commands that make tokens.
Everything here blocks. For a file that cannot be used, UnusableError names the file and a hint.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
import os
import secrets
from typing import TYPE_CHECKING, NoReturn

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trio_gw.config import regular
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)
PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

MAX_BYTES = 1 << 20  # size of a certificate chain or key; far more than real ones have
MIN_RSA_BITS = 2048  # NIST SP 800-131A; RFC 7518 §3.3 asks for the same
# The maximum that Apple's systems accept, even for a certificate that the user trusts.
_LIFETIME = datetime.timedelta(days=825)
# Clients with a slow clock must not reject it as "not yet valid".
_BACKDATED = datetime.timedelta(hours=1)
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    private_key: PrivateKey


def algorithms_for(key: object) -> frozenset[str]:
    """Return the JWS algorithms this public key can verify (RFC 7518 §3.1, RFC 8037 §3.1).

    Empty for other types of keys and for RSA keys that are too short.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_ALGORITHMS if key.key_size >= MIN_RSA_BITS else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = _CURVE_ALGORITHMS.get(key.curve.name)
        return frozenset({name} if name else ())
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()


def load_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file; in a chain, that of the server.

    Raises UnusableError if there is none, or if its key is too weak or of an unknown kind.
    """
    return parse_certificate(path, read(path, "the certificate"))


def parse_certificate(path: Path, data: bytes) -> x509.Certificate:
    """Parse a certificate in PEM; the path is for messages. See `load_certificate`."""
    try:
        certificate = x509.load_pem_x509_certificate(data)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        _fail(path, *_not_pem(data, b"CERTIFICATE", "certificate"))
    _check_strength(path, key)
    return certificate


def load_private_key(path: Path) -> PrivateKey:
    """Read an unencrypted private key (PEM: PKCS#8, PKCS#1 or SEC 1).

    Raises UnusableError if there is none, or if it is encrypted, too weak or of another kind.
    """
    return _private_key(path, read(path, "the private key"))


def _private_key(path: Path, data: bytes) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        _fail(path, "the private key is encrypted", "store it without a passphrase, mode 0600")
    except (ValueError, UnsupportedAlgorithm):
        _fail(path, *_not_pem(data, b"PRIVATE KEY", "private key"))
    _check_strength(path, key.public_key())
    assert isinstance(key, PrivateKey)
    return key


def load_pair(cert: Path, key: Path) -> KeyPair:
    """Read a certificate and its private key. Raises UnusableError, also if they do not match."""
    return parse_pair(cert, read(cert, "the certificate"), key, read(key, "the private key"))


def parse_pair(cert: Path, chain: bytes, key: Path, data: bytes) -> KeyPair:
    """Parse a pair from the content of its files; the paths are for messages. See `load_pair`."""
    pair = KeyPair(parse_certificate(cert, chain), _private_key(key, data))
    if pair.certificate.public_key() != pair.private_key.public_key():
        _fail(
            key, f"the private key does not belong to the certificate {cert}", "replace one of them"
        )
    return pair


def expiry(path: Path, certificate: x509.Certificate, now: datetime.datetime) -> Problem | None:
    """Return a warning if the certificate is not valid at `now` (an aware datetime), else None."""
    if now > certificate.not_valid_after_utc:
        what = f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        hint = "replace it; if the gateway made it, remove it and its key, and start again"
        return Problem(str(path), 0, 0, what, hint, "warning")
    if now < certificate.not_valid_before_utc:
        what = f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        return Problem(str(path), 0, 0, what, "check this machine's clock", "warning")
    return None


def check_current(path: Path, certificate: x509.Certificate) -> None:
    """Raise UnusableError if a certificate that would replace another one is not valid now."""
    problem = expiry(path, certificate, datetime.datetime.now(datetime.UTC))
    if problem is not None:
        raise UnusableError([msgspec.structs.replace(problem, severity="error")])


def read(path: Path, what: str) -> bytes:
    """Read a file of the settings, up to 1 MiB. Raises UnusableError; `what` names it there."""
    try:
        data = regular.read(path, MAX_BYTES + 1)
    except OSError as error:
        _fail(path, f"{what} cannot be read: {error.strerror}", "check the path and its mode")
    if len(data) > MAX_BYTES:
        _fail(path, f"{what} is larger than 1 MiB", "check the path")
    return data


def ensure_certificate(cert: Path, key: Path, now: datetime.datetime) -> bool:
    """Create a self-signed certificate for this machine if neither file exists.

    Returns True if they were created. `now` is an aware datetime. Safe when several processes start
    at the same time: one creates the pair, the others find it. No process sees a half-written file,
    an existing file is never replaced, and only the owner can read the key.
    Raises UnusableError if only one of the two exists or they cannot be written.
    """
    if cert.exists() and key.exists():
        return False
    try:
        for folder in (cert.parent, key.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(key.parent):
            return _make_missing(cert, key, now)
    except OSError as error:
        _fail(
            key,
            f"a self-signed certificate could not be written: {error.strerror}",
            "let the gateway write there, or name your own files in [tls]",
        )


def _make_missing(cert: Path, key: Path, now: datetime.datetime) -> bool:
    present = [path for path in (cert, key) if path.exists()]
    if len(present) == 2:
        return False
    if present:
        missing, what = (key, "private key") if present == [cert] else (cert, "certificate")
        _fail(
            missing,
            f"the {what} is missing, while {present[0]} exists",
            f"put it there, or remove {present[0]} to have both created again",
        )
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS)
    pem = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _publish(key, pem, 0o600)
    certificate = _self_signed(private_key, now)
    try:
        _publish(cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError:
        key.unlink()  # created here; alone it would block the next start
        raise
    return True


def _self_signed(key: rsa.RSAPrivateKey, now: datetime.datetime) -> x509.Certificate:
    """Sign a server certificate that a client can trust directly, as with `curl --cacert`.

    It is not a CA: a client that trusts it trusts only this server. It has no keyUsage extension,
    because older OpenSSL does not accept a certificate as self-signed if keyUsage forbids signing
    certificates.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = now - _BACKDATED
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def _publish(path: Path, data: bytes, mode: int) -> None:
    """Write a temporary file, then link it to its name; fails if the name exists."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; it leaves no file and ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems have no locks. Linking without replacing keeps the files
        # consistent nevertheless.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _not_pem(data: bytes, label: bytes, what: str) -> tuple[str, str]:
    if b"-----BEGIN" not in data:
        return f"no {what}: the file is not PEM", "convert it, for example with openssl"
    if label not in data:
        return f"no {what} in this PEM file", f"name the file that holds the {what}"
    return f"the {what} is damaged or of an unknown kind", "create it again"


def _check_strength(path: Path, key: object) -> None:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        _fail(
            path,
            f"the RSA key has {key.key_size} bits, fewer than {MIN_RSA_BITS}",
            "make a longer key",
        )
    if not algorithms_for(key):
        _fail(path, "the key is of a kind that is not supported", "use RSA, P-256 or Ed25519")


def _fail(path: Path, what: str, hint: str) -> NoReturn:
    raise UnusableError([Problem(str(path), 0, 0, what, hint)]) from None
