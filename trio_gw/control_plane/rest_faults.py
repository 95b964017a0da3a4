"""What is wrong with the REST interface of API Manager at present, said once in the log. Pure.

Three kinds: API Manager cannot be reached; it refuses the password; it answers a request with
something that cannot be used. Each is logged when it begins and when it ends.
"""

from __future__ import annotations

import enum
import logging

log = logging.getLogger("trio_gw.control_plane")


class Kind(enum.Enum):
    """Why there is no usable answer."""

    UNREACHABLE = "unreachable"  # no answer at all, or none in time
    FAILED = "failed"  # a status of 500 or above, or 429
    REFUSED = "refused"  # 401, 403: the user or the password
    WRONG = "wrong"  # any other status, or content that cannot be used


TEMPORARY = frozenset({Kind.UNREACHABLE, Kind.FAILED})
_HINTS = {
    Kind.UNREACHABLE: "check control_plane.url; retrying",
    Kind.FAILED: "retrying",
    Kind.REFUSED: "correct control_plane.username and control_plane.password; retrying slowly",
    Kind.WRONG: "retrying slowly",
}


class RestError(Exception):
    """A request without a usable answer. The text has no credentials. `status` is 0 without one."""

    def __init__(self, kind: Kind, name: str, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.kind = kind
        self.name = name
        self.what = what
        self.status = status

    @property
    def hint(self) -> str:
        """What to do about it."""
        return _HINTS[self.kind]

    @property
    def temporary(self) -> bool:
        """Whether another attempt will soon do."""
        return self.kind in TEMPORARY


class RestFaults:
    """The faults that last, by what they concern; `url` is the name of the server in the log."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lasting: dict[tuple[Kind, str], RestError] = {}

    def lasting(self) -> tuple[RestError, ...]:
        """Return the faults of the last answers."""
        return tuple(self._lasting.values())

    def failed(self, error: RestError) -> None:
        """Record a failed request; the first of its kind is logged as a warning."""
        same = [kind for kind, _ in self._lasting if kind is error.kind]
        first = not same if error.kind in (Kind.UNREACHABLE, Kind.REFUSED) else True
        key = (error.kind, error.name)
        level = logging.WARNING if first and key not in self._lasting else logging.DEBUG
        self._lasting[key] = error
        where = f"{self._url}: {error.name}" if error.name else self._url
        log.log(level, "API Manager %s %s; %s", where, error.what, error.hint)

    def succeeded(self, name: str) -> None:
        """Record a usable answer; the end of a fault is logged."""
        if not self._lasting:
            return
        # Any answer shows that the server can be reached.
        over = [key for key in self._lasting if key[0] is Kind.UNREACHABLE or key[1] == name]
        kinds = {self._lasting.pop(key).kind for key in over}
        left = {kind for kind, _ in self._lasting}
        if Kind.REFUSED in kinds - left:
            log.info("API Manager %s accepts the password again", self._url)
        elif kinds - left:
            log.info("API Manager %s answers again", self._url)
