"""Limits over real worker processes: all of them together let pass exactly what the tier says."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from support.backends import read_head, start_raw
from support.commands import Serving, port_of, start
from support.conversation import frame, split_frames
from support.costs import KEY, REQUEST
from support.projects import api, asyncapi, write
from trio_gw.wire.frames import BINARY
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.both_forms, pytest.mark.xdist_group("processor")]

EVENTS, WINDOWS, CLIENTS = 150, 5, 12


class Sink:
    """A backend that notes what has come, and in which second."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []

    async def __call__(self, stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: " + accept_key(KEY) + b"\r\n\r\n"
        )
        rest = b""
        while data := await stream.receive_some():
            seen, rest = split_frames(rest + data)
            now = int(time.time())
            self.heard += [(now, one.payload) for one in seen if one.opcode == BINARY]


async def pour(port: int, number: int, messages: int, done: set[int]) -> None:
    """Connect, and send numbered messages as fast as they are taken, in chunks of any size."""
    dice = random.Random(number)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(REQUEST)
        head = await read_head(stream)
        assert head.startswith(b"HTTP/1.1 101 ")
        said = 0
        while said < messages:
            count = min(dice.choice((1, 2, 30)), messages - said)
            parts = [b"%d.%d" % (number, said + step) for step in range(count)]
            await stream.send_all(b"".join(frame(BINARY, part, key=b"1234") for part in parts))
            said += count
        done.add(number)
        await trio.sleep_forever()


@pytest.mark.parametrize("action", ["pause", "drop"])
async def test_four_workers_let_pass_exactly_so_many(
    base: Path, running: list[Serving], nursery: trio.Nursery, action: str
) -> None:
    sink = Sink()
    backend = await start_raw(nursery, sink)
    # What is dropped has to fit into one window; what waits is there for several.
    per, share = ("1s", EVENTS * WINDOWS // CLIENTS + 1) if action == "pause" else ("1d", 100)
    (base / "gateway.toml").write_text(
        f'workers = 4\n[tiers.Few]\nevents = {EVENTS}\nper = "{per}"\non_exceed = "{action}"\n'
    )
    meta = api("One", "/one", f"ws://127.0.0.1:{backend.port}", apiThrottlingPolicy="Few")
    write(base / "apis", "one", meta, asyncapi({"/a": {"publish": {}, "x-auth-type": "None"}}))
    serving = await start(base, "run")
    running.append(serving)
    port = port_of(await serving.read_until("err", "listening on https://["))
    with trio.fail_after(30):
        while serving.err.count(" trio_gw: ready") < 4:
            assert serving.process.stderr is not None
            serving.err += (await serving.process.stderr.receive_some()).decode()
    expected = EVENTS if action == "drop" else share * CLIENTS
    done: set[int] = set()
    with trio.fail_after(60):
        async with trio.open_nursery() as talking:
            for number in range(CLIENTS):
                talking.start_soon(pour, port, number, share, done)
            while len(sink.heard) < expected or len(done) < CLIENTS:
                await trio.testing.wait_all_tasks_blocked(0.02)
            await trio.testing.wait_all_tasks_blocked(0.2)  # for what should not come
            talking.cancel_scope.cancel()
    assert len(sink.heard) == expected
    assert len({payload for _, payload in sink.heard}) == expected, "each but once"
    if action == "pause":
        for number in range(CLIENTS):
            own = [
                int(part.split(b".")[1])
                for _, part in sink.heard
                if part.startswith(b"%d." % number)
            ]
            assert own == list(range(share)), "nothing is lost, and nothing overtakes"
        # The sum up to every window: what comes late is of the window before.
        heard = Counter(second for second, _ in sink.heard)
        first, total = min(heard), 0
        for second in sorted(heard):
            total += heard[second]
            assert total <= EVENTS * (second - first + 2)
