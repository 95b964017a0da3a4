"""The event that the Traffic Manager receives for each data frame (spec: control-plane §8.2). Pure.

Sixteen of its seventeen attributes are the same for all frames of a connection. They are encoded
once. The last attribute, `properties`, is JSON text with the size of the frame.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from trio_gw.wire import databridge

if TYPE_CHECKING:
    from collections.abc import Mapping

STREAM: Final = "org.wso2.throttle.request.stream:1.0.0"
ATTRIBUTES: Final = (
    *("messageID", "appKey", "appTier", "apiKey", "apiTier", "subscriptionKey"),
    *("subscriptionTier", "resourceKey", "resourceTier", "userId", "apiContext", "apiVersion"),
    *("appTenant", "apiTenant", "appId", "apiName", "properties"),
)
MAX_CLAIMS: Final = 4096  # bytes of the claims in an event; more are left out


class ThrottleSubject(msgspec.Struct, frozen=True):
    """What events and decisions know of a connection, in the order of the attributes."""

    message_id: str
    app_key: str
    app_tier: str
    api_key: str
    api_tier: str
    subscription_key: str
    subscription_tier: str
    resource_key: str
    resource_tier: str
    user_id: str
    api_context: str
    api_version: str
    app_tenant: str
    api_tenant: str
    app_id: str
    api_name: str


class FrameTemplate:
    """The events of one connection."""

    __slots__ = ("_before", "_common")

    def __init__(
        self, subject: ThrottleSubject, address: str, claims: Mapping[str, Any] | None = None
    ) -> None:
        """Take what all frames share: the client's `address`, and the `claims` of its token."""
        self._common = databridge.beginning(STREAM, msgspec.structs.astuple(subject))
        version, number = address_number(address)
        known: dict[str, Any] = {}
        for name, value in (claims or {}).items():
            known[name] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if len(msgspec.json.encode(known)) > MAX_CLAIMS:
            known = {}
        # Integers of 128 bits: msgspec's encoder has only those of 64.
        sizes = {"ip": number if version == 4 else 0, "ipv6": number if version == 6 else 0}
        known = {name: value for name, value in known.items() if name not in (*sizes, _SIZE)}
        text = ",".join(f'"{name}":{value}' for name, value in sizes.items())
        more = msgspec.json.encode(known)[1:-1]
        parts = [text.encode(), *([more] if more else []), f'"{_SIZE}":'.encode()]
        self._before = b"{" + b",".join(parts)

    def encode(self, timestamp: int, size: int) -> bytes:
        """Encode the event of a frame of `size` payload bytes; `timestamp` in milliseconds."""
        return databridge.event(timestamp, self._common, self._before, b"%d}" % size)


_SIZE = "messageSize"


def address_number(address: str) -> tuple[int, int]:
    """Return the version (4 or 6) and the number of an address; (0, 0) if it is none."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return 0, 0
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.version, int(parsed)
