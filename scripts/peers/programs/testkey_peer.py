"""The form of /testkey as httpx2 and aiohttp write it, and the token in a handshake afterwards."""

from __future__ import annotations

import aiohttp
import httpx2
from common import TLS_GATEWAY, WSS, equal, main, trust
from websockets.sync.client import connect

FORM = {"scope": "chat rooms"}


def use(token: str) -> None:
    offered = ["bearer", token, "chat"]
    with connect(f"{WSS}/echo", subprotocols=offered, ssl=trust(), proxy=None) as socket:
        equal(socket.subprotocol, "chat")
        socket.send("grüße")
        equal(socket.recv(), "grüße")


def by_httpx2() -> None:
    with httpx2.Client(verify=trust(), auth=("admin", "admin"), trust_env=False) as client:
        answer = client.post(f"{TLS_GATEWAY}/testkey", data=FORM)
        equal(answer.status_code, 200)
    use(answer.text)


async def by_aiohttp() -> None:
    auth = aiohttp.BasicAuth("admin", "admin")
    async with (
        aiohttp.ClientSession(auth=auth) as session,
        session.post(f"{TLS_GATEWAY}/testkey", data=FORM, ssl=trust()) as answer,
    ):
        equal(answer.status, 200)
        token = await answer.text()
    use(token)


main({"httpx2": by_httpx2, "aiohttp": by_aiohttp})
