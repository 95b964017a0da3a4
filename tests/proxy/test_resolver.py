"""Addresses are cached, looked up once at a time, and survive a DNS outage."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from trio_gw.proxy import resolver as resolver_module
from trio_gw.proxy.resolver import Resolver

if TYPE_CHECKING:
    from trio.testing import MockClock


class Names:
    """A DNS under the test's control, in place of the system's; no network is there to ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = "127.0.0.1"
        self.asked: list[Any] = []
        self.answers = threading.Event()
        self.answers.set()
        self.waiting = trio.Event()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(
        self, host: bytes, port: int, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:  # Trio asks first whether it is an address already
            return list(self._real(host, port, family, kind, proto, flags))
        self.asked.append(host)
        if not self.answers.is_set():
            trio.from_thread.run_sync(self.waiting.set)
            self.answers.wait()
        if not self.address:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


async def address(resolver: Resolver, host: bytes = b"backend.example") -> str:
    found = await resolver.getaddrinfo(host, 80)
    return str(found[0][4][0])


async def test_remembered_then_asked_anew(names: Names, mock_clock: MockClock) -> None:
    resolver = Resolver(5)
    assert await address(resolver) == "127.0.0.1"
    names.address = "127.0.0.2"
    mock_clock.jump(4.9)
    assert await address(resolver) == "127.0.0.1"
    mock_clock.jump(0.2)
    assert await address(resolver) == "127.0.0.2"
    assert len(names.asked) == 2


async def test_last_addresses_outlive_an_outage(names: Names, mock_clock: MockClock) -> None:
    resolver = Resolver(5)
    assert await address(resolver) == "127.0.0.1"
    names.address = ""
    mock_clock.jump(100)
    assert await address(resolver) == "127.0.0.1"
    with pytest.raises(OSError, match="Temporary failure"):
        await address(resolver, b"other.example")
    names.address = "127.0.0.9"
    mock_clock.jump(5)
    assert await address(resolver) == "127.0.0.9"
    assert await address(resolver, b"other.example") == "127.0.0.9"


async def test_last_addresses_do_not_wait_for_a_slow_dns(
    names: Names, mock_clock: MockClock
) -> None:
    resolver = Resolver(5)
    assert await address(resolver) == "127.0.0.1"
    found: list[str] = []

    async def ask() -> None:
        found.append(await address(resolver))

    names.address = "127.0.0.2"
    names.answers.clear()
    try:
        mock_clock.jump(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await names.waiting.wait()
            mock_clock.jump(resolver_module.REFRESH_WAIT)
            nursery.cancel_scope.deadline = trio.current_time() + 1
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(2)
        assert found == ["127.0.0.1"] * 2
        assert await address(resolver) == "127.0.0.1"
        assert len(names.asked) == 2
        # The thread that still waits is none of those that read files.
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        names.answers.set()
    mock_clock.jump(5)
    assert await address(resolver) == "127.0.0.2"


async def test_many_askers_one_question(names: Names) -> None:
    resolver = Resolver(5)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(address, resolver)
    assert names.asked == [b"backend.example"]


async def test_an_asker_that_gives_up_does_not_block_the_others(names: Names) -> None:
    resolver = Resolver(5)
    with trio.CancelScope() as scope:
        scope.cancel()
        await address(resolver)
    with trio.fail_after(5):
        assert await address(resolver) == "127.0.0.1"


async def test_trio_uses_it(names: Names) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(5))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    for _ in range(3):
        async with await trio.open_tcp_stream("backend.example", port):
            pass
    assert len(names.asked) == 1
    await listeners[0].aclose()
