"""TLS handshakes that fail: what log, metrics and client are told, on both listeners."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from support.gateway import Answer, RunningGateway, start_gateway
from support.logged import logged
from support.numbers import total
from support.tls import install, leaf, tls_to
from trio_gw.proxy import tls_failures as tls_failures_module

if TYPE_CHECKING:
    from pathlib import Path

OPENSSL = shutil.which("openssl") or "openssl"
HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"  # cut off
PROXY_1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_gateway(nursery, base, admin=True, metrics={"listen": "localhost:0"})


def port_of(gateway: RunningGateway, listener: str) -> int:
    return gateway.tls_port if listener == "https" else gateway.admin_port


async def failed(gateway: RunningGateway, listener: str, reason: str) -> float:
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.metrics_port)
    answer = await gateway.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", stream=stream)
    name = "trio_gw_tls_failed_handshakes_total"
    return total(answer.body, name, listener=listener, reason=reason)


async def s_client(port: int, *options: str) -> str:
    """Run the real client to its end; give what it prints."""
    command = [OPENSSL, "s_client", "-connect", f"localhost:{port}", *options]
    with trio.fail_after(20):
        done = await trio.run_process(
            command,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.stdout.decode(errors="replace")


async def send(port: int, data: bytes) -> bytes:
    """Send, say no more, and read to the end."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(data)
        await stream.send_eof()
        with trio.fail_after(10):
            return b"".join([bytes(piece) async for piece in stream])


@pytest.mark.parametrize("listener", ["https", "admin"])
@pytest.mark.parametrize(
    ("options", "reason", "line"),
    [
        (
            ("-tls1_2", "-cipher", "AES128-GCM-SHA256", "-servername", "old.example"),
            "no_shared_cipher",
            "no cipher suite in common; versions: TLS 1.2; ciphers: AES128-GCM-SHA256;"
            " sni: old.example",
        ),
        (
            ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-noservername"),
            "unsupported_version",
            "no TLS version in common; versions: TLS 1.1; ciphers: ",
        ),
        (
            ("-sigalgs", "ECDSA+SHA256", "-tls1_3"),
            "no_common_parameters",
            "no key exchange group or signature algorithm in common; versions: TLS 1.3; ciphers: ",
        ),
        (
            ("-verify_return_error", "-verify", "1", "-tls1_2"),
            "server_certificate",
            "the client does not trust the gateway's certificate (alert: ",
        ),
        (
            ("-verify_return_error", "-verify", "1", "-tls1_3"),
            "server_certificate",
            "the client does not trust the gateway's certificate (alert: ",
        ),
    ],
    ids=["cipher", "version", "group", "untrusted 1.2", "untrusted 1.3"],
)
async def test_openssl_and_the_gateway_both_say_why(
    gateway: RunningGateway, listener: str, options: tuple[str, ...], reason: str, line: str
) -> None:
    with logged("trio_gw.connection") as said:
        printed = await s_client(port_of(gateway, listener), *options)
        told = await said.wait("TLS handshake")
    assert f"127.0.0.1 TLS handshake on listener {listener} failed: {line}" in told
    assert "alert" in printed or "verify" in printed
    assert len(said.texts()) == 1
    assert await failed(gateway, listener, reason) == 1


STRANGERS = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "plain_http", "plain HTTP on a port", "use wss://"),
    (b"get http://x/ HTTP/1.0\r\n\r\n", "plain_http", "plain HTTP on a port", "use wss://"),
    (b"CONNECT x:1 HTTP/1.1\r\n", "plain_http", "plain HTTP on a port", "use wss://"),
    (b"OPTIONS * HTTP/1.1\r\n\r\n", "plain_http", "plain HTTP on a port", "use wss://"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "plain_http", "plain HTTP on a port", "wss://"),
    (b"POST /" + b"x" * 6000 + b" HTTP/1.1\r\n\r\n", "plain_http", "plain HTTP", "wss://"),
    (PROXY_1 + HELLO, "proxy_protocol", "the PROXY protocol", "PROXY protocol"),
    (PROXY_2 + HELLO, "proxy_protocol", "the PROXY protocol", "PROXY protocol"),
    (b"SSH-2.0-client\r\n", "not_tls", r"not TLS: b'SSH-2.0-client\r\n'", ""),
    (b"\x00\x01\x02\x03", "not_tls", "is not TLS", ""),
    (b"G", "not_tls", "is not TLS", ""),
    (b"\x16\x03\x01\x00", "closed", "the client closed the connection", ""),
    (HELLO, "malformed", "the handshake is malformed", ""),
    (b"\x16\x03\x01\x00\x05\x09\x00\x00\x01\x00", "malformed", "malformed", ""),
    (b"\x16\x00\x00\xff\xff" + bytes(70_000), "malformed", "malformed", ""),
]


