"""The refusals that the proxy itself returns (spec: routing §9)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trio_gw.errors import Refusal, Side, router_refusal

if TYPE_CHECKING:
    from trio_gw.guard.caps import ConnectionCap

FULL_RETRY = 5  # seconds; value of Retry-After


def not_found(hint: str = "", why: str = "no route") -> Refusal:
    """Refuse a request that matches neither a route nor a built-in path (NR).

    `hint` tells the client what is wrong with the request, `why` is for the log.
    """
    description = f"The requested resource is not available. {hint}".rstrip()
    return router_refusal(404, "404", "Not Found", description, why=why)


def foreign_origin() -> Refusal:
    """Refuse a handshake from a web page with a foreign origin (RFC 6455 §10.2)."""
    description = "Web pages of this origin may not use the API."
    return router_refusal(403, "403", "Forbidden", description, why="origin not allowed")


def foreign_page() -> Refusal:
    """Refuse a request for a test key from a web page with a foreign origin."""
    description = "Web pages of this origin may not request keys; see cors.allow_origins."
    return router_refusal(403, "403", "Forbidden", description, why="origin not allowed")


def misdirected() -> Refusal:
    """Refuse a request for a host name that is not one of the listener (RFC 9110 §15.5.20)."""
    description = "Use the IP address or localhost: on loopback no other host name is accepted."
    return router_refusal(421, "421", "Misdirected Request", description, why="foreign host name")


def only_get() -> Refusal:
    """Refuse a method other than GET on a built-in path that supports only GET."""
    description = "Only GET is allowed here."
    return router_refusal(
        405, "405", "Method Not Allowed", description, headers=((b"allow", b"GET"),)
    )


def too_many(wait: float) -> Refusal:
    """Refuse a request to a built-in path beyond its rate limit."""
    seconds = max(1, math.ceil(wait))
    return router_refusal(
        429,
        "429",
        "Too Many Requests",
        f"Try again in {seconds} s.",
        headers=((b"retry-after", b"%d" % seconds),),
    )


def full(cap: ConnectionCap) -> Refusal:
    """Refuse a connection beyond a cap: 429 for a cap of the client, 503 for a global cap."""
    own = cap.name in ("address", "application")
    status, message = (429, "Too Many Requests") if own else (503, "Service Unavailable")
    refusal = router_refusal(
        status,
        str(status),
        message,
        f"The limit on connections {'of' if own else 'to'} this {cap.name} is reached.",
        headers=((b"retry-after", b"%d" % FULL_RETRY),),
        by=Side.CLIENT if own else Side.GATEWAY,
        why=f"{cap.most} connections per {cap.name} are open",
    )
    refusal.limit = cap.name
    return refusal


def exhausted(what: str, limit: str = "descriptors") -> Refusal:
    """Refuse a connection because the gateway itself lacks a resource."""
    refusal = router_refusal(
        503,
        "503",
        "Service Unavailable",
        "The gateway is overloaded. Try again in a moment.",
        headers=((b"retry-after", b"%d" % FULL_RETRY),),
        by=Side.GATEWAY,
        why=f"out of {limit}: {what}",
    )
    refusal.limit = limit
    return refusal


def starting() -> Refusal:
    """Refuse a request that may have a route after all projects are loaded."""
    return router_refusal(
        503,
        "503",
        "Service Unavailable",
        "The gateway is still loading its APIs. Try again in a moment.",
        headers=((b"retry-after", b"1"),),
        by=Side.GATEWAY,
        why="still starting",
    )


def too_slow(what: str, seconds: float) -> Refusal:
    """Refuse a client that did not send the head or body of its request in time."""
    description = f"No complete request {what} within {seconds:g} seconds."
    return router_refusal(408, "408", "Request Timeout", description)


def not_reading(seconds: float) -> Refusal:
    """Refuse a client that does not read the response."""
    description = f"The response was not read within {seconds:g} seconds."
    return router_refusal(408, "408", "Request Timeout", description, why="does not read")


def too_many_messages(wait: float) -> Refusal:
    """Refuse a plain HTTP request beyond a message limit, for `wait` seconds."""
    return router_refusal(
        429,
        "429",
        "Too Many Requests",
        "The limit on messages is reached.",
        headers=((b"retry-after", b"%d" % max(1, math.ceil(wait))),),
        why="limit on messages",
    )


def ended(reason: str) -> Refusal:
    """Refuse a plain HTTP request for a reason that would close a WebSocket."""
    return router_refusal(
        503,
        "503",
        "Service Unavailable",
        "The connection was ended by the gateway.",
        by=Side.GATEWAY,
        why=reason,
    )


def internal_error(error_id: str) -> Refusal:
    """Refuse because of a bug. The id finds the traceback in the log (UAEX)."""
    return router_refusal(
        500,
        "102500",
        "Unclassified Validation Failure",
        f"Error during validating the request. Error id {error_id}.",
        by=Side.GATEWAY,
        why=f"internal error {error_id}",
    )


def unreachable(why: str) -> Refusal:
    """Refuse because the backend could not be connected to (UF); only the log names it."""
    return router_refusal(
        503,
        "102503",
        "Upstream connection failed",
        "The backend could not be reached.",
        by=Side.BACKEND,
        why=why,
    )


def no_healthy_backend(why: str) -> Refusal:
    """Refuse because every backend was unhealthy, and still is (UH)."""
    return router_refusal(
        503,
        "102508",
        "No healthy upstream",
        "no healthy upstream",
        by=Side.BACKEND,
        why=why,
    )


def no_answer(seconds: float) -> Refusal:
    """Refuse because the backend did not respond in time (UT)."""
    return router_refusal(
        504,
        "102504",
        "Upstream connection timeout",
        "upstream request timeout",
        by=Side.BACKEND,
        why=f"no answer within {seconds:g} s",
    )
