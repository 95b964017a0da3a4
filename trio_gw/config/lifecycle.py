"""The lifecycle of an API: its states, and the steps between them.

Pure. A state in the file of a project changes what tools show, and `PROTOTYPED` switches the check
of tokens off. A state that was set at the gateway (`Managed`) also acts: a blocked API is refused,
a deprecated one announces it, a retired one is not served. spec: portal §2.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["CREATED", "PROTOTYPED", "PUBLISHED", "BLOCKED", "DEPRECATED", "RETIRED"]
STATES: tuple[State, ...] = get_args(State)
STEPS: Mapping[State, tuple[State, ...]] = {
    "CREATED": ("PROTOTYPED", "PUBLISHED"),
    "PROTOTYPED": ("CREATED", "PUBLISHED"),
    "PUBLISHED": ("BLOCKED", "DEPRECATED", "CREATED"),
    "BLOCKED": ("PUBLISHED", "DEPRECATED"),
    "DEPRECATED": ("BLOCKED", "PUBLISHED", "RETIRED"),
    "RETIRED": (),
}
MEANINGS: Mapping[State, str] = {
    "CREATED": "Served. Publishers see it in the catalogue; nobody new subscribes.",
    "PROTOTYPED": "Served to everybody: no token is asked for. In the catalogue for all.",
    "PUBLISHED": "Served. In the catalogue for all, and open for new subscriptions.",
    "BLOCKED": "Not served: new connections get 503 (API blocked), open ones are closed (1008).",
    "DEPRECATED": "Served, and clients are told. Nobody new subscribes.",
    "RETIRED": "Not served any more: new connections get 404. Its revisions are kept.",
}


class Managed(msgspec.Struct, frozen=True):
    """A state that was set at the gateway, so that it acts. Times in epoch seconds, 0 for none.

    `successor` names the API that replaces a deprecated one; `sunset` is when that ends.
    """

    state: State
    since: int = 0
    sunset: int = 0
    successor: str = ""


def known(text: str) -> State:
    """Return a state as written in a file; what is no state counts as published."""
    for state in STATES:
        if state == text.upper():
            return state
    return "PUBLISHED"


def steps(state: str, *, acts: bool) -> tuple[State, ...]:
    """List the states that may follow.

    A state from a file that does not act yet (`acts`) may be set as it is, and the API is served as
    a published one, so the steps of that are allowed as well.
    """
    current = known(state)
    if acts:
        return STEPS[current]
    allowed = {current, *STEPS[current], *STEPS["PUBLISHED"], "PUBLISHED"}
    if current in ("CREATED", "PROTOTYPED", "PUBLISHED"):
        allowed = {current, *STEPS[current]}
    return tuple(each for each in STATES if each in allowed)
