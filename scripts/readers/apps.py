"""Python servers that report in the header X-Read which topic they read.

Usage: apps.py READER PORT, where READER is a function below.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette
    from starlette.requests import Request

TOPICS = {
    "/r/admin": "admin",
    "/r/{id}": "id",
    "/r/{id}/keys": "keys",
    "/r/{id}/{part}": "part",
}


def ws(rooms: list[str]) -> str:
    return "ws-admin" if "admin" in rooms else "ws"


def aiohttp(port: int) -> None:
    from aiohttp import web

    def say(answer: str) -> Callable[..., Any]:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(headers={"X-Read": answer})

        return handler

    async def room(request: web.Request) -> web.Response:
        return web.Response(headers={"X-Read": ws(request.query.getall("room", []))})

    app = web.Application()
    for path, answer in TOPICS.items():
        app.router.add_get(path, say(answer))
    app.router.add_get("/ws", room)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def _starlette() -> Starlette:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    def say(answer: str) -> Callable[..., Any]:
        async def handler(request: Request) -> Response:
            return Response(headers={"X-Read": answer})

        return handler

    async def room(request: Request) -> Response:
        return Response(headers={"X-Read": ws(request.query_params.getlist("room"))})

    routes = [Route(path, say(answer)) for path, answer in TOPICS.items()]
    return Starlette(routes=[*routes, Route("/ws", room)])


def _uvicorn(port: int, http: str) -> None:
    import uvicorn

    uvicorn.run(_starlette(), host="127.0.0.1", port=port, http=http, log_level="critical")


def uvicorn_h11(port: int) -> None:
    _uvicorn(port, "h11")


def uvicorn_httptools(port: int) -> None:
    _uvicorn(port, "httptools")


def hypercorn(port: int) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_max_requests = 10**9
    config.errorlog = None
    asyncio.run(serve(_starlette(), config))


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
