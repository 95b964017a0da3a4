"""The filter of connections: a text that is searched for, or values of fields.

`room 7` finds connections with that text in one of their names. `api:Chat user:alice` finds those
of a user at an API; `address:10.0.0.0/8` those from a network. A value with spaces is quoted:
`application:"Chat client"`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.config.conditions import address_range, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.proxy.sessions import Session

    Test = Callable[[Session], bool]

FIELDS = ("api", "topic", "user", "application", "address", "backend", "path", "id")
_TERM = re.compile(rf'\b({"|".join(FIELDS)}):(?:"([^"]*)"|(\S+))')


class Matcher:
    """Tells whether a session matches a filter; an empty one matches all.

    Raises ValueError with a text for people if the filter cannot be understood.
    """

    def __init__(self, text: str) -> None:
        self._tests: list[Test] = []
        rest = _TERM.sub(self._term, text).strip().casefold()
        if rest:
            self._tests.append(
                lambda session: any(rest in one.casefold() for one in texts(session))
            )

    def __call__(self, session: Session) -> bool:
        return all(test(session) for test in self._tests)

    def _term(self, found: re.Match[str]) -> str:
        field, value = found[1], found[2] if found[2] is not None else found[3]
        if field == "address":
            self._tests.append(_from_address(value))
        else:
            wanted = value.casefold()
            self._tests.append(lambda session: _fits(field, wanted, session))
        return " "


def _from_address(value: str) -> Test:
    try:
        wanted = address_range(value)
    except ValueError as error:
        raise ValueError(f"address: {error.args[0]}") from None

    def test(session: Session) -> bool:
        try:
            version, value = number(session.info.address or session.peer)
        except ValueError:
            return False
        return wanted.version == version and wanted.first <= value <= wanted.last

    return test


def _fits(field: str, wanted: str, session: Session) -> bool:
    """Compare one field. An API is named with or without its version."""
    api, topic, subject, application = names(session)
    match field:
        case "api":
            return wanted in (api.casefold(), api.rpartition(":")[0].casefold())
        case "topic":
            return wanted == topic.casefold()
        case "user":
            return bool(subject) and wanted in (
                subject.casefold(),
                subject.partition("@")[0].casefold(),
            )
        case "application":
            return wanted == application.casefold()
        case "backend":
            return wanted in session.backend.casefold()
        case "path":
            return session.request.partition(" ")[2].casefold().startswith(wanted)
        case _:
            return wanted == session.request_id.casefold()


def names(session: Session) -> tuple[str, str, str, str]:
    """Return API, topic, subject and application, as far as they are known."""
    route, caller = session.route, session.caller
    api, topic = ("", "") if route is None else (route.api.title, route.topic.name)
    if caller is None:
        return api, topic, "", ""
    return api, topic, "" if caller.anonymous else caller.subject, caller.application.name


def texts(session: Session) -> tuple[str, ...]:
    """Return the texts to search in."""
    return (*names(session), session.request_id, session.peer, session.request)
