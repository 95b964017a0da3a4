"""Query parameters and body members, with the rules and messages of the reference system. Pure.

Only the first error is reported, with status 422. spec: adapter-rest §2.1, §3, §5.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.admin.json_responses import FaultError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = frozenset(("true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"))
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
CREDENTIAL = "^[a-zA-Z0-9_~.@-]*$"
NAME = "^[a-zA-Z0-9_~.-]*$"
VERSION = "^[a-zA-Z0-9_.-]*$"
QUERY = "^[a-zA-Z:]*$"
VHOST = rf"^(\*|(\*[.-])?{_LABEL}(\.{_LABEL})*([.-]\*)?)$"
ENVIRONMENTS = r"^[\w\s.-]+(:[\w\s.-]+)*$"
MOST = 100_000_000


class TextParameter:
    """The rules for one text parameter."""

    def __init__(
        self,
        name: str,
        place: str = "query",
        *,
        required: bool = False,
        least: int = 0,
        most: int = 255,
        pattern: str = "",
    ) -> None:
        self.name = name
        self.required = required
        self.least = least
        self.most = most
        self.pattern = pattern
        self._where = f"{name} in {place}"

    def read(self, given: Mapping[str, str]) -> str:
        """Return the value; empty if it is missing. Raises `FaultError`."""
        text = given.get(self.name, "")
        if not text:
            if self.required:
                raise self._fault(602, "is required")
            return ""
        if len(text) < self.least:
            raise self._fault(604, f"should be at least {self.least} chars long")
        if len(text) > self.most:
            raise self._fault(603, f"should be at most {self.most} chars long")
        if self.pattern and not re.fullmatch(self.pattern.strip("^$"), text, re.ASCII):
            raise self._fault(605, f"should match '{self.pattern}'")
        return text

    def _fault(self, code: int, what: str) -> FaultError:
        return FaultError(422, f"{self._where} {what}", code)


def whole_number(name: str, given: Mapping[str, str], *, most: int = MOST) -> int | None:
    """Return a number from 1 to `most`; None if it is missing. Raises `FaultError`."""
    text = given.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise FaultError(422, f'{name} in query must be of type int64: "{text[:80]}"', 601)
    number = int(text)
    if number < 1:
        raise FaultError(422, f"{name} in query should be greater than or equal to 1", 609)
    if number > most:
        raise FaultError(422, f"{name} in query should be less than or equal to {most}", 608)
    return number


def boolean(name: str, given: Mapping[str, str]) -> bool:
    """Return whether a value means yes; every other value means no."""
    return given.get(name, "").lower() in _TRUE
