"""The types of failure: problems in configuration, refused requests, ended connections.

* `Problem`: a fault in configuration, for the operator. It names the file, the line if known,
  what is wrong and how to fix it. It is not an exception: loaders collect problems.
* `Refusal`: a request that is refused before the upgrade. It carries the HTTP response.
* `Ending`: the side that ended a relayed connection, and the close code.

Every package may import this module. It imports only `escaping`.
"""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Literal

import msgspec

from trio_gw.escaping import escape_json

if TYPE_CHECKING:
    from collections.abc import Iterable


class CloseCode(enum.IntEnum):
    """The close codes that the gateway itself sends (RFC 6455 §7.4.1, IANA registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NO_STATUS = 1005  # Never on the wire: a Close frame without a code.
    ABNORMAL = 1006  # Never on the wire: no Close frame at all.
    INVALID_PAYLOAD = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    TRY_AGAIN = 1013


class Side(enum.StrEnum):
    """The three sides that can end a connection."""

    CLIENT = "client"
    BACKEND = "backend"
    GATEWAY = "gateway"


class Phase(enum.StrEnum):
    """The phases of one connection, in order (docs/life-of-a-connection.md)."""

    HEAD = "head"
    ROUTE = "route"
    AUTHENTICATE = "authenticate"
    ADMIT = "admit"
    DIAL = "dial"
    UPGRADE = "upgrade"
    RELAY = "relay"
    CLOSE = "close"


class Problem(msgspec.Struct, frozen=True, order=True):
    """A fault in configuration: where it is, what is wrong and how to fix it.

    `line` and `column` count from 1; 0 means unknown. A file with *warnings* is still used.
    """

    file: str
    line: int
    column: int
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        mark = "warning: " if self.severity == "warning" else ""
        tail = f"; {self.hint}" if self.hint else ""
        return f"{place}: {mark}{self.what}{tail}"


def has_errors(problems: Iterable[Problem]) -> bool:
    """Return whether any of these problems is an error, not a warning."""
    return any(problem.severity == "error" for problem in problems)


def renamed(problems: Iterable[Problem], before: str, after: str) -> tuple[Problem, ...]:
    """Replace a path prefix in the files of problems: `git/a` → `git@4f2a/a`."""
    return tuple(
        msgspec.structs.replace(problem, file=after + problem.file.removeprefix(before))
        if problem.file == before or problem.file.startswith(f"{before}/")
        else problem
        for problem in problems
    )


class UnusableError(Exception):
    """Configuration that cannot be used. Its problems give the reasons."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Ending(msgspec.Struct, frozen=True):
    """How a relayed connection ended. `code` is a close code; 1006 means no Close frame came."""

    by: Side
    code: int
    reason: str = ""


Headers = tuple[tuple[bytes, bytes], ...]

JSON_TYPE: Headers = ((b"content-type", b"application/json"),)
CHALLENGE: Headers = (
    (
        b"www-authenticate",
        b'Bearer realm="Choreo Connect", error="invalid_token",'
        b' error_description="The provided token is invalid"',
    ),
)


class Refusal(Exception):
    """A request refused before the upgrade: the HTTP response, and the side at fault.

    `why` is for the log only. It can say more than the body, but never contains a secret.
    `limit` names the limit on connections that was reached, if that is the reason.
    """

    def __init__(
        self,
        status: int,
        code: str,
        body: bytes,
        *,
        headers: Headers = JSON_TYPE,
        by: Side = Side.CLIENT,
        why: str = "",
    ) -> None:
        self.status = status
        self.code = code
        self.body = body
        self.headers = headers
        self.by = by
        self.why = why
        self.limit = ""
        super().__init__(f"{status} {code} {why}".strip())


def _body(fields: dict[str, str]) -> bytes:
    return escape_json(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode())


def router_refusal(
    status: int,
    code: str,
    message: str,
    description: str,
    *,
    headers: Headers = (),
    by: Side = Side.CLIENT,
    why: str = "",
) -> Refusal:
    """Build a refusal from routing or from the backend side (spec: routing §9)."""
    body = _body({"code": code, "message": message, "description": description}) + b"\n"
    headers = (*JSON_TYPE, *headers)
    return Refusal(status, code, body, headers=headers, by=by, why=why or message)


def auth_refusal(status: int, code: str, message: str, description: str, *, why: str) -> Refusal:
    """Build a refusal from authentication or authorisation (spec: security §6)."""
    body = _body({"error_message": message, "code": code, "error_description": description})
    return Refusal(status, code, body, headers=(*JSON_TYPE, *CHALLENGE), why=why)
