"""Message mode of a topic, and the maximum size of a message.

`x-trio-gw-inspect` and `x-trio-gw-max-message` are allowed at an operation, at its channel and at
the root of the definition; the nearest one is used. Called by `topic`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from trio_gw.config.api import Inspection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

INSPECT, MAX_MESSAGE = "x-trio-gw-inspect", "x-trio-gw-max-message"
DEFAULT_MESSAGE = 1 << 20  # bytes
LARGEST_MESSAGE = 64 << 20  # in message mode, which holds a message in memory more than once
LARGEST_RELAYED = 1 << 40


class InspectionKeys(Protocol):
    """The keys of one place; None if missing."""

    @property
    def inspect(self) -> bool | None: ...

    @property
    def max_message(self) -> int | None: ...


class InspectionRoot(
    msgspec.Struct, frozen=True, rename={"inspect": INSPECT, "max_message": MAX_MESSAGE}
):
    """The keys at the root of the definition, for all topics."""

    inspect: bool | None = None
    max_message: int | None = None


def read(
    places: Sequence[tuple[InspectionKeys, Path]], findings: Findings
) -> tuple[Inspection | None, int | None]:
    """Read the nearest of these places, nearest first; `places` come with their paths.

    Returns the parameters of message mode, or the maximum size of relayed messages.
    """
    wanted = next((one.inspect for one, _ in places if one.inspect is not None), False)
    largest = LARGEST_MESSAGE if wanted else LARGEST_RELAYED
    limit = None
    for one, path in places:
        if one.max_message is None:
            continue
        limit = one.max_message
        where = (*path, MAX_MESSAGE)
        if not 1 <= limit <= largest:
            what = f"`{MAX_MESSAGE}: {limit}` is not a size from 1 to {largest} bytes"
            findings.error(where, what, f"write a number of bytes, like {DEFAULT_MESSAGE}")
        break
    if wanted:
        return Inspection(DEFAULT_MESSAGE if limit is None else limit), None
    return None, limit
