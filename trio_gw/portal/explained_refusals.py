"""Why a handshake was refused, for people: each code of the gateway's HTTP answers. Pure.

A test fails if the gateway can refuse with a code that is not here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from trio_gw.portal.explanations import YOU, Explanation

GATEWAY, BACKEND = "gateway", "backend"


class RefusalMeaning(NamedTuple):
    """The meaning of a refusal with this `code`, and with a text in its body, if one is given."""

    code: str
    who: str
    what: str
    advice: str
    pattern: str = ""


_AGAIN = "Get a new token: a test key, or one for your application."
_THROTTLED = "Wait until the time in Retry-After, or subscribe with a larger tier."

REFUSALS: tuple[RefusalMeaning, ...] = (
    RefusalMeaning(
        "900901",
        YOU,
        "The API has no backend for this type of key: production or sandbox.",
        "Use a key of the other type.",
        r"[Kk]ey (offered|type)",
    ),
    RefusalMeaning(
        "900901",
        YOU,
        "No token came with the handshake, or not in the place where the API expects it, or what"
        " came is no token.",
        "Choose a test key, or paste a token. Browsers send it as the subprotocols bearer, TOKEN.",
        r'"Make sure you have provided',
    ),
    RefusalMeaning(
        "900901",
        YOU,
        "The token is revoked.",
        _AGAIN,
        r"Invalid JWT token",
    ),
    RefusalMeaning(
        "900901",
        YOU,
        "The API asks for a client certificate, or does not take the one that came.",
        "Connect over wss:// with a certificate that the API names.",
        r"certificate",
    ),
    RefusalMeaning(
        "900901",
        YOU,
        "The credential is not valid: not a token of an issuer that is trusted here, a wrong"
        " signature, or cut when it was copied.",
        f"{_AGAIN} Check that nothing is missing at its end.",
    ),
    RefusalMeaning(
        "900900",
        GATEWAY,
        "The token cannot be checked: the keys of its issuer are not to be had.",
        "Try again shortly. If it stays, look at the issuer's `jwks` or `certificate` setting.",
    ),
    RefusalMeaning("900903", YOU, "The token has expired.", _AGAIN),
    RefusalMeaning("900904", YOU, "The issuer says that the token is not active.", _AGAIN),
    RefusalMeaning(
        "900905", YOU, "The token is not for this resource.", "Use a token for this API."
    ),
    RefusalMeaning(
        "900907",
        YOU,
        "The subscription is blocked, at least for this type of key.",
        "Ask the publisher of the API to unblock it.",
    ),
    RefusalMeaning(
        "900908",
        YOU,
        "The token is valid, but its application is not subscribed to this API.",
        "Subscribe the application to this version, then get a new token.",
        r"Subscription validation failed",
    ),
    RefusalMeaning(
        "900908",
        YOU,
        "The token is valid, but not for this API.",
        "Use a token for this API.",
    ),
    RefusalMeaning(
        "900909",
        YOU,
        "The subscription is on hold or was rejected.",
        "Ask the publisher of the API to approve it.",
    ),
    RefusalMeaning(
        "900910",
        YOU,
        "The token has none of the scopes that the topic asks for.",
        "Tick the topic's scopes for the test key, or ask for them when you get the token.",
    ),
    RefusalMeaning(
        "900805",
        YOU,
        "A deny condition covers your address, user, application or subscription.",
        "Ask an administrator of the gateway to remove it.",
    ),
    RefusalMeaning("900800", YOU, "The limit of the API is used up.", _THROTTLED),
    RefusalMeaning("900801", YOU, "A hard limit of the gateway is used up.", _THROTTLED),
    RefusalMeaning("900802", YOU, "The limit of the topic is used up.", _THROTTLED),
    RefusalMeaning("900803", YOU, "The limit of the application is used up.", _THROTTLED),
    RefusalMeaning("900804", YOU, "The limit of the subscription is used up.", _THROTTLED),
    RefusalMeaning("900806", YOU, "A custom limit of API Manager is used up.", _THROTTLED),
    RefusalMeaning(
        "700700",
        GATEWAY,
        "The API is blocked: its publisher stopped it for a while.",
        "Try later, or ask the publisher.",
    ),
    RefusalMeaning(
        "102503",
        BACKEND,
        "The gateway could not connect to the backend.",
        "Start the backend, or correct its URL in the API. The gateway's log names the error.",
    ),
    RefusalMeaning(
        "102504",
        BACKEND,
        "The backend took the connection but did not answer the upgrade in time.",
        "Look at the backend: it hangs, or is no WebSocket server.",
    ),
    RefusalMeaning(
        "102508",
        BACKEND,
        "Every backend of the API is marked as down, and still is.",
        "Start a backend; it is tried again by itself.",
    ),
    RefusalMeaning(
        "102510",
        BACKEND,
        "The backend closed the connection without an answer to the upgrade.",
        "Look into the backend's log. A wrong scheme does this, too: ws:// to a TLS port.",
    ),
    RefusalMeaning(
        "102515",
        BACKEND,
        "The backend answered something that is no valid WebSocket handshake.",
        "Check URL and path of the backend; the description says what is wrong.",
    ),
    RefusalMeaning(
        "102500",
        GATEWAY,
        "The gateway met a fault of its own.",
        "Tell an administrator the error id; it finds the traceback in the log.",
    ),
    RefusalMeaning(
        "400",
        YOU,
        "The token came twice, in two places.",
        "Send it once: in a header, as a subprotocol, or in the query.",
        r"in one place",
    ),
    RefusalMeaning(
        "400",
        YOU,
        "The request is malformed; the description says what is wrong.",
        "Check path parameters, query and headers for characters that are not allowed.",
    ),
    RefusalMeaning(
        "403",
        YOU,
        "The API does not let web pages of this origin connect.",
        "Add the origin to the CORS settings of the API or of the gateway.",
    ),
    RefusalMeaning(
        "404",
        YOU,
        "No topic of any API on this host matches the path.",
        "Check context, version and topic, and that the host is the one the API is deployed on.",
    ),
    RefusalMeaning("405", YOU, "A topic is opened with GET.", "Use a WebSocket client."),
    RefusalMeaning(
        "408", YOU, "The request did not come in time.", "Look at the network, then try again."
    ),
    RefusalMeaning(
        "413", YOU, "The body of the request is too large.", "A handshake needs no body."
    ),
    RefusalMeaning("414", YOU, "The URL is too long.", "Shorten the query or a path parameter."),
    RefusalMeaning(
        "417", YOU, "The header Expect has an unknown value.", "Remove the header Expect."
    ),
    RefusalMeaning(
        "421",
        YOU,
        "The host name is not one of this listener.",
        "Use localhost or a name of the gateway.",
    ),
    RefusalMeaning(
        "426",
        YOU,
        "The request is no WebSocket upgrade of version 13.",
        "Use a WebSocket client; a proxy between must pass Upgrade and Connection on.",
    ),
    RefusalMeaning(
        "429",
        YOU,
        "Too many connections or requests of this client.",
        "Close connections that you do not need, and wait for the time in Retry-After.",
    ),
    RefusalMeaning(
        "431", YOU, "The headers of the request are too large.", "Send fewer or shorter headers."
    ),
    RefusalMeaning(
        "503",
        GATEWAY,
        "The gateway cannot take the connection now: it starts, is full, or lacks memory.",
        "Try again after the time in Retry-After.",
    ),
    RefusalMeaning(
        "505", YOU, "The request is not HTTP/1.1.", "A proxy between must speak HTTP/1.1."
    ),
)
CODES = frozenset(one.code for one in REFUSALS)

_BACKENDS = {
    401: "The backend itself asks for a credential, and did not take what came.",
    403: "The backend itself forbids this.",
    404: "The backend does not know the path that the topic is mapped to.",
    426: "The backend says that this is no WebSocket handshake.",
}


class _Body(msgspec.Struct):
    code: str = ""


def code_of(body: bytes) -> str:
    """Return the code in the body of a refusal of the gateway, empty if it is none."""
    try:
        return msgspec.json.decode(body, type=_Body).code
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def explain_refusal(status: int, body: bytes) -> Explanation:
    """Explain the answer to a handshake. What has no code of the gateway came from the backend."""
    code, text = code_of(body), body.decode(errors="replace")
    for one in REFUSALS:
        if one.code == code and (not one.pattern or re.search(one.pattern, text)):
            return Explanation(one.code, "", one.who, one.what, one.advice)
    what = _BACKENDS.get(status, f"The backend answered the upgrade with {status}.")
    advice = "The gateway passed the backend's answer on as it is. Check the API's backend URL."
    return Explanation(str(status), "", BACKEND, what, advice)
