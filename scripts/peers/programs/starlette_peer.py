"""Starlette in Uvicorn, with either of two implementations, and in Hypercorn."""

from __future__ import annotations

import asyncio

import hypercorn.asyncio
import hypercorn.config
import uvicorn
from common import HEADERS, WS, bound, equal, main, say
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket  # noqa: TC002, read by Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def room(socket: WebSocket) -> None:
    await socket.accept(subprotocol="chat")
    async for text in socket.iter_text():
        if text == "bye":
            await socket.close(4001, "as asked")
            return
        await socket.send_json({"room": socket.path_params["room"], "text": text})


app = Starlette(routes=[WebSocketRoute("/rooms/{room}", room)])


async def serve_uvicorn(ws: str = "websockets-sansio") -> None:
    taken = bound()
    say(taken.getsockname()[1])
    config = uvicorn.Config(app, ws=ws, log_level="warning")
    await uvicorn.Server(config).serve(sockets=[taken])


async def serve_hypercorn() -> None:
    taken = bound()
    say(taken.getsockname()[1])
    config = hypercorn.config.Config.from_mapping(bind=[f"fd://{taken.fileno()}"])
    await hypercorn.asyncio.serve(app, config, shutdown_trigger=asyncio.Event().wait)


async def talk() -> None:
    async with connect(
        f"{WS}/rooms/7", subprotocols=["chat"], additional_headers=HEADERS, proxy=None
    ) as socket:
        equal(socket.subprotocol, "chat")
        await socket.send("grüße")
        equal(await socket.recv(), '{"room":"7","text":"grüße"}')
        await socket.send(["in ", "three ", "frames"])
        equal(await socket.recv(), '{"room":"7","text":"in three frames"}')
        await socket.send("bye")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            equal((closed.rcvd.code, closed.rcvd.reason), (4001, "as asked"))


main(
    {
        "serve": serve_uvicorn,
        "serve-wsproto": lambda: serve_uvicorn("wsproto"),
        "serve-hypercorn": serve_hypercorn,
        "talk": talk,
    }
)
