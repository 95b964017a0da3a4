"""Classifies faults for analytics events: type, code and message (spec: frames §7.3)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from trio_gw.errors import Side

_CONNECTIVITY = {"102503": 101500, "102508": 101503, "102504": 101504}  # else 101505
_AUTHENTICATION = range(900900, 900905)
_AUTHORIZATION = (900905, 900910)
_SUBSCRIPTION = (700700, 900907, 900908, 900909)
_THROTTLED = {
    900800: "API_LEVEL_LIMIT_EXCEEDED",
    900801: "HARD_LIMIT_EXCEEDED",
    900802: "RESOURCE_LEVEL_LIMIT_EXCEEDED",
    900803: "APPLICATION_LEVEL_LIMIT_EXCEEDED",
    900804: "SUBSCRIPTION_LIMIT_EXCEEDED",
    900805: "BLOCKED",
    900806: "CUSTOM_POLICY_LIMIT_EXCEEDED",
}
_LEVELS = {"API": 900800, "topic": 900802, "application": 900803, "subscription": 900804}


class FaultType(NamedTuple):
    """What a fault event says about its cause."""

    type: Literal["AUTH", "THROTTLED", "TARGET_CONNECTIVITY", "OTHER"]
    code: int
    message: str


FULL = FaultType("THROTTLED", 900801, _THROTTLED[900801])
"""A cap on connections was reached."""


DENIED = FaultType("THROTTLED", 900805, _THROTTLED[900805])
"""A deny condition applied to the connection."""


def of_level(level: str) -> FaultType:
    """Return the fault type for a message that exceeds the limit of this level."""
    code = _LEVELS.get(level, 900806)
    return FaultType("THROTTLED", code, _THROTTLED[code])


def of_refusal(text: str, status: int, by: Side) -> FaultType:
    """Return the fault type for a refusal with this code and status."""
    code = int(text) if text.isdigit() else status
    if by is Side.BACKEND:
        code = _CONNECTIVITY.get(text, 101505)
        return FaultType(
            "TARGET_CONNECTIVITY", code, "CONNECTION_TIMEOUT" if code == 101504 else "OTHER"
        )
    if code in _THROTTLED or status == 429:
        return FaultType("THROTTLED", code, _THROTTLED.get(code, "OTHER"))
    if status in (401, 403) or code == 700700:
        if code in _AUTHENTICATION:
            return FaultType("AUTH", code, "AUTHENTICATION_FAILURE")
        if code in _AUTHORIZATION:
            return FaultType("AUTH", code, "AUTHORIZATION_FAILURE")
        message = "SUBSCRIPTION_VALIDATION_FAILURE" if code in _SUBSCRIPTION else "OTHER"
        return FaultType("AUTH", code, message)
    return FaultType("OTHER", code, "UNCLASSIFIED")
