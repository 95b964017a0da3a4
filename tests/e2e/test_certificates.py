"""Certificates that change while the gateway runs, and certificates by host name."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization

from support import projects
from support.backends import start_echo
from support.gateway import start_gateway
from support.logged import Logged, logged
from support.tls import (
    chain_of,
    client_context,
    der_of,
    install,
    leaf,
    replace,
    shown,
    tls_to,
    wait_shown,
)
from trio_gw.app import worker
from trio_gw.errors import UnusableError
from trio_gw.watch.files import keep_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.gateway import RunningGateway


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Complain of a fault at once, not only when its other half had time to come."""
    monkeypatch.setattr(worker, "keep_loaded", partial(keep_loaded, grace=0.3))


@pytest.fixture
def said() -> Iterator[Logged]:
    with logged("trio_gw.files") as handler:
        yield handler


@pytest.fixture
def first(ca: trustme.CA, tmp_path: Path) -> trustme.LeafCert:
    """Install the certificate that the gateway starts with."""
    cert = leaf(ca)
    install(cert, tmp_path / "certs")
    return cert


async def started(nursery: trio.Nursery, base: Path, **settings: Any) -> RunningGateway:
    return await start_gateway(nursery, base, **settings)


async def test_new_connections_get_a_new_certificate_and_open_ones_stay(
    nursery: trio.Nursery, tmp_path: Path, ca: trustme.CA, first: trustme.LeafCert
) -> None:
    backend = await start_echo(nursery)
    projects.write(
        tmp_path / "apis",
        "Echo",
        projects.api("Echo", "/echo", backend.url),
        projects.asyncapi({"/a": {"publish": {}}}),
    )
    gateway = await started(nursery, tmp_path)
    old_token = gateway.token()
    context = client_context(ca)
    async with gateway.connect("/echo/1.0.0/a", old_token, tls=True, ssl=context) as held:
        await held.send("before")
        assert await held.recv() == "before"
        second = leaf(ca)
        install(second, tmp_path / "certs")
        await wait_shown(gateway.tls_port, second)
        await held.send("after")
        assert await held.recv() == "after"
        # Test keys are signed with the new key, and the old one is trusted no more.
        async with gateway.connect(
            "/echo/1.0.0/a", gateway.token(), tls=True, ssl=context
        ) as fresh:
            await fresh.send("new")
            assert await fresh.recv() == "new"
    async with tls_to(gateway.tls_port, context) as stream:
        await stream.send_all(gateway.handshake("/echo/1.0.0/a", old_token))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 401 ")
    assert der_of(first) != der_of(second)
    nursery.cancel_scope.cancel()


async def test_no_connection_is_refused_while_certificates_change_under_load(
    nursery: trio.Nursery, tmp_path: Path, ca: trustme.CA, first: trustme.LeafCert
) -> None:
    gateway = await started(nursery, tmp_path)
    context = client_context(ca)
    served = 0

    async def knock() -> None:
        nonlocal served
        while True:
            async with tls_to(gateway.tls_port, context) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            served += 1

    async with trio.open_nursery() as clients:
        for _ in range(4):
            clients.start_soon(knock)
        for _ in range(4):
            second = leaf(ca)
            before = served
            install(second, tmp_path / "certs")
            await wait_shown(gateway.tls_port, second)
            assert served > before
        clients.cancel_scope.cancel()
    nursery.cancel_scope.cancel()


def encrypted(cert: trustme.LeafCert) -> bytes:
    key = serialization.load_pem_private_key(cert.private_key_pem.bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("half", "the private key does not belong to the certificate"),
        ("expired", "mg.pem: the certificate expired on"),
        ("future", "mg.pem: the certificate is not valid before"),
        ("no pem", "mg.pem: no certificate: the file is not PEM"),
        ("cut", "mg.pem: the certificate is damaged or of an unknown kind"),
        ("empty", "mg.key: no private key: the file is not PEM"),
        ("encrypted", "mg.key: the private key is encrypted"),
        ("gone", "mg.key: the private key cannot be read: No such file or directory"),
        ("folder", "mg.key: the private key cannot be read: Is a directory"),
        ("other kind", "the certificate's key fits none of the algorithms of issuer MGW"),
        ("huge", "mg.pem: the certificate is larger than 1 MiB"),
    ],
)
async def test_what_cannot_be_used_leaves_the_old_one_until_it_is_fixed(
    nursery: trio.Nursery,
    tmp_path: Path,
    ca: trustme.CA,
    first: trustme.LeafCert,
    said: Logged,
    fault: str,
    text: str,
) -> None:
    certs = tmp_path / "certs"
    gateway = await started(nursery, tmp_path)
    other = leaf(ca)
    match fault:
        case "half":
            replace(certs / "mg.pem", chain_of(other))
        case "expired":
            install(leaf(ca, days=-1), certs)
        case "future":
            install(leaf(ca, days=90), certs)
        case "no pem":
            replace(certs / "mg.pem", b"hello")
        case "cut":
            replace(certs / "mg.pem", chain_of(other)[:300])
        case "empty":
            replace(certs / "mg.key", b"")
        case "encrypted":
            replace(certs / "mg.pem", chain_of(other))
            replace(certs / "mg.key", encrypted(other))
        case "gone":
            (certs / "mg.key").unlink()
        case "folder":
            (certs / "mg.key").unlink()
            (certs / "mg.key").mkdir()
        case "other kind":
            install(ca.issue_cert("localhost"), certs)
        case "huge":
            replace(certs / "mg.pem", chain_of(other) + b"#" * (1 << 20))
    error = await said.wait(text)
    assert error.startswith(str(certs))
    assert error.endswith("; the content loaded before stays in use")
    assert await shown(gateway.tls_port) == der_of(first)
    if fault == "folder":
        (certs / "mg.key").rmdir()
    install(other, certs)
    await wait_shown(gateway.tls_port, other)
    await said.wait(f"certificate {certs / 'mg.pem'}: loaded again")
    assert len([one for one in said.texts() if text in one]) == 1
    nursery.cancel_scope.cancel()


