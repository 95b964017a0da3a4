"""OpenSSL's s_client: TLS 1.2 and 1.3 with frames through them, TLS 1.1 refused."""

from __future__ import annotations

import subprocess

from common import BASE, CA, TLS_GATEWAY, TOKEN, equal, main, port_of

HEAD = (
    f"GET {BASE}/echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    f"Authorization: Bearer {TOKEN}\r\n\r\n"
).encode()
FRAME = b"\x81\x85\0\0\0\0hello"  # masked, with a mask of zeros
ECHO = b"\x81\x05hello"


def client(*options: str) -> list[str]:
    address = f"localhost:{port_of(TLS_GATEWAY)}"
    return ["openssl", "s_client", "-connect", address, "-servername", "localhost", *options]


def talk(version: str) -> None:
    command = client("-quiet", "-verify_return_error", "-CAfile", CA, version)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(HEAD)
        process.stdin.flush()
        heard = b""
        while b"\r\n\r\n" not in heard:
            octet = process.stdout.read(1)
            assert octet, heard
            heard += octet
        equal(heard[:13], b"HTTP/1.1 101 ")
        process.stdin.write(FRAME)
        process.stdin.flush()
        equal(process.stdout.read(len(ECHO)), ECHO)
        process.terminate()


def refused() -> None:
    command = client("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
    assert done.returncode != 0
    assert b"alert protocol version" in done.stderr, done.stderr


main({"tls1.2": lambda: talk("-tls1_2"), "tls1.3": lambda: talk("-tls1_3"), "refused": refused})
