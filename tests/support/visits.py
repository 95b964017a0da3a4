"""Handshakes as the guard sees them: a topic's demand, and headers with credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_gw.guard.credentials import CredentialPlaces, take
from trio_gw.guard.revocations import Revocations
from trio_gw.guard.schemes import AccessPolicy, Handshake, Verifiers, authenticate
from trio_gw.wire.fields import by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trio_gw.guard.caller import Caller
    from trio_gw.guard.tokens import Tokens


def lookup(headers: Iterable[tuple[bytes, bytes]]) -> Callable[[bytes], Sequence[bytes]]:
    """Find headers by name, as a request head does."""
    named = by_name(headers)
    return lambda name: named.get(name, ())


async def visit(
    guard: Tokens | Verifiers,
    headers: Iterable[tuple[bytes, bytes]],
    now: float,
    *,
    places: CredentialPlaces | None = None,
    query: str = "",
    protocols: tuple[str, ...] = (),
    address: str = "192.0.2.1",
    referers: tuple[bytes, ...] = (),
    **demand: Any,
) -> Caller:
    """Authenticate a handshake on a topic that asks for this; it is `/t` unless told."""
    presented, _ = take(places or CredentialPlaces(), lookup(headers), query, protocols)
    asked = AccessPolicy(**({"topic": "/t"} | demand))
    whole = guard if isinstance(guard, Verifiers) else Verifiers(guard, Revocations())
    return await authenticate(whole, asked, Handshake(now, address, presented, referers))
