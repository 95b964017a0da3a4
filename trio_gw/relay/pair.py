"""Two sockets that are joined on the road, and what is known of each; `relay.turn` serves them.

This file is compiled where a C compiler is at hand; `pair.pxd` says with which types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from trio_gw.relay.lane import Lane
    from trio_gw.relay.toll import Toll


class End:
    """One socket of a pair, with `tls` around it or not. `lane` carries what it says to `other`."""

    __slots__ = ("announced", "begun", "ended", "fd", "interest", "lane", "other", "pair", "tls",
                 "toll", "unsent", "waits")  # fmt: skip

    other: End

    def __init__(
        self,
        fd: int,
        tls: ssl.SSLSocket | None,
        lane: Lane,
        pair: Pair,
        unsent: bytes,
        toll: Toll | None,
    ) -> None:
        self.fd = fd
        self.tls = tls
        self.ended = False  # TLS has told something that no epoll set will show again
        self.lane = lane
        self.pair = pair
        self.interest = 0
        self.unsent = unsent  # for this socket, from the other one
        self.toll = toll  # for what this socket says
        self.begun, self.announced = lane.begun(), lane.announced()  # what the gate knows of
        self.waits = toll is not None and bool(toll.waiting)


class Pair:
    """Two joined sockets. `let_go` is called when they are no longer watched."""

    __slots__ = ("backend", "client")

    def __init__(
        self,
        sockets: tuple[int | ssl.SSLSocket, int | ssl.SSLSocket],
        lanes: tuple[Lane, Lane],
        unsent: tuple[bytes, bytes],
        tolls: tuple[Toll | None, Toll | None] = (None, None),
    ) -> None:
        """Take client and backend, in this order; `unsent` is what each still has to be sent.

        A plain socket is given by its number.
        """
        self.client, self.backend = (
            End(sock, None, lane, self, data, toll)
            if isinstance(sock, int)
            else End(sock.fileno(), sock, lane, self, data, toll)
            for sock, lane, data, toll in zip(sockets, lanes, unsent, tolls, strict=True)
        )
        self.client.other, self.backend.other = self.backend, self.client

    def part(self) -> None:
        """Forget that the two belong together, so that no garbage collector is needed."""
        self.client.other = self.backend.other = None  # type: ignore[assignment]
        self.client.pair = self.backend.pair = None  # type: ignore[assignment]

    def pause(self) -> None:
        """Hear that something waits at a gate, and has to be tried again."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Hear that this pair was dropped; it is someone else's from here on."""
        raise NotImplementedError
