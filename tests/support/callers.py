"""Callers of a gateway that API Manager drives: tokens of its key manager, and what they get."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
import trustme

from support.apim import KEY_MANAGER
from support.issuers import sign
from support.tls import RSA, chain_of, leaf

if TYPE_CHECKING:
    from support.apim import FakeApiManager
    from support.gateway import RunningGateway

ISSUER = "https://am.example.com:9443/oauth2/token"
PATH = "/chat/1.0.0/x"
PATIENCE = 60  # seconds

_AUTHORITY = trustme.CA(key_type=RSA)


class Verdict(NamedTuple):
    """The status of a handshake, and the code in the body of a refusal."""

    status: int
    code: str = ""


class KeyManager:
    """A key manager that signs tokens, with a certificate in API Manager."""

    def __init__(self, issuer: str = ISSUER, name: str = KEY_MANAGER) -> None:
        self.issuer = issuer
        self.name = name
        self.certificate = leaf(_AUTHORITY, "am.example.com")

    def add_to(self, apim: FakeApiManager) -> None:
        """Put the key manager into the tables."""
        apim.add_key_manager(chain_of(self.certificate), self.issuer, self.name)

    def token(self, **claims: Any) -> str:
        """Sign a token of the application of the seed; `claims` win over the usual ones."""
        now = int(time.time())
        usual = {"iss": self.issuer, "sub": "alice", "azp": "client-1", "jti": "jti-1"}
        usual |= {"iat": now, "exp": now + 3600, "scope": "default"}  # type: ignore[dict-item]
        return sign(self.certificate.private_key_pem.bytes(), {**usual, **claims})


async def verdict(gateway: RunningGateway, token: str, path: str = PATH) -> Verdict:
    """Make one handshake."""
    stream = await gateway.open()
    async with stream:
        await stream.send_all(gateway.handshake(path, token))
        answer = b""
        with trio.fail_after(PATIENCE):
            while b"\r\n\r\n" not in answer:
                answer += await stream.receive_some()
            head, _, body = answer.partition(b"\r\n\r\n")
            status = int(head[9:12])
            if status == 101:
                return Verdict(status)
            length = next(
                int(line[15:])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            while len(body) < length:
                body += await stream.receive_some()
    return Verdict(status, str(json.loads(body)["code"]))


async def becomes(
    gateway: RunningGateway, token: str, status: int, code: str = "", path: str = PATH
) -> None:
    """Make handshakes until they end so, each after a change of what the gateway knows."""
    live = gateway.running.live
    with trio.fail_after(PATIENCE):
        while await verdict(gateway, token, path) != (status, code):
            with trio.move_on_after(0.05):
                await live.entitled.wait()
