"""Token issuers on loopback: servers for keys and for opaque tokens, and tokens by hand."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import jwt
import trio
from jwt.algorithms import RSAAlgorithm

from support.secrets import secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric import rsa

Answer = tuple[int, bytes]


class HttpServer:
    """A server that answers each request by a function; `requests` are head and body."""

    def __init__(self, respond: Callable[[bytes, bytes], Answer]) -> None:
        self.respond = respond
        self.requests: list[tuple[bytes, bytes]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.arrived = trio.Event()
        self.port = 0
        self.fields = ""  # more header lines of the answers

    def url(self, path: str) -> str:
        """Name a document of this server."""
        return f"http://127.0.0.1:{self.port}{path}"

    async def handle(self, stream: trio.SocketStream) -> None:
        """Answer one request and close."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += await _more(stream)
                head, _, body = data.partition(b"\r\n\r\n")
                while len(body) < _length(head):
                    body += await _more(stream)
                self.requests.append((head, body))
                self.arrived.set()
                self.arrived = trio.Event()
                await self.gate.wait()
                status, answer = self.respond(head, body)
                lines = f"HTTP/1.1 {status} X\r\ncontent-length: {len(answer)}\r\nconnection: close"
                lines += f"\r\n{self.fields}".rstrip()
                await stream.send_all(lines.encode() + b"\r\n\r\n" + answer)


async def start_http(
    nursery: trio.Nursery, respond: Callable[[bytes, bytes], Answer]
) -> HttpServer:
    """Start a server in the test's nursery."""
    server = HttpServer(respond)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, server.handle, [listener])
    return server


async def _more(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some()
    if not data:
        raise trio.BrokenResourceError
    return bytes(data)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def form(body: bytes) -> dict[str, str]:
    """Decode the form of a request."""
    return {name: values[-1] for name, values in parse_qs(body.decode()).items()}


def key_set(**keys: rsa.RSAPrivateKey) -> bytes:
    """Write a JWK set; the names are the key ids."""
    entries = [
        {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid}
        for kid, key in keys.items()
    ]
    return json.dumps({"keys": entries}).encode()


def sign(key: Any, claims: dict[str, Any], alg: str = "RS256", **header: Any) -> str:
    """Sign a token, and keep it among the suite's secrets."""
    return secret(jwt.encode(claims, key, algorithm=alg, headers=header))


def compact(header: bytes, payload: bytes, key: Any = None, alg: str = "RS256") -> str:
    """Put a token together from any bytes; signed if there is a key."""
    signed = _part(header) + b"." + _part(payload)
    signature = b"" if key is None else jwt.get_algorithm_by_name(alg).sign(signed, key)
    return secret((signed + b"." + _part(signature)).decode())


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
