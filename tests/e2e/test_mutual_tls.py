"""Client certificates: asked for, checked per API, and told to the backend."""

from __future__ import annotations

import shutil
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from support import projects
from support.backends import Backend, read_head, start_echo
from support.gateway import Answer, RunningGateway, start_gateway
from support.logged import logged
from support.tls import (
    chain_of,
    client_context,
    der_of,
    install,
    leaf,
    replace,
    subject_of,
    tls_to,
)

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "X-Client-Subject"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Whom clients trust."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server(ca: trustme.CA) -> trustme.LeafCert:
    return leaf(ca)


@pytest.fixture(scope="module")
def clients() -> trustme.CA:
    """Whom the gateway trusts to vouch for clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def strangers() -> trustme.CA:
    """Whom nobody trusts."""
    return trustme.CA()


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


class World:
    """A gateway with one API per demand, and clients with and without certificates."""

    def __init__(self, gateway: RunningGateway, ca: trustme.CA, backend: Backend) -> None:
        self.gateway, self.ca, self.backend = gateway, ca, backend

    async def ask(
        self,
        context: str,
        cert: trustme.LeafCert | None = None,
        *,
        version: ssl.TLSVersion | None = None,
        extra: bytes = b"",
        token: bool = True,
    ) -> Answer:
        """Ask for an upgrade over TLS; give the answer's head, with its body unless it is 101."""
        gateway = self.gateway
        secure = client_context(self.ca, cert, version)
        async with tls_to(gateway.tls_port, secure) as stream:
            text = gateway.token() if token else None
            await stream.send_all(gateway.handshake(f"/{context}/1.0.0/a", text, extra))
            with trio.fail_after(10):
                head = await read_head(stream)
                while not head.startswith(b"HTTP/1.1 101") and (
                    data := await stream.receive_some()
                ):
                    head += data
        return Answer(bytes(head))


async def read_rest(stream: trio.abc.Stream) -> bytes:
    rest = bytearray()
    while data := await stream.receive_some():
        rest += data
    return bytes(rest)


def write(
    base: Path, backend: Backend, name: str, *schemes: str, pinned: tuple[bytes, ...] = ()
) -> None:
    """Write a project `/name` with these `securityScheme` values and client certificates."""
    draft = base / "drafts"
    folder = projects.write(
        draft,
        name,
        projects.api(name, f"/{name}", backend.url, securityScheme=list(schemes)),
        projects.asyncapi({"/a": {"publish": {}}}),
    )
    for index, pem in enumerate(pinned):
        replace(folder / "Client-certificates" / f"{index}.crt", pem)
    (base / "apis").mkdir(exist_ok=True)
    folder.rename(base / "apis" / name)


async def started(
    nursery: trio.Nursery,
    base: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    clients: trustme.CA | None,
    **tls: Any,
) -> World:
    install(server, base / "certs")
    if clients is not None:
        replace(base / "clients" / "ca.pem", clients.cert_pem.bytes())
        tls["client_ca"] = "clients"
    return World(await start_gateway(nursery, base, tls=tls), ca, backend)


def refused(answer: Answer, text: str) -> None:
    """Insist on a refusal like the one for a missing token, which says what is missing."""
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    body = answer.json()
    assert list(body) == ["error_message", "code", "error_description"]
    assert (body["error_message"], body["code"]) == ("Invalid Credentials", "900901")
    assert text in body["error_description"]


