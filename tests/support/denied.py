"""A gateway with one API, and callers whom deny conditions can name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.exceptions import ConnectionClosed

from support import issuers
from support.backends import start_echo
from support.gateway import start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.trio.client import ClientConnection

    from support.gateway import Answer, RunningGateway

ISSUER = "https://issuer.example/token"
BODY = {
    "error_message": "Message blocked",
    "code": "900805",
    "error_description": "You have been blocked from accessing the resource",
}


class Barred:
    """That gateway. Its API is `C` at `/c/1.0.0`, with the topics `/any` and `/open`."""

    def __init__(self, gateway: RunningGateway, signer: rsa.RSAPrivateKey) -> None:
        self.gateway = gateway
        self.file = gateway.base / "certs" / "denied.txt"
        self._signer = signer

    def token(self, user: str = "alice", application: str = "App", **claims: Any) -> str:
        """Sign a token of this user's, for an application that `owner` owns."""
        more = {
            "iss": ISSUER,
            "sub": user,
            "exp": int(time.time()) + 600,
            "application": {"id": 7, "uuid": "u7", "name": application, "owner": "owner"},
            "subscribedAPIs": [{"name": "C", "version": "1.0.0", "context": "/c/1.0.0"}],
        }
        return issuers.sign(self._signer, more | claims, kid="k")

    async def stream(self, host: str) -> trio.abc.Stream:
        """Open a bare connection from and to this loopback address."""
        stream = await trio.open_tcp_stream(host, self.gateway.port)
        self.gateway.opened.append(stream)
        return stream

    async def refused(
        self, topic: str = "any", token: str | None = None, *, host: str = "127.0.0.1",
        extra: bytes = b"",
    ) -> Answer:  # fmt: skip
        """Ask for an upgrade that is refused."""
        request = self.gateway.handshake(f"/c/1.0.0/{topic}", token, extra)
        return await self.gateway.ask(request, stream=await self.stream(host))

    async def admitted(
        self, topic: str = "any", token: str | None = None, *, host: str = "127.0.0.1",
        extra: bytes = b"",
    ) -> None:  # fmt: skip
        """Ask for an upgrade that is granted."""
        request = self.gateway.handshake(f"/c/1.0.0/{topic}", token, extra)
        stream = await self.stream(host)
        async with stream:
            await stream.send_all(request)
            with trio.fail_after(60):
                answer = await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 101 "), answer

    def connect(self, topic: str = "any", token: str | None = None, **options: Any) -> Any:
        """Connect with a third-party client."""
        return self.gateway.connect(f"/c/1.0.0/{topic}", token, **options)


async def start_barred(nursery: trio.Nursery, base: Path, url: str = "", **settings: Any) -> Barred:
    """Start it, in front of the backend at `url`, or of an echo."""
    url = url or (await start_echo(nursery)).url
    signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (base / "certs").mkdir(exist_ok=True)
    (base / "certs" / "jwks.json").write_bytes(issuers.key_set(k=signer))
    channels = {"/any": {"publish": {}}, "/open": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "c", api("C", "/c", url), asyncapi(channels))
    issuer = {"issuer": ISSUER, "jwks": "certs/jwks.json", "validate_subscription": True}
    gateway = await start_gateway(nursery, base, issuers=[issuer], **settings)
    return Barred(gateway, signer)


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Wait for the connection's end; returns code and reason."""
    with trio.fail_after(60), pytest.raises(ConnectionClosed) as caught:
        await client.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason
