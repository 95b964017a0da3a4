"""Clients and a backend that talk at random, and count every octet of it."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from support.backends import read_head, start_raw
from support.conversation import close, frame, split_frames
from trio_gw.wire.handshake import accept_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

    from support.backends import Backend

MASK = b"\x12\x34\x56\x78"


class Count:
    """What one side has sent, or what the other has received of it."""

    def __init__(self) -> None:
        self.frames = self.messages = self.octets = self.payload = 0

    def message(self, rng: random.Random, key: bytes | None) -> bytes:
        """Make a message in some frames, with a ping before one now and then; none is behind."""
        parts = rng.choice((1, 1, 1, 2, 5))
        made = bytearray()
        for part in range(parts):
            size = rng.choice((0, 1, rng.randrange(126), rng.randrange(126, 3000), 66_000))
            opcode = 0 if part else rng.choice((1, 2))
            if rng.random() < 0.2:
                made += frame(9, b"p" * rng.randrange(126), key=key)
            made += frame(opcode, b"x" * size, key=key, fin=part == parts - 1)
            self.payload += size
        self.frames += parts
        self.messages += 1
        self.octets += len(made)
        return bytes(made)

    def close(self, key: bytes | None) -> bytes:
        """Make a Close."""
        made = close(1000, b"done", key=key)
        self.octets += len(made)
        return made


class Peers:
    """One backend for all, and clients that come again and again."""

    def __init__(self, seed: int = 7) -> None:
        self._rng = random.Random(seed)
        self.sent, self.answered = Count(), Count()
        self.reached, self.returned = Count(), Count()  # the same, as it came to the other side
        self.opened: Counter[str] = Counter()
        self.hung_up = 0  # without a Close

    @property
    def said(self) -> dict[str, tuple[int, int, int, int]]:
        """What was sent, as messages, frames, payload and octets in each direction."""
        return {
            way: (count.messages, count.frames, count.payload, count.octets)
            for way, count in (("in", self.sent), ("out", self.answered))
        }

    def check(self) -> None:
        """Check that all of it came to the other side."""
        for one, other in ((self.sent, self.reached), (self.answered, self.returned)):
            assert (one.messages, one.frames, one.payload) == (
                *(other.messages, other.frames),
                other.payload,
            )

    async def start_backend(self, nursery: trio.Nursery) -> Backend:
        """Start the backend: it answers each message with one of its own."""
        return await start_raw(nursery, self._serve)

    async def _serve(self, stream: trio.SocketStream) -> None:
        head = await read_head(stream)
        key = next(
            line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: " + accept_key(key.partition(b": ")[2]) + b"\r\n\r\n"
        )
        while (code := await self._receive(stream, self.reached)) is None:
            await stream.send_all(self.answered.message(self._rng, None))
        if code == 1000:  # else the client has gone, and nobody would count what is said now
            await stream.send_all(self.answered.close(None))

    async def visit(self, topic: str, connect: Callable[[str], Awaitable[trio.abc.Stream]]) -> None:
        """Connect, exchange some messages, and leave: mostly, but not always, with a Close."""
        self.opened[topic] += 1
        async with await connect(topic) as stream:
            for _ in range(self._rng.randrange(12)):
                await stream.send_all(self.sent.message(self._rng, MASK))
                assert await self._receive(stream, self.returned) is None
            if self._rng.random() < 0.2:
                self.hung_up += 1
                return
            await stream.send_all(self.sent.close(MASK))
            assert await self._receive(stream, self.returned) == 1000
            while await stream.receive_some():
                pass

    async def _receive(self, stream: trio.abc.Stream, count: Count) -> int | None:
        """Read one message, and count it; returns the code of a Close, 1006 for an end."""
        rest = b""
        while True:
            seen, rest = split_frames(rest)
            for one in seen:
                if one.first & 0xF == 8:
                    return int.from_bytes(one.payload[:2], "big")
                if one.first & 0xF < 8:
                    count.frames += 1
                    count.payload += len(one.payload)
                    if one.first & 0x80:
                        assert not rest, "a message is answered before the next comes"
                        count.messages += 1
                        return None
            data = await stream.receive_some()
            if not data:
                return 1006
            rest += data