@pytest.mark.parametrize("version", [V12, V13])
async def test_what_each_api_accepts(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    clients: trustme.CA,
    strangers: trustme.CA,
    version: ssl.TLSVersion,
) -> None:
    by_ca = clients.issue_cert("alice@example.com")
    own, another = (strangers.issue_cert(f"{name}@example.com") for name in ("own", "another"))
    issuer = trustme.CA()
    pinned = (chain_of(own), clients.issue_cert("second@example.com").cert_chain_pems[0].bytes())
    write(tmp_path, backend, "exported", "oauth2", "oauth_basic_auth_api_key_mandatory")
    write(tmp_path, backend, "optional", "oauth2", "mutualssl")
    write(tmp_path, backend, "required", "mutualssl", "mutualssl_mandatory", "oauth2")
    write(tmp_path, backend, "pinned", "MutualSSL_Mandatory", pinned=pinned)
    write(tmp_path, backend, "choice", "mutualssl", pinned=pinned)
    write(tmp_path, backend, "other", "mutualssl", pinned=(chain_of(another),))
    write(tmp_path, backend, "authority", "mutualssl", pinned=(issuer.cert_pem.bytes(),))
    world = await started(nursery, tmp_path, backend, ca, server, clients)
    led_by_a_pinned_one = issuer.issue_cert("mallory@example.com")
    shown = {
        "none": None,
        "by_ca": by_ca,
        "own": own,
        "another": another,
        "mallory": led_by_a_pinned_one,
    }
    accepted = {
        "exported": {"none", "by_ca", "own", "another", "mallory"},
        "optional": {"none", "by_ca"},
        "required": {"by_ca"},
        "pinned": {"own"},
        "choice": {"none", "own"},
        "other": {"none", "another"},
        "authority": {"none"},
    }
    for context, good in accepted.items():
        for name, cert in shown.items():
            answer = await world.ask(context, cert, version=version)
            if name in good:
                assert answer.status == 101, (context, name)
            elif cert is None:
                refused(answer, "A client certificate is required. Connect with a client cert")
            else:
                refused(answer, "The client certificate is not accepted by this API")
    assert (await world.ask("required", by_ca, version=version, token=False)).status == 401, (
        "a certificate never stands in for a token"
    )
    nursery.cancel_scope.cancel()


async def test_the_plain_listener_refuses_where_a_certificate_is_required(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    clients: trustme.CA,
) -> None:
    write(tmp_path, backend, "required", "mutualssl_mandatory")
    write(tmp_path, backend, "optional", "mutualssl")
    world = await started(nursery, tmp_path, backend, ca, server, clients)
    gateway = world.gateway
    answer = await gateway.ask(gateway.handshake("/required/1.0.0/a", gateway.token()))
    refused(answer, "A client certificate is required. Connect to the TLS port")
    async with gateway.connect("/optional/1.0.0/a", gateway.token()) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("fault", ["stranger", "expired", "server only"])
async def test_a_certificate_that_nobody_vouches_for_ends_the_handshake(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    clients: trustme.CA,
    strangers: trustme.CA,
    version: ssl.TLSVersion,
    fault: str,
) -> None:
    expired = leaf(clients, "alice@example.com", days=-1)
    cert = {"stranger": strangers.issue_cert("bob@example.com"), "expired": expired}.get(fault)
    write(tmp_path, backend, "open", "oauth2")
    write(tmp_path, backend, "pinned", "mutualssl_mandatory", pinned=(chain_of(expired),))
    world = await started(nursery, tmp_path, backend, ca, server, clients)
    if cert is None:
        cert = trustme.CA().issue_cert("carol@example.com")
    with logged("trio_gw.connection") as said:
        # With TLS 1.3 the client believes to be connected, until it reads.
        with pytest.raises(trio.BrokenResourceError) as caught:
            await world.ask("open", cert, version=version)
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert "ALERT" in str(caught.value.__cause__)
        await said.wait("client certificate refused: ")
    assert (await world.ask("open", version=version)).status == 101
    nursery.cancel_scope.cancel()


async def test_pins_follow_the_projects_and_the_authority_its_file(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    clients: trustme.CA,
    strangers: trustme.CA,
) -> None:
    own, late = strangers.issue_cert("own@example.com"), trustme.CA()
    world = await started(nursery, tmp_path, backend, ca, server, clients)

    async def until(context: str, cert: trustme.LeafCert, status: int) -> None:
        with trio.fail_after(10):
            while True:
                try:
                    if (await world.ask(context, cert)).status == status:
                        return
                except trio.BrokenResourceError:
                    if status == 0:
                        return

    await until("pinned", own, 0)
    write(tmp_path, backend, "pinned", "mutualssl_mandatory", pinned=(chain_of(own),))
    await until("pinned", own, 101)
    write(tmp_path, backend, "required", "mutualssl_mandatory")
    newcomer = late.issue_cert("new@example.com")
    await until("required", newcomer, 0)
    replace(tmp_path / "clients" / "late.pem", late.cert_pem.bytes())
    await until("required", newcomer, 101)
    (tmp_path / "clients" / "late.pem").unlink()
    shutil.rmtree(tmp_path / "apis" / "pinned")
    await until("required", newcomer, 0)
    await until("pinned", own, 0)
    assert (await world.ask("required", clients.issue_cert("a@example.com"))).status == 101
    nursery.cancel_scope.cancel()


