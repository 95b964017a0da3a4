"""The refusals that the data plane itself makes (spec: routing §9)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trio_gw.errors import Refusal, Side, router_refusal

if TYPE_CHECKING:
    from trio_gw.guard.caps import Cap

FULL_RETRY = 5  # seconds after which a place may be free


def not_found(hint: str = "", why: str = "no route") -> Refusal:
    """Refuse a request that no route and no built-in path matches (NR).

    `hint` tells the client what is wrong with its request, `why` is for the log.
    """
    description = f"The requested resource is not available. {hint}".rstrip()
    return router_refusal(404, "404", "Not Found", description, why=why)


def foreign_origin() -> Refusal:
    """Refuse a handshake that a web page makes which is not on the list (RFC 6455 §10.2)."""
    description = "Web pages of this origin may not use the API."
    return router_refusal(403, "403", "Forbidden", description, why="origin not allowed")


def foreign_page() -> Refusal:
    """Refuse a request for a test key that a web page makes which is not on the list."""
    description = "Web pages of other origins may not ask for keys; see cors.allow_origins."
    return router_refusal(403, "403", "Forbidden", description, why="origin not allowed")


def misdirected() -> Refusal:
    """Refuse a request to a name that is not the listener's (RFC 9110 §15.5.20)."""
    description = "Ask for the address or localhost: on loopback no other name is answered."
    return router_refusal(421, "421", "Misdirected Request", description, why="foreign host name")


def only_get() -> Refusal:
    """Refuse another method than GET on a path of the gateway's own that has no other."""
    description = "Only GET is answered here."
    return router_refusal(
        405, "405", "Method Not Allowed", description, headers=((b"allow", b"GET"),)
    )


def too_many(wait: float) -> Refusal:
    """Refuse a request to a path of the gateway's own that is asked for too often."""
    seconds = max(1, math.ceil(wait))
    return router_refusal(
        429,
        "429",
        "Too Many Requests",
        f"Try again in {seconds} s.",
        headers=((b"retry-after", b"%d" % seconds),),
    )


def full(cap: Cap) -> Refusal:
    """Refuse a connection beyond a cap: of the client's own (429), or of all (503)."""
    own = cap.name in ("address", "application")
    status, message = (429, "Too Many Requests") if own else (503, "Service Unavailable")
    return router_refusal(
        status,
        str(status),
        message,
        f"There are as many connections to this {cap.name} as there may be."
        if not own
        else f"There are as many connections of this {cap.name} as there may be.",
        headers=((b"retry-after", b"%d" % FULL_RETRY),),
        by=Side.CLIENT if own else Side.GATEWAY,
        why=f"{cap.most} connections per {cap.name} are open",
        limit=cap.name,
    )


def exhausted(what: str, limit: str = "descriptors") -> Refusal:
    """Refuse a connection because the gateway itself is short of something."""
    return router_refusal(
        503,
        "503",
        "Service Unavailable",
        "The gateway is overloaded. Try again in a moment.",
        headers=((b"retry-after", b"%d" % FULL_RETRY),),
        by=Side.GATEWAY,
        why=f"out of {limit}: {what}",
        limit=limit,
    )


def starting() -> Refusal:
    """Refuse a request that may have a route once all projects are loaded."""
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
    """Refuse a client that did not send its request's head or body in time."""
    description = f"No complete request {what} within {seconds:g} seconds."
    return router_refusal(408, "408", "Request Timeout", description)


def not_reading(seconds: float) -> Refusal:
    """Refuse a client that does not read the answer to its request."""
    description = f"Nothing was read within {seconds:g} seconds."
    return router_refusal(408, "408", "Request Timeout", description, why="does not read")


def too_many_messages(wait: float) -> Refusal:
    """Refuse a plain request that a limit on messages has no room for, for `wait` seconds."""
    return router_refusal(
        429,
        "429",
        "Too Many Requests",
        "There were as many messages as there may be.",
        headers=((b"retry-after", b"%d" % max(1, math.ceil(wait))),),
        why="limit on messages",
    )


def ended(reason: str) -> Refusal:
    """Refuse a plain request because what a WebSocket would be closed for has happened."""
    return router_refusal(
        503,
        "503",
        "Service Unavailable",
        "The connection was ended by the gateway.",
        by=Side.GATEWAY,
        why=reason,
    )


def internal_error(error_id: str) -> Refusal:
    """Refuse because of a bug; the id finds the traceback in the log (UAEX)."""
    return router_refusal(
        500,
        "102500",
        "Unclassified Validation Failure",
        f"Error during validating the request. Error id {error_id}.",
        by=Side.GATEWAY,
        why=f"internal error {error_id}",
    )


def unreachable(why: str) -> Refusal:
    """Refuse because the backend could not be connected to (UF); only the log says which."""
    return router_refusal(
        503,
        "102503",
        "Upstream connection failed",
        "The backend could not be reached.",
        by=Side.BACKEND,
        why=why,
    )


def no_healthy_backend(why: str) -> Refusal:
    """Refuse because every backend was known to be down, and still is (UH)."""
    return router_refusal(
        503,
        "102508",
        "No healthy upstream",
        "no healthy upstream",
        by=Side.BACKEND,
        why=why,
    )


def no_answer(seconds: float) -> Refusal:
    """Refuse because the backend did not answer in time (UT)."""
    return router_refusal(
        504,
        "102504",
        "Upstream connection timeout",
        "upstream request timeout",
        by=Side.BACKEND,
        why=f"no answer within {seconds:g} s",
    )