async def test_a_swapped_link_as_kubernetes_mounts_secrets(
    nursery: trio.Nursery, tmp_path: Path, ca: trustme.CA
) -> None:
    mount = tmp_path / "certs"
    one, two = leaf(ca), leaf(ca)
    install(one, mount / "..1")
    install(two, mount / "..2")
    (mount / "..data").symlink_to("..1")
    for name in ("mg.pem", "mg.key"):
        (mount / name).symlink_to(f"..data/{name}")
    gateway = await started(nursery, tmp_path)
    assert await shown(gateway.tls_port) == der_of(one)
    (mount / "..new").symlink_to("..2")
    (mount / "..new").replace(mount / "..data")
    await wait_shown(gateway.tls_port, two)
    nursery.cancel_scope.cancel()


# --- by host name ---


async def test_the_host_name_chooses_the_certificate(
    nursery: trio.Nursery, tmp_path: Path, ca: trustme.CA, first: trustme.LeafCert
) -> None:
    certs = tmp_path / "certs"
    wild = ca.issue_cert("*.example.com", "example.org")
    exact = ca.issue_cert("ws.example.com")
    given = ca.issue_cert("unused.example.net")
    for name, cert in (("wild", wild), ("exact", exact), ("given", given)):
        install(cert, certs, name)
    entries = [
        {"cert": f"certs/{name}.pem", "key": f"certs/{name}.key"} for name in ("wild", "exact")
    ]
    entries.append(
        {"cert": "certs/given.pem", "key": "certs/given.key", "hosts": ["Api.example.net"]}  # type: ignore[dict-item]
    )
    gateway = await started(nursery, tmp_path, tls={"certificates": entries})
    cases: list[tuple[str | None, trustme.LeafCert]] = [
        ("a.example.com", wild),
        ("A.EXAMPLE.COM", wild),
        ("example.org", wild),
        ("ws.example.com", exact),
        ("api.example.net", given),
        ("unused.example.net", first),
        ("a.b.example.com", first),
        ("example.com", first),
        ("localhost", first),
        ("elsewhere", first),
        (None, first),
    ]
    for host, expected in cases:
        assert await shown(gateway.tls_port, host) == der_of(expected), host
    changed = ca.issue_cert("ws.example.com", "new.example.com")
    install(changed, certs, "exact")
    await wait_shown(gateway.tls_port, changed, "new.example.com")
    assert await shown(gateway.tls_port, "a.example.com") == der_of(wild)
    assert await shown(gateway.tls_port) == der_of(first)
    nursery.cancel_scope.cancel()


async def test_a_certificate_that_no_host_name_chooses_is_refused_at_start(
    nursery: trio.Nursery, tmp_path: Path, ca: trustme.CA, first: trustme.LeafCert
) -> None:
    install(ca.issue_cert("127.0.0.1"), tmp_path / "certs", "more")
    entry = {"cert": "certs/more.pem", "key": "certs/more.key"}
    with pytest.raises(UnusableError, match=r"more\.pem: the certificate names no DNS host"):
        await start_gateway(nursery, tmp_path, tls={"certificates": [entry]})


# --- hardening ---


async def test_only_modern_tls_is_spoken(
    nursery: trio.Nursery, tmp_path: Path, ca: trustme.CA, first: trustme.LeafCert
) -> None:
    gateway = await started(nursery, tmp_path)
    context = client_context(ca, version=ssl.TLSVersion.TLSv1_2)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with tls_to(gateway.tls_port, context) as stream:
        assert stream.selected_alpn_protocol() == "http/1.1"
        assert stream.compression() is None
        name, _, _ = stream.cipher()
        assert name.startswith("ECDHE-RSA-")
    for ciphers in ("ECDHE+AES256:!AESGCM:!AESCCM", "AES256-GCM-SHA384", "DHE+AESGCM"):
        context = client_context(ca, version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(ciphers)
        with pytest.raises(trio.BrokenResourceError):
            async with tls_to(gateway.tls_port, context):
                pass
    nursery.cancel_scope.cancel()


# --- issuers and backends ---


async def test_trust_in_backends_is_loaded_again(
    nursery: trio.Nursery, tmp_path: Path, ca: trustme.CA, first: trustme.LeafCert, said: Logged
) -> None:
    theirs = trustme.CA()
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.issue_cert("localhost", "127.0.0.1").configure_cert(secure)
    backend = await start_echo(nursery, ssl=secure)
    projects.write(
        tmp_path / "apis",
        "Echo",
        projects.api("Echo", "/echo", f"wss://127.0.0.1:{backend.port}"),
        projects.asyncapi({"/a": {"publish": {"x-auth-type": "None"}}}),
    )
    anchors = tmp_path / "anchors"
    replace(anchors / "a.pem", ca.cert_pem.bytes())
    gateway = await started(nursery, tmp_path, tls={"backend_ca": "anchors"})
    refused = await gateway.ask(gateway.handshake("/echo/1.0.0/a"))
    assert (refused.status, refused.json()["code"]) == (503, "102503")
    replace(anchors / "b.crt", b"broken")
    await said.wait("b.crt: tls.backend_ca: it is not in PEM format")
    replace(anchors / "b.crt", theirs.cert_pem.bytes())
    await said.wait(f"backend trust {anchors}: loaded again")
    async with gateway.connect("/echo/1.0.0/a") as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    nursery.cancel_scope.cancel()
