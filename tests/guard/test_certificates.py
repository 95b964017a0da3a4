"""Certificates: created once even if many processes start together; and problems."""

from __future__ import annotations

import datetime
import fcntl
import multiprocessing
import os
import shutil
import socket
import ssl
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trio_gw.errors import Problem, UnusableError
from trio_gw.guard import certificates
from trio_gw.guard.certificates import (
    PrivateKey,
    algorithms_for,
    ensure_certificate,
    expiry,
    load_certificate,
    load_pair,
    load_private_key,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "certs"
    assert ensure_certificate(folder / "mg.pem", folder / "mg.key", NOW)
    return folder


def problem_of(call: object, *arguments: object) -> Problem:
    assert callable(call)
    with pytest.raises(UnusableError) as caught:
        call(*arguments)
    (problem,) = caught.value.problems
    assert problem.hint
    return problem


# --- creating a pair ---


def test_the_certificate_is_for_this_machine_and_no_authority(made: Path) -> None:
    certificate = load_certificate(made / "mg.pem")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert certificate.subject.rfc4514_string() == "CN=localhost"
    assert certificate.issuer == certificate.subject
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert not basic.value.ca
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life == datetime.timedelta(days=825)
    assert certificate.not_valid_before_utc < NOW
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048


def test_only_the_owner_can_read_the_key_and_nothing_else_is_left(made: Path) -> None:
    assert stat.S_IMODE((made / "mg.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert sorted(os.listdir(made)) == ["mg.key", "mg.pem"]


def test_a_lax_umask_changes_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ensure_certificate(tmp_path / "c/mg.pem", tmp_path / "c/mg.key", NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c/mg.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "c/mg.pem").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700


def test_what_exists_is_left_alone(made: Path) -> None:
    before = [(made / name).read_bytes() for name in ("mg.pem", "mg.key")]
    assert not ensure_certificate(made / "mg.pem", made / "mg.key", NOW)
    assert [(made / name).read_bytes() for name in ("mg.pem", "mg.key")] == before


def test_certificate_and_key_can_lie_in_two_folders(tmp_path: Path) -> None:
    cert, key = tmp_path / "public/gw.pem", tmp_path / "private/gw.key"
    assert ensure_certificate(cert, key, NOW)
    load_pair(cert, key)


@pytest.mark.parametrize(("lost", "what"), [("mg.key", "private key"), ("mg.pem", "certificate")])
def test_one_without_the_other_is_a_problem(
    made: Path, tmp_path: Path, lost: str, what: str
) -> None:
    for name in ("mg.pem", "mg.key"):
        if name != lost:
            shutil.copy(made / name, tmp_path)
    problem = problem_of(ensure_certificate, tmp_path / "mg.pem", tmp_path / "mg.key", NOW)
    assert problem.file == str(tmp_path / lost)
    assert problem.what.startswith(f"the {what} is missing")
    assert len(os.listdir(tmp_path)) == 1


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = problem_of(
        ensure_certificate, tmp_path / "file/mg.pem", tmp_path / "file/mg.key", NOW
    )
    assert "could not be written" in problem.what


def test_a_broken_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mg.pem").symlink_to(tmp_path / "elsewhere.pem")
    problem = problem_of(ensure_certificate, tmp_path / "mg.pem", tmp_path / "mg.key", NOW)
    assert "could not be written" in problem.what
    assert os.listdir(tmp_path) == ["mg.pem"]


def _make(folder: Path, barrier: object, results: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        made = ensure_certificate(folder / "mg.pem", folder / "mg.key", NOW)
        load_pair(folder / "mg.pem", folder / "mg.key")
        results.put(str(made))  # type: ignore[attr-defined]
    except Exception as error:
        results.put(f"{type(error).__name__}: {error}")  # type: ignore[attr-defined]


def test_of_many_processes_that_start_together_one_makes_the_pair(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    count = 6
    barrier, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=_make, args=(tmp_path / "certs", barrier, results))
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    answers = sorted(results.get(timeout=60) for _ in range(count))
    for process in processes:
        process.join()
    assert answers == ["False"] * (count - 1) + ["True"]
    assert sorted(os.listdir(tmp_path / "certs")) == ["mg.key", "mg.pem"]


def test_without_locks_nothing_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes do not see each other's lock: the second must fail, not overwrite."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    cert, key = tmp_path / "mg.pem", tmp_path / "mg.key"
    original = certificates._self_signed

    def late(private: rsa.RSAPrivateKey, now: datetime.datetime) -> x509.Certificate:
        cert.write_text("the other one's")
        return original(private, now)

    monkeypatch.setattr(certificates, "_self_signed", late)
    assert "could not be written" in problem_of(ensure_certificate, cert, key, NOW).what
    assert cert.read_text() == "the other one's"
    assert os.listdir(tmp_path) == ["mg.pem"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_client_can_trust_it_directly(made: Path, host: str) -> None:
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(made / "mg.pem", made / "mg.key")
    client_tls = ssl.create_default_context(cafile=str(made / "mg.pem"))
    client_tls.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with server_tls.wrap_socket(theirs, server_side=True) as connection:
            connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with client_tls.wrap_socket(ours, server_hostname=host) as connection:
        assert connection.recv(5) == b"hello"
    thread.join()


# --- reading a pair ---


def self_signed(key: PrivateKey, folder: Path, name: str = "cert.pem") -> Path:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    path = folder / name
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def pem(key: PrivateKey | dsa.DSAPrivateKey, password: bytes = b"") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (ec.generate_private_key(ec.SECP256R1()), {"ES256"}),
        (ec.generate_private_key(ec.SECP384R1()), {"ES384"}),
        (ec.generate_private_key(ec.SECP521R1()), {"ES512"}),
        (ed25519.Ed25519PrivateKey.generate(), {"EdDSA"}),
    ],
)
def test_keys_other_than_rsa_are_read(
    tmp_path: Path, key: PrivateKey, algorithms: set[str]
) -> None:
    (tmp_path / "key").write_bytes(pem(key))
    pair = load_pair(self_signed(key, tmp_path), tmp_path / "key")
    assert algorithms_for(pair.certificate.public_key()) == algorithms


def test_keys_that_verify_nothing_we_know(tmp_path: Path) -> None:
    assert algorithms_for(ec.generate_private_key(ec.SECP256K1()).public_key()) == frozenset()
    assert algorithms_for("text") == frozenset()
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    assert algorithms_for(weak.public_key()) == frozenset()


def test_of_a_chain_the_first_certificate_counts(made: Path, tmp_path: Path) -> None:
    other = self_signed(ec.generate_private_key(ec.SECP256R1()), tmp_path, "other.pem")
    chain = tmp_path / "chain.pem"
    chain.write_bytes((made / "mg.pem").read_bytes() + other.read_bytes())
    assert load_certificate(chain) == load_certificate(made / "mg.pem")
    load_pair(chain, made / "mg.key")


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    for load in (load_certificate, load_private_key):
        problem = problem_of(load, tmp_path / "none")
        assert problem.file == str(tmp_path / "none")
        assert problem.what.endswith("cannot be read: No such file or directory")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x30\x82\x01\x0a"])
def test_what_is_not_pem_is_a_problem(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    for load in (load_certificate, load_private_key):
        assert "not PEM" in problem_of(load, tmp_path / "file").what


def test_the_wrong_pem_file_is_a_problem(made: Path) -> None:
    assert "no certificate in this PEM file" in problem_of(load_certificate, made / "mg.key").what
    assert "no private key in this PEM file" in problem_of(load_private_key, made / "mg.pem").what


def test_damaged_files_are_problems(made: Path, tmp_path: Path) -> None:
    for name, load in (("mg.pem", load_certificate), ("mg.key", load_private_key)):
        lines = (made / name).read_bytes().splitlines(keepends=True)
        (tmp_path / name).write_bytes(b"".join(lines[:5] + lines[8:]))
        assert "damaged" in problem_of(load, tmp_path / name).what


def test_an_encrypted_key_is_a_problem(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key").write_bytes(pem(key, b"secret"))
    assert "encrypted" in problem_of(load_private_key, tmp_path / "key").what


def test_weak_and_strange_keys_are_problems(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    (tmp_path / "weak.key").write_bytes(pem(weak))
    for load, path in (
        (load_private_key, tmp_path / "weak.key"),
        (load_certificate, self_signed(weak, tmp_path)),
    ):
        assert "has 1024 bits, fewer than 2048" in problem_of(load, path).what
    (tmp_path / "dsa.key").write_bytes(pem(dsa.generate_private_key(2048)))
    assert "not supported" in problem_of(load_private_key, tmp_path / "dsa.key").what
    curve = ec.generate_private_key(ec.SECP256K1())
    (tmp_path / "curve.key").write_bytes(pem(curve))
    assert "not supported" in problem_of(load_private_key, tmp_path / "curve.key").what


def test_a_key_of_another_certificate_is_a_problem(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other.key").write_bytes(pem(rsa.generate_private_key(65537, 2048)))
    problem = problem_of(load_pair, made / "mg.pem", tmp_path / "other.key")
    assert problem.file == str(tmp_path / "other.key")
    assert str(made / "mg.pem") in problem.what


def test_a_certificate_that_is_not_valid_now_is_a_warning(made: Path) -> None:
    certificate = load_certificate(made / "mg.pem")
    assert expiry(made / "mg.pem", certificate, NOW) is None
    late = expiry(made / "mg.pem", certificate, NOW + datetime.timedelta(days=826))
    assert late is not None
    assert late.severity == "warning"
    assert "expired on" in late.what
    early = expiry(made / "mg.pem", certificate, NOW - datetime.timedelta(days=1))
    assert early is not None
    assert "not valid before" in early.what


def test_no_problem_shows_key_material(made: Path, tmp_path: Path) -> None:
    secret = (made / "mg.key").read_text()
    (tmp_path / "cut.key").write_text(secret[:-200])
    text = str(problem_of(load_private_key, tmp_path / "cut.key"))
    assert not any(line in text for line in secret.splitlines()[1:-1])
