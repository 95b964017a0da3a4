"""Why a connection ended, for people: close codes, and the gateway's own reasons. Pure.

`explain_close` looks a Close frame up; `explained_refusals` does the same for HTTP answers. A test
fails if the gateway can close a connection for a reason that is not here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from trio_gw.errors import Side

YOU = "you"


class Explanation(msgspec.Struct, frozen=True):
    """What is known about an end. `who`: `you`, `gateway`, `backend`, or empty if not known."""

    code: str
    reason: str
    who: str
    what: str
    advice: str = ""


class CodeMeaning(NamedTuple):
    """The meaning of a close code: its name in the registry, what happened, what to do."""

    name: str
    what: str
    advice: str = ""


CODES: dict[int, CodeMeaning] = {
    1000: CodeMeaning("Normal Closure", "The connection did its job and was closed."),
    1001: CodeMeaning(
        "Going Away",
        "One side left: a page was closed, or a server stops or gives up an idle connection.",
        "Connect again when you need it.",
    ),
    1002: CodeMeaning(
        "Protocol Error",
        "One side broke the rules of WebSocket frames.",
        "Look at the last frames; a library or a proxy between writes wrong ones.",
    ),
    1003: CodeMeaning(
        "Unsupported Data",
        "A message of a kind came that the other side does not take: binary or text.",
        "Send the other kind; the topic's description says which.",
    ),
    1004: CodeMeaning("Reserved", "This code has no meaning and must not be sent."),
    1005: CodeMeaning(
        "No Status Received",
        "The connection was closed properly, without a code.",
        "Nothing is wrong; a Close frame needs no code.",
    ),
    1006: CodeMeaning(
        "Abnormal Closure",
        "The connection ended without a Close frame. A browser says the same when the handshake"
        " was refused, and hides why.",
        "Connect through the gateway to see the answer. If the connection was open before: a"
        " process died, or the network or a proxy cut it.",
    ),
    1007: CodeMeaning(
        "Invalid Payload",
        "A text message was not valid UTF-8, or did not fit what the other side expects.",
        "Send text as UTF-8, other bytes as binary.",
    ),
    1008: CodeMeaning(
        "Policy Violation",
        "A rule forbids the connection to go on.",
        "The reason names the rule.",
    ),
    1009: CodeMeaning(
        "Message Too Big",
        "A message was larger than the other side takes.",
        "Send smaller messages, or ask the publisher to raise the limit of the topic.",
    ),
    1010: CodeMeaning(
        "Mandatory Extension",
        "The client asked for an extension that the server did not accept.",
        "Connect without the extension.",
    ),
    1011: CodeMeaning(
        "Internal Error",
        "The other side met an error that it did not expect.",
        "Try again; if it stays, look into the log of the side that closed.",
    ),
    1012: CodeMeaning("Service Restart", "The server restarts.", "Connect again in a moment."),
    1013: CodeMeaning(
        "Try Again Later", "The server is overloaded.", "Connect again later, with a growing pause."
    ),
    1014: CodeMeaning(
        "Bad Gateway",
        "A gateway got an invalid answer from the server behind it.",
        "Look at the server behind.",
    ),
    1015: CodeMeaning(
        "TLS Handshake",
        "The TLS handshake failed: most often the certificate is not trusted.",
        "Open the host in a browser tab to see what is wrong with its certificate.",
    ),
}


class ReasonMeaning(NamedTuple):
    """The meaning of a reason that the gateway itself gives; `pattern` matches all of it."""

    pattern: str
    what: str
    advice: str


_ASK = "Ask an administrator of the gateway"
_SUBSCRIBE = "Subscribe the application to this version of the API"

REASONS: tuple[ReasonMeaning, ...] = (
    ReasonMeaning(
        "token expired",
        "The token that opened the connection has expired.",
        "Get a new token and connect again; ask for a longer life if this comes too often.",
    ),
    ReasonMeaning(
        "token revoked",
        "The token, its key, application or subscription was revoked.",
        "Generate a new token. If it is refused, too, the right was taken away on purpose.",
    ),
    ReasonMeaning(
        r"(api|API) (is )?blocked",
        "The API is blocked: its publisher stopped it for a while.",
        "Try later, or ask the publisher.",
    ),
    ReasonMeaning(
        r"address is blocked",
        "A deny condition covers the address that you connect from.",
        f"{_ASK} to remove the condition.",
    ),
    ReasonMeaning(
        r"(application|user|subscription) is blocked",
        "A deny condition covers your application, user or subscription.",
        f"{_ASK} to remove the condition.",
    ),
    ReasonMeaning(
        r"idle for .* s",
        "No frame passed in either direction for the time in the reason.",
        "Send a Ping every 30 seconds, or set `timeouts.idle` higher.",
    ),
    ReasonMeaning(
        r"open for .* s",
        "The connection reached the longest life that the gateway allows.",
        "Connect again; `timeouts.lifetime` is the setting.",
    ),
    ReasonMeaning(
        r".+ limit .+ exceeded",
        "More messages or bytes were sent than the tier in the reason allows.",
        "Wait for the next window and send less, or subscribe with a larger tier.",
    ),
    ReasonMeaning(
        "API was undeployed",
        "The API or this topic is no longer served.",
        "Look in the catalogue for a newer version.",
    ),
    ReasonMeaning(
        "API not known to the control plane",
        "API Manager does not know this API.",
        "The publisher has to deploy it there.",
    ),
    ReasonMeaning(
        r"application( key)? removed",
        "The application, or the key that the token was made with, was removed.",
        "Generate a key for an application that exists, and a new token.",
    ),
    ReasonMeaning("subscription removed", "The subscription was removed.", f"{_SUBSCRIBE}."),
    ReasonMeaning(
        "subscription (blocked|not active)",
        "The subscription is blocked, on hold or rejected.",
        "Ask the publisher of the API to unblock or approve it.",
    ),
    ReasonMeaning(
        "nobody is subscribed to the API|subscription ended",
        "The application is not subscribed to this API any more.",
        f"{_SUBSCRIBE}, then get a new token.",
    ),
    ReasonMeaning(
        "gateway is shutting down|stopped",
        "The gateway stops or restarts.",
        "Connect again in a moment.",
    ),
    ReasonMeaning(
        "gateway is short of memory",
        "The gateway ended connections because its memory is nearly used up.",
        "Connect again later, with a growing pause.",
    ),
    ReasonMeaning(
        "backend connection lost",
        "The backend's connection broke without a Close frame.",
        "Look into the log of the backend: it died, restarted, or a proxy in front of it cut.",
    ),
    ReasonMeaning(
        "client connection lost",
        "The client's connection broke without a Close frame.",
        "Nothing, if the client was closed; else look at its network.",
    ),
    ReasonMeaning(
        "connection (lost|ended without a Close frame)",
        "One side hung up without a Close frame.",
        "Close a WebSocket with its close function before the process ends.",
    ),
    ReasonMeaning(
        r"(client|backend): message of more than .*",
        "A message was larger than the gateway lets pass on this topic.",
        "Send smaller messages, or raise `x-trio-gw-max-message`.",
    ),
    ReasonMeaning(
        r"(client|backend): (text that|close reason) is not UTF-8.*",
        "A text was not valid UTF-8.",
        "Send other bytes as binary messages.",
    ),
    ReasonMeaning(
        r"(client|backend): .*",
        "The side in the reason sent a frame that RFC 6455 forbids.",
        "It is a fault of that side's WebSocket library, or it wrote frames by hand.",
    ),
    ReasonMeaning(
        r"internal error .*",
        "The gateway met a fault of its own.",
        f"{_ASK}: the id finds the traceback in the log.",
    ),
    ReasonMeaning(
        "closed by (an )?(administrator|operator)",
        "An administrator closed this connection.",
        f"{_ASK}.",
    ),
)

# How reasons begin that the gateway gives when another side ended the connection.
_ABOUT_A_SIDE = ("backend", "client", "connection ")
_SIDES = {Side.CLIENT: YOU, Side.GATEWAY: "gateway", Side.BACKEND: "backend"}


def known_reason(reason: str) -> ReasonMeaning | None:
    """Find the gateway's reason; None if it is not one of them."""
    return next((one for one in REASONS if re.fullmatch(one.pattern, reason, re.DOTALL)), None)


def explain_close(code: int, reason: str, by: Side | None) -> Explanation:
    """Explain how a connection ended; `by` is the side that ended it, None if nobody knows."""
    meaning = CODES.get(code)
    who = "" if by is None else _SIDES[by]
    # A backend may write what it likes, so only the gateway's own reasons have that meaning.
    own = by in (None, Side.GATEWAY) or reason.startswith(_ABOUT_A_SIDE)
    if own and (found := known_reason(reason)) is not None:
        return Explanation(str(code), reason, who, found.what, found.advice)
    if meaning is None:
        kind = "an application" if 4000 <= code <= 4999 else "a library or framework"
        known = 3000 <= code <= 4999
        what = f"A code of {kind}." if known else "A code that is not registered."
        if known and by is not Side.CLIENT:
            what += " Its meaning is a matter of the backend."
        return Explanation(str(code), reason, who, what, "Look it up in the API's documents.")
    advice = meaning.advice if by is not Side.CLIENT or code not in (1000, 1001, 1005) else ""
    return Explanation(str(code), reason, who, meaning.what, advice)
