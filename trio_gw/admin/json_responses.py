"""What the admin API answers: JSON, always; errors in the shape of the reference system.

spec: adapter-rest §3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from trio_gw.escaping import escape_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trio_gw.errors import Problem

JSON = "application/json"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="API"'}


class FaultError(Exception):
    """A request that is refused: an HTTP status, and a code that says more where it differs."""

    def __init__(
        self, status: int, message: str, code: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.code = code or status
        self.message = message
        self.headers = dict(headers or {})
        super().__init__(f"{status} {message}")

    def answer(self) -> Response:
        """Give the answer."""
        body = {"code": self.code, "message": self.message}
        return answer(body, self.status, self.headers)


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    data = escape_json(msgspec.json.encode(body))
    return Response(data, status, headers, media_type=JSON)


def empty(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer without a body, which is JSON all the same for the reference system."""
    return Response(b"", status, headers, media_type=JSON)


def problem_list(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Write problems for a body."""
    return [msgspec.structs.asdict(problem) for problem in problems]
