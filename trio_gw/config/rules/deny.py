"""Rules of `[[deny]]`: conditions that name somebody, and leave somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.conditions import KINDS, condition, nobody_left
from trio_gw.config.rules.faults import Fault, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.conditions import Condition
    from trio_gw.config.settings import Settings


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of these."""
    inverted: dict[int, Condition] = {}
    for index, deny in enumerate(settings.deny):
        path = ("deny", index)
        if len(deny.given) != 1:
            many = " and ".join(deny.given) or "nobody"
            what = f"{dotted(path)} names {many}"
            yield Fault(path, what, f"write exactly one of {', '.join(KINDS)}")
            continue
        (kind,) = deny.given
        if deny.invert and kind != "address":
            what = f"{dotted(path)}.invert: only an address can be inverted"
            yield Fault((*path, "invert"), what, "leave it out")
        try:
            one = condition(kind, getattr(deny, kind), invert=deny.invert)
        except ValueError as error:
            what, hint = error.args
            yield Fault((*path, kind), f"{dotted(path)}.{kind}: {what}", hint)
        else:
            if one.invert:
                inverted[index] = one
    if nobody_left(inverted.values()):
        path = ("deny", max(inverted))
        what = f"{dotted(path)} and the other inverted ones together deny every address"
        hint = "each condition stands for itself: invert one range that holds all others"
        yield Fault(path, what, hint, "warning")
