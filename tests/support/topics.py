"""The reference of matching: a naive matcher, written from the rules (spec: routing §2, §3).

One anchored expression per topic, tried in order.
"""

from __future__ import annotations

import re
from functools import cache


@cache
def expression(channel: str) -> re.Pattern[str]:
    """Build the expression that the rules give for a channel, for the path below the base."""
    name = channel.split("?")[0]
    if name.endswith("/*"):
        name, tail = name[:-2], "(?:/.*)*"
    else:
        name, tail = name[:-1] if name.endswith("/") else name, "/?"
    pieces = re.split(r"\{[^{}/]*\}", name)
    return re.compile("([^/]+)".join(map(re.escape, pieces)) + tail, re.DOTALL)


def naive(channels: list[str], rest: str) -> tuple[int, tuple[str, ...]] | None:
    for rank, channel in enumerate(channels):
        if found := expression(channel).fullmatch(rest):
            return rank, found.groups()
    return None
