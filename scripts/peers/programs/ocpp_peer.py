"""OCPP 1.6: a charge point and a central system of the `ocpp` package, on `websockets`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import ClientSession, ClientWebSocketResponse
from common import HEADERS, WS, equal, main, say
from ocpp.routing import after, on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.enums import Action, RegistrationStatus, RemoteStartStopStatus
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.exceptions import InvalidStatus, NegotiationError

if TYPE_CHECKING:
    from collections.abc import Sequence


class CentralSystem(ChargePoint):
    @on(Action.boot_notification)
    def on_boot(self, charge_point_model: str, charge_point_vendor: str) -> object:
        return call_result.BootNotification(
            current_time="2030-01-01T00:00:00Z", interval=10, status=RegistrationStatus.accepted
        )

    @after(Action.boot_notification)
    async def start_remotely(self, **_: str) -> None:
        await self.call(call.RemoteStartTransaction(id_tag=self.id))


class Charger(ChargePoint):
    started: asyncio.Future[str]

    @on(Action.remote_start_transaction)
    def on_start(self, id_tag: str) -> object:
        self.started.set_result(id_tag)
        return call_result.RemoteStartTransaction(status=RemoteStartStopStatus.accepted)


class Lenient:
    """A connection of aiohttp, which does not insist on the letter case of a subprotocol."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.send, self.recv = socket.send_str, socket.receive_str


async def serve(answer: str = "ocpp1.6") -> None:
    async def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        await CentralSystem(socket.request.path.rpartition("/")[2], socket).start()

    def select(_: ServerConnection, offered: Sequence[str]) -> str:
        equal([name.lower() for name in offered], [answer.lower()])
        return answer

    async with listen(handle, "127.0.0.1", 0, select_subprotocol=select) as server:
        say(next(iter(server.sockets)).getsockname()[1])
        await asyncio.Event().wait()


async def charge(socket: object) -> None:
    charger = Charger("CP_1", socket)
    charger.started = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(charger.start())
    boot = call.BootNotification(charge_point_model="M", charge_point_vendor="V")
    equal((await charger.call(boot)).status, "Accepted")
    equal(await charger.started, "CP_1")
    running.cancel()


async def talk() -> None:
    async with connect(
        f"{WS}/CP_1", subprotocols=["ocpp1.6"], additional_headers=HEADERS, proxy=None
    ) as socket:
        equal(socket.subprotocol, "ocpp1.6")
        await charge(socket)


async def lenient() -> None:
    async with (
        ClientSession() as session,
        session.ws_connect(f"{WS}/CP_1", protocols=["ocpp1.6"], headers=HEADERS) as socket,
    ):
        await charge(Lenient(socket))


async def insisting() -> None:
    """The client of websockets reads the answer of the server itself and refuses it."""
    try:
        await talk()
    except NegotiationError:
        return
    raise AssertionError("took the subprotocol in other letters")


async def refused() -> None:
    try:
        await talk()
    except InvalidStatus as error:
        equal(error.response.status_code, 502)
    else:
        raise AssertionError("connected")


main(
    {
        "serve": serve,
        "serve-upper": lambda: serve("OCPP1.6"),
        "talk": talk,
        "lenient": lenient,
        "insisting": insisting,
        "refused": refused,
    }
)
