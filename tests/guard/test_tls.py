"""The contexts of the TLS listener, tested from both ends of a handshake in memory."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from support.tls import chain_of, client_context, der_of, install, leaf, replace, subject_of
from trio_gw.config.settings import Certificate, Tls
from trio_gw.errors import UnusableError
from trio_gw.guard import tls as tls_module
from trio_gw.guard.tls import ServerTls, choose_host

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Tls(client_ca="clients.pem")


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def base(tmp_path: Path, ca: trustme.CA) -> Path:
    install(leaf(ca), tmp_path / "certs")
    return tmp_path


def shake(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Make a handshake in memory; returns both ends."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(down, up, server_hostname="localhost", session=session)
    far = server.wrap_bio(up, down, server_side=True)
    waiting = [near, far]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    far.write(b"x")
    assert near.read(1) == b"x"
    return near, far


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_who_vouches_for_a_client(
    base: Path, ca: trustme.CA, version: ssl.TLSVersion
) -> None:
    clients, others = trustme.CA(), trustme.CA()
    replace(base / "clients.pem", clients.cert_pem.bytes())
    server = ServerTls(SETTINGS, base)
    known, pinned = clients.issue_cert("a@example.com"), others.issue_cert("b@example.com")
    await server.pin([chain_of(pinned).decode(), others.cert_pem.bytes().decode()])
    for cert, by_ca in ((known, True), (pinned, False), (others.issue_cert("c@x.org"), False)):
        _, far = shake(client_context(ca, cert, version), server.context)
        peer = server.identify(far)
        assert peer is not None
        assert (peer.der, peer.subject, peer.by_ca) == (der_of(cert), subject_of(cert), by_ca)
    _, far = shake(client_context(ca, None, version), server.context)
    assert server.identify(far) is None


async def test_a_session_that_is_taken_up_again_keeps_its_verdict(
    base: Path, ca: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = trustme.CA()
    replace(base / "clients.pem", clients.cert_pem.bytes())
    server = ServerTls(SETTINGS, base)
    cert = clients.issue_cert("a@example.com")
    client = client_context(ca, cert, ssl.TLSVersion.TLSv1_2)
    near, far = shake(client, server.context)
    first = server.identify(far)
    again, resumed = shake(client, server.context, near.session)
    assert again.session_reused
    assert server.identify(resumed) == first
    assert first is not None
    assert first.by_ca
    # A certificate is accepted only if an earlier full handshake has shown it.
    server._remembered.clear()
    unknown = server.identify(resumed)
    assert unknown is not None
    assert not unknown.by_ca
    # Sessions expire.
    monkeypatch.setattr(tls_module, "MAX_REMEMBERED", 3)
    for index in range(10):
        peer = clients.issue_cert(f"{index}@example.com")
        _, far = shake(client_context(ca, peer), server.context)
        server.identify(far)
        assert len(server._remembered) <= 3


async def test_no_session_outlives_a_change_of_trust(base: Path, ca: trustme.CA) -> None:
    clients, others = trustme.CA(), trustme.CA()
    replace(base / "clients.pem", clients.cert_pem.bytes())
    server = ServerTls(SETTINGS, base)
    client = client_context(ca, clients.issue_cert("a@example.com"), ssl.TLSVersion.TLSv1_2)
    near, _ = shake(client, server.context)
    trust = server.files()[-1]
    replace(base / "clients.pem", others.cert_pem.bytes())
    assert await trust.use(trust.load())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client, server.context, near.session)


async def test_a_trusted_client_survives_a_broken_certificate(base: Path, ca: trustme.CA) -> None:
    """The context is rebuilt from the certificate read before, not from the broken file."""
    clients = trustme.CA()
    server = ServerTls(Tls(), base)
    (base / "certs" / "mg.key").write_text("broken")
    cert = clients.issue_cert("a@example.com")
    await server.pin([chain_of(cert).decode()])
    _, far = shake(client_context(ca, cert), server.context)
    peer = server.identify(far)
    assert peer is not None
    assert not server.has_client_ca


def test_every_fault_is_told_at_once(base: Path) -> None:
    replace(base / "certs" / "mg.key", b"broken")
    replace(base / "clients.pem", b"broken")
    settings = Tls(client_ca="clients.pem", certificates=(Certificate("a.pem", "a.key"),))
    with pytest.raises(UnusableError) as caught:
        ServerTls(settings, base)
    assert [problem.file.rpartition("/")[2] for problem in caught.value.problems] == [
        "mg.key",
        "a.pem",
        "clients.pem",
    ]


def test_no_key_is_in_a_repr(base: Path) -> None:
    shown = tls_module.read_shown(base / "certs" / "mg.pem", base / "certs" / "mg.key")
    assert repr(shown) == "Shown(hosts=('localhost',))"


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("a.example.com", "exact"),
        ("A.Example.COM.", "exact"),
        ("b.example.com", "wild"),
        ("b.a.example.com", None),
        ("example.com", None),
        (".example.com", None),
        ("", None),
        ("localhost", None),
        ("*.example.com", "wild"),
    ],
)
def test_a_wildcard_stands_for_one_label(name: str, chosen: str | None) -> None:
    contexts = {kind: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for kind in ("exact", "wild")}
    hosts = {"a.example.com": contexts["exact"], "*.example.com": contexts["wild"]}
    assert choose_host(hosts, name) is (contexts[chosen] if chosen else None)
