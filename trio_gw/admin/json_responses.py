"""Responses of the admin API: always JSON; errors have the format of the reference system.

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
    """A refused request: an HTTP status, a more specific code and problems if there are any."""

    def __init__(
        self,
        status: int,
        message: str,
        code: int = 0,
        headers: Mapping[str, str] | None = None,
        problems: Iterable[Problem] = (),
    ) -> None:
        self.status = status
        self.code = code or status
        self.message = message
        self.headers = dict(headers or {})
        self.problems = tuple(problems)
        super().__init__(f"{status} {message}")

    def response(self) -> Response:
        """Create the response."""
        body: dict[str, object] = {"code": self.code, "message": self.message}
        if self.problems:
            body["problems"] = problem_list(self.problems)
        return json_response(body, self.status, self.headers)


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Create a JSON response."""
    data = escape_json(msgspec.json.encode(body))
    return Response(data, status, headers, media_type=JSON)


def empty_response(status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Create a response without a body; its type is JSON as in the reference system."""
    return Response(b"", status, headers, media_type=JSON)


def problem_list(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Convert problems for a response body."""
    return [msgspec.structs.asdict(problem) for problem in problems]