@pytest.mark.parametrize("listener", ["https", "admin"])
async def test_who_does_not_speak_tls(gateway: RunningGateway, listener: str) -> None:
    counts: Counter[str] = Counter()
    for data, reason, line, said_so in STRANGERS:
        with logged("trio_gw.connection") as said:
            raw = await send(port_of(gateway, listener), data)
            assert line in await said.wait("TLS handshake"), data[:40]
        if said_so:
            answer = Answer(raw)
            assert (answer.status, answer.headers["content-type"]) == (400, "text/plain")
            assert said_so in answer.body.decode()
        counts[reason] += 1
    for reason, count in counts.items():
        assert await failed(gateway, listener, reason) == count, reason


@pytest.mark.parametrize("listener", ["https", "admin"])
async def test_plain_http_octet_by_octet(gateway: RunningGateway, listener: str) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port_of(gateway, listener))
    async with stream:
        for octet in b"HEAD / HTTP/1.1\r\n":
            await stream.send_all(bytes((octet,)))
        with trio.fail_after(10):
            answer = Answer(b"".join([bytes(piece) async for piece in stream]))
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("data", [PROXY_1, PROXY_2])
async def test_the_proxy_protocol_on_the_plain_port(gateway: RunningGateway, data: bytes) -> None:
    with logged("trio_gw.connection") as said:
        answer = Answer(await send(gateway.port, data + b"GET / HTTP/1.1\r\n\r\n"))
        assert answer.status == 400
        assert "PROXY protocol" in answer.json()["description"]
        assert "400" in await said.wait("PROXY protocol")


async def test_silence_is_told_of_at_its_deadline(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start_gateway(
        nursery, base, timeouts={"head": 0.2}, metrics={"listen": "localhost:0"}
    )
    with logged("trio_gw.connection") as said:
        async with await trio.open_tcp_stream("127.0.0.1", gateway.tls_port):
            assert "no TLS handshake within 0.2 seconds" in await said.wait("failed")
    assert await failed(gateway, "https", "timeout") == 1


async def test_who_says_nothing_and_who_succeeds_is_not_told_of(gateway: RunningGateway) -> None:
    with logged("trio_gw.connection") as said:
        for port in (gateway.tls_port, gateway.admin_port):
            await send(port, b"")
            async with tls_to(port) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert await stream.receive_some()
            await s_client(port, "-tls1_3")
        await send(gateway.tls_port, b"GET / HTTP/1.1\r\n\r\n")
        await said.wait("plain HTTP")  # in order: what came before is over
    assert len([line for line in said.texts() if "TLS handshake" in line]) == 1


async def test_many_failures_are_few_lines(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_failures_module, "MAX_LINES", 3)
    monkeypatch.setattr(tls_failures_module, "WINDOW", 0.5)
    with logged("trio_gw.connection") as said:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(send, gateway.tls_port, b"GET / HTTP/1.1\r\n\r\n")
        lines = said.texts()
        counted = await failed(gateway, "https", "plain_http")
        assert counted == 20
        with trio.fail_after(10):
            # Whoever reads the metrics, or fails next, when the window is over.
            while not (more := [one for one in said.texts() if "more TLS handshakes" in one]):
                await failed(gateway, "https", "plain_http")
    assert 3 <= len([line for line in lines if " on listener " in line]) < 20
    assert "plain http" in more[0]


# -- settings --------------------------------------------------------------------------------------


def client(version: ssl.TLSVersion, ciphers: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


async def cipher(port: int, context: ssl.SSLContext) -> str | None:
    """Tell which cipher suite is agreed on, None if none is."""
    try:
        async with tls_to(port, context) as stream:
            found: Any = stream.cipher()
            return str(found[0])
    except trio.BrokenResourceError:
        return None


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CBC = "ECDHE-RSA-AES128-SHA256"


async def test_each_listener_speaks_what_its_settings_say(
    nursery: trio.Nursery, base: Path
) -> None:
    gateway = await start_gateway(
        nursery,
        base,
        admin=True,
        tls={"minimum": "1.3"},
        admin_settings={"tls_ciphers": CBC},
    )
    for again in (False, True):
        if again:  # a new certificate changes nothing of it
            with logged("trio_gw") as said:
                install(leaf(trustme.CA()), base / "certs")
                await said.wait("loaded again")
        assert await cipher(gateway.tls_port, client(V12)) is None
        assert await cipher(gateway.tls_port, client(V13)) is not None
        assert await cipher(gateway.admin_port, client(V12, CBC)) == CBC
        assert await cipher(gateway.admin_port, client(V12, "ECDHE+AESGCM")) is None


async def test_old_devices_are_served_if_asked_for(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start_gateway(
        nursery,
        base,
        admin=True,
        tls={"minimum": "1.0", "ciphers": "ECDHE+AESGCM:ECDHE+AES:@SECLEVEL=0"},
    )
    for old in ("-tls1", "-tls1_1"):
        options = (old, "-cipher", "ALL:@SECLEVEL=0")
        assert "Cipher    : ECDHE-RSA-AES256-SHA" in await s_client(gateway.tls_port, *options)
        assert "alert protocol version" in await s_client(gateway.admin_port, *options)
