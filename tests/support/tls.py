"""Certificates for tests: written as an operator would, and looked at as a client would."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from typing import TYPE_CHECKING

import trio
import trustme
from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RSA = trustme.KeyType.RSA


def leaf(ca: trustme.CA, *names: str, days: int = 1) -> trustme.LeafCert:
    """Issue an RSA certificate, the kind that test keys are signed with; `days` may be past."""
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    since = until - datetime.timedelta(days=30)
    return ca.issue_cert(*names or ("localhost",), not_before=since, not_after=until, key_type=RSA)


def chain_of(cert: trustme.LeafCert) -> bytes:
    """Give the chain as one PEM text."""
    return b"".join(pem.bytes() for pem in cert.cert_chain_pems)


def replace(path: Path, data: bytes) -> None:
    """Put a whole file in place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(data)
    draft.replace(path)


def install(cert: trustme.LeafCert, folder: Path, name: str = "mg") -> None:
    """Write `<name>.pem` and `<name>.key`, the certificate first."""
    replace(folder / f"{name}.pem", chain_of(cert))
    replace(folder / f"{name}.key", cert.private_key_pem.bytes())


def der_of(cert: trustme.LeafCert) -> bytes:
    """Give the certificate itself, as `getpeercert` does."""
    return ssl.PEM_cert_to_DER_cert(cert.cert_chain_pems[0].bytes().decode())


def subject_of(cert: trustme.LeafCert) -> str:
    """Give the subject as the gateway tells it."""
    return x509.load_der_x509_certificate(der_of(cert)).subject.rfc4514_string()


def client_context(
    ca: trustme.CA, cert: trustme.LeafCert | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Make a client that trusts one authority, may show a certificate, and may be held back."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if cert is not None:
        cert.configure_cert(context)
    if version is not None:
        context.maximum_version = version
    return context


@contextlib.asynccontextmanager
async def tls_to(
    port: int, context: ssl.SSLContext | None = None, name: str | None = "localhost"
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """Connect and shake hands; without a context everything is trusted."""
    if context is None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(tcp, context, server_hostname=name, https_compatible=True)
    try:
        await stream.do_handshake()
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def shown(port: int, name: str | None = "localhost") -> bytes:
    """Give the certificate that a client is shown."""
    async with tls_to(port, name=name) as stream:
        der = stream.getpeercert(binary_form=True)
        assert isinstance(der, bytes)
        return der


async def wait_shown(port: int, cert: trustme.LeafCert, name: str = "localhost") -> None:
    """Connect until this certificate is shown; fails after 10 seconds."""
    with trio.fail_after(60):
        while await shown(port, name) != der_of(cert):
            await trio.lowlevel.checkpoint()
