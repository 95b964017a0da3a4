"""aiohttp: server and client, with compression, JSON, large messages and closing codes."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession, WSServerHandshakeError, web
from common import HEADERS, WS, WSS, bound, equal, main, say, trust


async def handle(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=["chat"], compress=True)
    await socket.prepare(request)
    room = request.match_info["room"]
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4001, message=b"as asked")
        else:
            await socket.send_json(
                {"room": room, "query": dict(request.query), "got": message.data}
            )
    return socket


async def talk(session: ClientSession, url: str, **options: object) -> None:
    query = {"since": "1"}
    async with session.ws_connect(
        f"{url}/rooms/grüße", params=query, protocols=["chat"], compress=15, headers=HEADERS,
        **options,
    ) as socket:  # fmt: skip
        equal((socket.protocol, socket.compress), ("chat", 15))
        for text in "hello", "x" * 300_000:
            await socket.send_str(text)
            answer = await socket.receive_json()
            equal(answer, {"room": "grüße", "query": query, "got": text})
        await socket.send_str("bye")
        message = await socket.receive()
        equal((message.data, message.extra, socket.close_code), (4001, "as asked", 4001))


async def plain() -> None:
    async with ClientSession() as session:
        await talk(session, WS)


async def secure() -> None:
    async with ClientSession() as session:
        await talk(session, WSS, ssl=trust())


async def refused() -> None:
    async with ClientSession() as session:
        try:
            await session.ws_connect(f"{WS}/nowhere", headers=HEADERS)
        except WSServerHandshakeError as error:
            equal(error.status, 404)
        else:
            raise AssertionError("connected to what no topic is")


async def serve() -> None:
    app = web.Application()
    app.router.add_get("/rooms/{room}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    taken = bound()
    await web.SockSite(runner, taken).start()
    say(taken.getsockname()[1])
    await asyncio.Event().wait()


main({"serve": serve, "plain": plain, "secure": secure, "refused": refused})
