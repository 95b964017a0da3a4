"""The refusals of authentication and authorisation, row by row (spec: security §6).

Raised by the other modules of `guard`; `why` is for the log and never holds a part of a credential.
"""

from __future__ import annotations

from email.utils import formatdate

from trio_gw.errors import JSON_TYPE, Refusal, Side, auth_refusal, router_refusal

BLOCKED = "900805"
HINT = "Make sure you have provided the correct security credentials"
_FORBIDDEN = "Resource forbidden "


def rejected(description: str, why: str) -> Refusal:
    """Refuse with 900901 and this description; row B is an example."""
    return auth_refusal(401, "900901", "Invalid Credentials", description, why=why)


def no_credential(why: str) -> Refusal:
    """Row A: nothing that could be a credential here."""
    return rejected(HINT, why)


def invalid(why: str) -> Refusal:
    """Row C: an invalid token."""
    return rejected(f"Invalid Credentials. {HINT}", why)


def revoked() -> Refusal:
    """Row D: a revoked token."""
    return rejected(f"Invalid JWT token. {HINT}", "the token is revoked")


def expired() -> Refusal:
    """Refuse an expired token."""
    # Ours: the reference system answers as for a bad signature (spec: differences §2).
    message = "Access Token Expired"
    text = f"{message}. Renew the access token and try again"
    return auth_refusal(401, "900903", message, text, why="the token has expired")


def inactive() -> Refusal:
    """Refuse a token that its issuer does not confirm (RFC 7662 §2.2)."""
    message = "Access Token Inactive"
    text = f"{message}. Generate a new access token and try again"
    return auth_refusal(401, "900904", message, text, why="the issuer calls the token inactive")


def no_key(why: str) -> Refusal:
    """Row E: a trusted issuer, but no key to check the signature."""
    message = "Unclassified Authentication Failure"
    return auth_refusal(401, "900900", message, message, why=why)


def forbidden(why: str, description: str = _FORBIDDEN) -> Refusal:
    """Row F: the credential itself says that it is not for this API."""
    return auth_refusal(403, "900908", _FORBIDDEN, description, why=why)


def not_subscribed(why: str) -> Refusal:
    """Row G: no known subscription."""
    text = "User is NOT authorized to access the Resource. API Subscription validation failed."
    return forbidden(why, text)


def api_blocked() -> Refusal:
    """Row I: API Manager has blocked the API."""
    text = (
        "This API has been blocked temporarily. Please try again later or contact the system"
        " administrators."
    )
    return auth_refusal(503, "700700", "API blocked", text, why="the API is blocked")


def subscription_blocked() -> Refusal:
    """Row J: the subscription is blocked, at least for this type of key."""
    message = "The requested API is temporarily blocked"
    text = "API Subscription is blocked"
    return auth_refusal(401, "900907", message, text, why="the subscription is blocked")


def subscription_inactive() -> Refusal:
    """Refuse a subscription that is on hold or was rejected (spec: security §3.5)."""
    message = "The subscription to the API is inactive"
    text = "User is NOT authorized to access the Resource. API Subscription validation failed."
    return auth_refusal(403, "900909", message, text, why="the subscription is not active")


def blocked(why: str) -> Refusal:
    """Row L: a deny condition applies."""
    text = "You have been blocked from accessing the resource"
    return auth_refusal(403, BLOCKED, "Message blocked", text, why=why)


def throttled(code: str, until: float, why: str) -> Refusal:
    """Row M: a plain HTTP request of a throttled client. `until` in epoch seconds."""
    text = "You have exceeded your quota"
    body = auth_refusal(429, code, "Message throttled out", text, why=why).body
    again = formatdate(until, usegmt=True).encode("ascii")
    return Refusal(429, code, body, headers=(*JSON_TYPE, (b"retry-after", again)), why=why)


def out_of_scope(topic: str) -> Refusal:
    """Row H: none of the topic's scopes."""
    return auth_refusal(
        403,
        "900910",
        "The access token does not allow you to access the requested resource",
        f"User is NOT authorized to access the Resource: {topic}. Scope validation failed.",
        why="the token has none of the topic's scopes",
    )


def ambiguous(what: str) -> Refusal:
    """Refuse a second credential (RFC 6750 §2)."""
    text = f"{what}: send the credential once, in one place"
    return router_refusal(400, "400", "Bad Request", text, why=what)


def unable(why: str) -> Refusal:
    """Refuse temporarily: the issuer that could verify the token does not answer."""
    answer = auth_refusal(
        503,
        "900900",
        "Unclassified Authentication Failure",
        "The token cannot be checked at the moment. Try again shortly",
        why=why,
    )
    headers = (*JSON_TYPE, (b"retry-after", b"1"))
    return Refusal(503, answer.code, answer.body, headers=headers, by=Side.GATEWAY, why=why)
