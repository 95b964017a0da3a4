"""Limiters for a relay, and the scenes that every driver has to play the same way behind one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from support.conversation import frame
from trio_gw.config.tiers import Tier
from trio_gw.errors import Side
from trio_gw.guard.rate_limits import Level, RateLimits
from trio_gw.guard.window_blocks import width
from trio_gw.relay.rate_limit import RateLimit
from trio_gw.supervision.shared_memory import Counters
from trio_gw.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.relays import Peer, Relay

EXCEEDED = "API limit t exceeded"


def rate_limits(
    clock: Callable[[], float], limit: int, action: Any = "drop", **more: Any
) -> dict[Side, RateLimit]:
    """Limit both directions of an API by the tier `t`; the directions count as it says."""
    tier = Tier("t", limit, on_exceed=action, **more)
    made = RateLimits({"t": tier}, lambda _: None, Counters(1, width({"t": tier})))
    limiters = made.limiters([Level("API", "t", "k")], clock())
    assert limiters is not None
    return {
        Side.CLIENT: RateLimit(limiters.publish, clock, masked=True),
        Side.BACKEND: RateLimit(limiters.subscribe, clock, masked=False),
    }


def says(peer: Peer, *payloads: bytes) -> bytes:
    """Write messages as this peer does."""
    return b"".join(frame(frames.BINARY, payload, key=peer.key) for payload in payloads)


def numbered(count: int) -> list[bytes]:
    """Give so many payloads that can be told apart."""
    return [b"%d" % number for number in range(count)]


async def two_of_seven_wait(relay: Relay) -> None:
    """Let the client say more than the five that it may; returns when the rest waits."""
    await relay.client.sends(says(relay.client, *numbered(7)))
    for payload in numbered(5):
        await relay.backend.hears(payload)
    assert relay.rate_limits[Side.CLIENT].paused


async def client_has_left(relay: Relay) -> None:
    """See the backend answer the goodbye that the client has said, and both leave."""
    await relay.backend.is_told(1000)
    await relay.backend.closes(1000)
    await relay.client.is_told(1000)
    await both_hang_up(relay)
    await relay.ends("client", 1000)


async def client_leaves(relay: Relay) -> None:
    """Let the client say goodbye, and the backend answer."""
    await relay.client.closes(1000)
    await client_has_left(relay)


async def backend_leaves(relay: Relay) -> None:
    """Let the backend say goodbye, and the client answer."""
    await relay.backend.closes(1001)
    await relay.client.is_told(1001)
    await relay.client.closes(1001)
    await relay.backend.is_told(1001)
    await both_hang_up(relay)
    await relay.ends("backend", 1001)


async def gateway_ends(relay: Relay, code: int = 1008, reason: str = EXCEEDED) -> None:
    """See the gateway say goodbye to both, and both answer."""
    for peer in (relay.client, relay.backend):
        await peer.is_told(code, reason)
        await peer.closes(code)
    await both_hang_up(relay)
    await relay.ends("gateway", code, reason)


async def both_hang_up(relay: Relay) -> None:
    """Close both connections."""
    await relay.client.hangs_up()
    await relay.backend.hangs_up()


async def sender_is_held_up(relay: Relay) -> None:
    """Let the client send without end where one message may pass: no more is read than waits."""
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            await relay.client.sends(says(relay.client, bytes(60_000)))
            sent += 60_000

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pour)
        assert (await relay.backend.gets()).payload == bytes(60_000)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert relay.publish.octets <= 4 * 65536
        assert relay.publish.octets < sent + 60_000, "the sender is held up"
        nursery.cancel_scope.cancel()
