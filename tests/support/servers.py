"""A WebSocket server as applications write one: `python servers.py aiohttp|tornado|starlette`.

It prints its port. Each handler sends what it was asked for, and echoes what it gets; any other
path is answered as the framework does. aiohttp and Starlette answer plain HTTP at `/http/told` and
`/http/big`, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
from typing import Any

PATHS = ("/graphql", "/socket.io/", "/stomp", "/stomp/a/b", "/")


BIG = 8 << 20  # bytes of the answer at /http/big


def told(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """Say what a plain request was."""
    digest = hashlib.sha256(body).hexdigest()
    return {"method": method, "target": target, "headers": headers, "body": digest}


def listening() -> socket.socket:
    """Bind a free port, and say which."""
    sock = socket.create_server(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    return sock


async def serve_aiohttp() -> None:
    """Serve with aiohttp."""
    from aiohttp import web

    async def topic(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        await connection.send_str(request.raw_path)
        async for message in connection:
            await connection.send_str(str(message.data))
        return connection

    async def plain(request: web.Request) -> web.Response:
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        said = told(request.method, request.raw_path, headers, await request.read())
        return web.json_response(said)

    async def big(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(BIG >> 16):
            await answer.write(bytes(1 << 16))
        return answer

    application = web.Application(client_max_size=BIG)
    application.router.add_route("*", "/http/told", plain)
    application.router.add_route("*", "/http/big", big)
    for path in PATHS:
        application.router.add_get(path, topic)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.SockSite(runner, listening()).start()
    await asyncio.Event().wait()


async def serve_tornado() -> None:
    """Serve with Tornado, which checks the Origin against the Host."""
    from tornado.httpserver import HTTPServer
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    class Topic(WebSocketHandler):
        async def open(self, *_args: str, **_named: str) -> None:
            await self.write_message(self.request.uri or "")

        async def on_message(self, message: str | bytes) -> None:
            await self.write_message(message)

    server = HTTPServer(Application([(path, Topic) for path in PATHS]))
    sock = listening()
    sock.setblocking(False)
    server.add_sockets([sock])
    await asyncio.Event().wait()


async def serve_starlette() -> None:
    """Serve Starlette with hypercorn."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from starlette.applications import Starlette
    from starlette.requests import Request  # noqa: TC002 - only where there is Starlette
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import BaseRoute, Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    async def topic(connection: WebSocket) -> None:
        await connection.accept()
        query = connection.url.query
        path = connection.scope["raw_path"].decode()
        await connection.send_text(f"{path}?{query}" if query else path)
        try:
            while True:
                await connection.send_text(await connection.receive_text())
        except WebSocketDisconnect:
            return

    async def plain(request: Request) -> Response:
        target = request.scope["raw_path"].decode()
        if query := request.url.query:
            target += f"?{query}"
        said = told(request.method, target, request.headers.items(), await request.body())
        return JSONResponse(said)

    async def big(_: Request) -> Response:
        return StreamingResponse(iter([bytes(1 << 16)] * (BIG >> 16)))

    methods = ["GET", "HEAD", "POST"]
    routes: list[BaseRoute] = [WebSocketRoute(path, topic) for path in PATHS]
    routes += [Route("/http/told", plain, methods=methods), Route("/http/big", big)]
    application = Starlette(routes=routes)
    config = Config()
    config.bind = [f"fd://{listening().detach()}"]
    config.loglevel = "CRITICAL"
    await serve(application, config)  # type: ignore[arg-type]


SERVERS: dict[str, Any] = {
    "aiohttp": serve_aiohttp,
    "tornado": serve_tornado,
    "starlette": serve_starlette,
}

if __name__ == "__main__":
    asyncio.run(SERVERS[sys.argv[1]]())
