"""What a side of a connection says, made up at random, and what of it passes a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from support.conversation import frame
from trio_gw.wire import frames

if TYPE_CHECKING:
    import random


class Flow(NamedTuple):
    """What a side says, and what of it has to arrive."""

    said: bytes
    arrives: list[tuple[int, bytes]]
    dropped: int


def flow(dice: random.Random, key: bytes | None, limit: int, *, octets: bool, rsv: int) -> Flow:
    """Make up messages, in fragments with control frames among them, and limit them."""
    said, arrives, used, dropped = b"", [], 0, 0
    for _ in range(dice.randrange(1, 60)):
        sizes = [
            dice.choice((0, 1, 30, 125, 126, 3000, 70_000)) for _ in range(dice.choice((1, 1, 3)))
        ]
        passes = used < limit
        dropped += not passes
        if passes:
            used += sum(sizes) if octets else 1
        for at, size in enumerate(sizes):
            first = (
                frames.CONTINUATION if at else frames.BINARY | (rsv if dice.random() < 0.5 else 0)
            )
            first |= frames.FIN if at == len(sizes) - 1 else 0
            payload = dice.randbytes(size)
            data = frame(first & 0x0F, payload, key=key)
            said += bytes([first]) + data[1:]
            if passes:
                arrives.append((first, payload))
            if dice.random() < 0.3:
                said += frame(frames.PING, b"%d" % at, key=key)
                arrives.append((frames.FIN | frames.PING, b"%d" % at))
    return Flow(said, arrives, dropped)
