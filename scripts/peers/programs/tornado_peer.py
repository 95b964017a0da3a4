"""Tornado: server and client, with compression and pings of the server."""

from __future__ import annotations

import asyncio

from common import CA, HEADERS, TLS_GATEWAY, WSS, bound, equal, main, say
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler, websocket_connect


class Echo(WebSocketHandler):
    def get_compression_options(self) -> dict[str, int]:
        return {}

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


async def serve() -> None:
    server = HTTPServer(Application([("/echo", Echo)], websocket_ping_interval=1))
    taken = bound()
    taken.setblocking(False)
    server.add_socket(taken)
    say(taken.getsockname()[1])
    await asyncio.Event().wait()


async def talk(origin: str = "") -> None:
    headers = HEADERS | ({"Origin": origin} if origin else {})
    request = HTTPRequest(f"{WSS}/echo", headers=headers, ca_certs=CA)
    socket = await websocket_connect(request, compression_options={})
    for sent in "grüße", bytes(range(256)) * 1000:
        await socket.write_message(sent, binary=isinstance(sent, bytes))
        equal(await socket.read_message(), sent)
    socket.close()


async def refused() -> None:
    try:
        await talk(TLS_GATEWAY)
    except HTTPClientError as error:
        equal(error.code, 403)
    else:
        raise AssertionError("connected")


main(
    {
        "serve": serve,
        "talk": talk,
        "origin": lambda: talk(TLS_GATEWAY),
        "refused": refused,
    }
)
