"""Two joined sockets and the state of each. `relay.epoll_loop` moves the bytes between them.

Where a C compiler is available, this file is compiled; `pair.pxd` declares the types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.rate_limit import RateLimit


class End:
    """One socket of a pair, with or without `tls`. `lane` carries what it sends to `other`.

    With a lease the limiter need not be asked until `free_until` (epoch seconds), as long as fewer
    than `free_messages` have ended, and `free_octets` or less are received or announced.
    """

    __slots__ = (
        "announced", "begun", "ended", "fd", "free_messages", "free_octets", "free_until",
        "interest", "lane", "other", "pair", "queued", "rate_limit", "tls", "unsent",
    )  # fmt: skip

    other: End

    def __init__(
        self,
        fd: int,
        tls: ssl.SSLSocket | None,
        lane: Lane,
        pair: Pair,
        unsent: bytes,
        rate_limit: RateLimit | None,
    ) -> None:
        self.fd = fd
        self.tls = tls
        self.ended = False  # TLS met an end that epoll does not report again
        self.lane = lane
        self.pair = pair
        self.interest = 0
        self.queued = False  # postponed, with a rest on its lane
        self.unsent = unsent  # to be sent to this socket
        self.rate_limit = rate_limit  # for what this socket sends
        self.begun, self.announced = lane.begun(), lane.announced()  # what the limiter has counted
        self.free_messages = self.free_octets = 0
        self.free_until = 0.0

    def acquire_lease(self, messages: int, octets: int, until: float) -> None:
        """Let this much pass without a question, beyond what the limiter has counted."""
        # A message that has begun has not ended yet. What is announced does not include headers.
        self.free_messages = self.begun + messages
        self.free_octets = self.lane.octets + self.lane.need + octets
        self.free_until = until

    def release_lease(self) -> tuple[int, int]:
        """End the lease; returns the messages and octets that the limiter has not counted."""
        self.free_until = 0.0
        begun, announced = self.lane.begun(), self.lane.announced()
        messages, octets = begun - self.begun, announced - self.announced
        self.begun, self.announced = begun, announced
        return messages, octets


class Pair:
    """Two joined sockets. `on_release` is called when the poller does not watch them any more."""

    __slots__ = ("backend", "client", "failed")

    def __init__(
        self,
        sockets: tuple[int | ssl.SSLSocket, int | ssl.SSLSocket],
        lanes: tuple[Lane, Lane],
        unsent: tuple[bytes, bytes],
        rate_limits: tuple[RateLimit | None, RateLimit | None] = (None, None),
    ) -> None:
        """Take client and backend, in this order; `unsent` is what each still has to be sent.

        A plain socket is given by its number.
        """
        self.failed = False  # bytes were lost: the connection has to end
        self.client, self.backend = (
            End(sock, None, lane, self, data, rate_limit)
            if isinstance(sock, int)
            else End(sock.fileno(), sock, lane, self, data, rate_limit)
            for sock, lane, data, rate_limit in zip(
                sockets, lanes, unsent, rate_limits, strict=True
            )
        )
        self.client.other, self.backend.other = self.backend, self.client

    def unlink(self) -> None:
        """Remove the references between the two, so no garbage collector is needed."""
        self.client.other = self.backend.other = None  # type: ignore[assignment]
        self.client.pair = self.backend.pair = None  # type: ignore[assignment]

    def on_release(self) -> None:
        """Take over the pair: the poller does not watch it any more."""
        raise NotImplementedError
