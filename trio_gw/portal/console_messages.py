"""The messages between the console's page and its server end, as JSON. spec: portal §3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

if TYPE_CHECKING:
    from trio_gw.portal.explanations import Explanation

Text = Annotated[str, Meta(max_length=8192)]
Fields = Annotated[tuple[tuple[Text, Text], ...], Meta(max_length=32)]


class AttemptKey(msgspec.Struct, frozen=True):
    """What to authenticate with. `test`: a key that is minted for this attempt. Its repr hides it.

    `scopes`, `key_type` and `seconds` are for a test key, `value` is for the others.
    """

    kind: Literal["test", "token", "api-key", "none"] = "none"
    value: Annotated[str, Meta(max_length=32768)] = ""
    scopes: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()
    key_type: Literal["PRODUCTION", "SANDBOX"] = "PRODUCTION"
    seconds: Annotated[int, Meta(ge=60, le=3600)] = 900

    def __repr__(self) -> str:
        return f"Key({self.kind!r})"


# -- from the page -----------------------------------------------------------------------------


class ConnectRequest(msgspec.Struct, frozen=True, tag="connect"):
    """Open a connection. `path` is percent-encoded, `query` has no `?`."""

    path: Text
    host: Annotated[str, Meta(max_length=300)] = "localhost"
    query: Text = ""
    key: AttemptKey = AttemptKey()
    protocols: Annotated[tuple[Text, ...], Meta(max_length=32)] = ()
    headers: Fields = ()
    compress: bool = False


class SendRequest(msgspec.Struct, frozen=True, tag="send"):
    """Send a message, whole or in `fragments` frames."""

    text: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET
    fragments: Annotated[int, Meta(ge=1, le=100)] = 1


class PingRequest(msgspec.Struct, frozen=True, tag="ping"):
    """Send a Ping."""

    text: Annotated[str, Meta(max_length=125)] = ""


class CloseFrameRequest(msgspec.Struct, frozen=True, tag="close"):
    """Close the connection, or give up to open it. Without a code the Close frame has none."""

    code: int = 1005
    reason: Annotated[str, Meta(max_length=123)] = ""


class MoreRequest(msgspec.Struct, frozen=True, tag="more"):
    """Show a frame whose payload was cut."""

    n: int


class AliveRequest(msgspec.Struct, frozen=True, tag="alive"):
    """The page is still there."""


PageRequest = (
    ConnectRequest | SendRequest | PingRequest | CloseFrameRequest | MoreRequest | AliveRequest
)

# -- to the page -------------------------------------------------------------------------------


class DialingEvent(msgspec.Struct, frozen=True, tag="dialing"):
    """The handshake begins: what is sent, without credentials."""

    target: str
    headers: list[tuple[str, str]]


class OpenedEvent(msgspec.Struct, frozen=True, tag="opened"):
    """The answer is 101."""

    ms: float
    at: float
    status: int
    headers: list[tuple[str, str]]
    protocol: str
    extensions: str
    request_id: str


class RefusedEvent(msgspec.Struct, frozen=True, tag="refused"):
    """The answer is another one, with the first bytes of its body."""

    ms: float
    at: float
    status: int
    phrase: str
    headers: list[tuple[str, str]]
    body: str
    cut: bool
    request_id: str
    explained: Explanation


class FrameEvent(msgspec.Struct, frozen=True, tag="frame"):
    """A frame that was sent (`out`) or has come (`in`). `size` is that of its payload on the wire.

    Of payloads that are not UTF-8 the octets are shown. `cut`: it is longer than what is shown.
    `inflated`: what is shown was compressed.
    """

    n: int
    way: Literal["in", "out"]
    kind: Literal["text", "binary", "continuation", "ping", "pong", "close"]
    fin: bool
    size: int
    at: float
    cut: bool = False
    text: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET
    compressed: bool = False
    code: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class RestEvent(msgspec.Struct, frozen=True, tag="rest"):
    """The whole payload of a frame, as far as it was kept."""

    n: int
    base64: bytes
    cut: bool


class PongEvent(msgspec.Struct, frozen=True, tag="pong"):
    """The answer to a Ping of the page."""

    ms: float
    at: float
    text: str


class ClosedEvent(msgspec.Struct, frozen=True, tag="closed"):
    """The connection is over. `by` is the side that ended it, empty if it is not known."""

    at: float
    code: int
    reason: str
    by: str
    clean: bool
    explained: Explanation


class SkippedEvent(msgspec.Struct, frozen=True, tag="skipped"):
    """Frames that came faster than the page could take them; they were counted only."""

    frames: int
    bytes: int


class NoticeEvent(msgspec.Struct, frozen=True, tag="fault"):
    """What was asked for was not done, and why."""

    message: str


PageEvent = (
    DialingEvent
    | OpenedEvent
    | RefusedEvent
    | FrameEvent
    | RestEvent
    | PongEvent
    | ClosedEvent
    | SkippedEvent
    | NoticeEvent
)
