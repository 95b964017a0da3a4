"""What needs an operator now, from all sources, the worst first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import msgspec

from trio_gw.admin.operation_views import workers_of
from trio_gw.workers.shared_state import WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.admin.all_workers import BackendState, LimitsAnswer
    from trio_gw.errors import Problem
    from trio_gw.portal.request import PortalRequest

ACTIONS = {
    "drop": "messages are dropped",
    "close": "connections are closed",
    "pause": "messages wait",
}
NAMED = 3  # single things that are named; more are counted


class Item(msgspec.Struct, frozen=True):
    """One thing: what it is, more about it, since when (epoch seconds), and the page about it."""

    severity: Literal["bad", "warn"]
    what: str
    more: str
    since: float | None
    href: str


async def items(request: PortalRequest) -> list[Item]:
    """Return everything that needs attention; empty if all is well."""
    context = request.services.context
    workers = workers_of(context)
    problems, missing = await context.aggregate.problems()
    backends, _ = await workers.backends()
    limits = await workers.limits()
    found = [
        *_workers(request, missing),
        *_backends(backends),
        *_problems(problems),
        *_limits(limits),
    ]
    return sorted(found, key=lambda one: one.severity != "bad")


def _workers(request: PortalRequest, missing: list[int]) -> Iterator[Item]:
    state = request.services.context.aggregate.shared_state
    for number in missing:
        yield Item("bad", f"Worker {number} does not respond", "", None, "/portal/operate/log")
    for number, one in enumerate(state.states(), 1):
        if one is WorkerState.MISSING and number not in missing:
            what = f"Worker {number} ended and is being replaced"
            yield Item("bad", what, "", None, "/portal/operate/log")
    if request.services.services.memory.short:
        what = "Memory is short: new connections are refused"
        yield Item("bad", what, "", None, "/portal/operate/limits")


def _backends(backends: list[BackendState]) -> Iterator[Item]:
    down = [one for one in backends if not one.healthy]
    for one in down[:NAMED]:
        users = ", ".join(one.apis) or "no API any more"
        yield Item("bad", f"Backend {one.origin} is down", users, one.since, _page("backends"))
    if len(down) > NAMED:
        what = f"{len(down) - NAMED} more backends are down"
        yield Item("bad", what, "", None, _page("backends"))


def _problems(problems: list[Problem]) -> Iterator[Item]:
    for severity, kind in (("error", "bad"), ("warning", "warn")):
        found = [one for one in problems if one.severity == severity]
        if not found:
            continue
        many = "" if len(found) == 1 else "s"
        what = f"{len(found)} {severity}{many} in the configuration"
        first = found[0]
        place = f"{first.file}:{first.line}" if first.line else first.file
        more = f"{place}: {first.what}" if place else first.what
        yield Item("bad" if kind == "bad" else "warn", what, more, None, _page("problems"))


def _limits(limits: LimitsAnswer) -> Iterator[Item]:
    for one in limits.caps[:NAMED]:
        what = f"{one.open} of {one.most} connections are open: {_of(one.level, one.key)} is full"
        yield Item("warn", what, "", None, _page("limits"))
    for tier in limits.tiers[:NAMED]:
        what = f"Limit {tier.tier} is full for {_of(tier.level, tier.key)}"
        more = f"{tier.rule}; {ACTIONS[tier.action]} until {_clock(tier.until)}"
        yield Item("warn", what, more, None, _page("limits"))
    more_full = max(0, len(limits.tiers) - NAMED) + max(0, len(limits.caps) - NAMED)
    if more_full:
        yield Item("warn", f"{more_full} more limits are full", "", None, _page("limits"))


def _clock(when: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(when))


def _of(level: str, key: str) -> str:
    return f"{level} {key}" if key else f"the {level}"


def _page(name: str) -> str:
    return f"/portal/operate/{name}"