async def test_without_projects_or_authority_nothing_is_asked_for(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    strangers: trustme.CA,
) -> None:
    own = strangers.issue_cert("own@example.com")
    # Certificates alone ask for nothing: the reference does not look at them either.
    write(tmp_path, backend, "exported", "oauth2", pinned=(chain_of(own),))
    world = await started(nursery, tmp_path, backend, ca, server, None)
    for cert in (None, own, trustme.CA().issue_cert("x@example.com")):
        assert (await world.ask("exported", cert)).status == 101
    nursery.cancel_scope.cancel()


async def test_an_api_whose_clients_nobody_could_be_is_told(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
) -> None:
    write(tmp_path, backend, "required", "mutualssl_mandatory")
    with logged("trio_gw") as said:
        world = await started(nursery, tmp_path, backend, ca, server, None)
        await said.wait("required: requires client certificates but names none")
    refused(await world.ask("required"), "A client certificate is required")
    nursery.cancel_scope.cancel()


# --- the subject ---


def headers_of(backend: Backend, name: str = HEADER) -> list[str]:
    """Give what the last handshake told the backend in any spelling of this header."""
    plain = name.lower()
    return [
        value
        for key, value in backend.requests[-1].headers.raw_items()
        if key.lower().replace("_", "-").replace(".", "-") == plain
    ]


async def test_the_subject_is_told_and_cannot_be_claimed(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    clients: trustme.CA,
    strangers: trustme.CA,
) -> None:
    own = strangers.issue_cert("own@example.com", common_name="own")
    write(tmp_path, backend, "open", "oauth2")
    write(tmp_path, backend, "optional", "mutualssl")
    write(tmp_path, backend, "pinned", "mutualssl", pinned=(chain_of(own),))
    write(tmp_path, backend, "no", "oauth2")
    world = await started(
        nursery, tmp_path, backend, ca, server, clients, client_certificate_header=HEADER
    )
    claimed = (
        b"X-Client-Subject: CN=root\r\nx_client_subject: CN=root\r\nX-Client.Subject: CN=a\r\n"
    )
    alice = clients.issue_cert("alice@example.com", common_name="alice")
    for context, cert, expected in (
        ("optional", None, []),
        ("optional", alice, [subject_of(alice)]),
        ("open", alice, [subject_of(alice)]),  # the authority vouches for it
        ("open", own, []),  # only another API trusts it
        ("pinned", own, [subject_of(own)]),
    ):
        assert (await world.ask(context, cert, extra=claimed)).status == 101
        assert headers_of(backend) == expected, context
    gateway = world.gateway
    plain = await gateway.upgrade("/open/1.0.0/a", gateway.token(), extra=claimed)
    assert headers_of(backend) == []
    await plain.aclose()
    nursery.cancel_scope.cancel()


async def test_a_subject_cannot_inject_and_is_known_to_the_session(
    nursery: trio.Nursery,
    tmp_path: Path,
    backend: Backend,
    ca: trustme.CA,
    server: trustme.LeafCert,
    clients: trustme.CA,
) -> None:
    evil = clients.issue_cert("e@example.com", common_name="é%\r\nX-Evil: 1\r\n\r\n")
    write(tmp_path, backend, "optional", "mutualssl")
    world = await started(
        nursery, tmp_path, backend, ca, server, clients, client_certificate_header=HEADER
    )
    gateway = world.gateway
    context = client_context(ca, evil)
    async with gateway.connect(
        "/optional/1.0.0/a", gateway.token(), tls=True, ssl=context
    ) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        (session,) = gateway.running.sessions
        assert session.certificate is not None
        assert session.certificate.der == der_of(evil)
        assert session.certificate.subject == subject_of(evil)
    (value,) = headers_of(backend)
    assert "CN=%C3%A9%25%0D%0AX-Evil: 1%0D%0A%0D%0A" in value
    assert "X-Evil" not in backend.requests[-1].headers
    nursery.cancel_scope.cancel()
