"""Rows of frames that look alike, recognised by their columns. This saves Python a loop over them.

Many small messages in one chunk mostly have one size. Then their headers lie at equal distances,
and a slice with that step contains one octet of each. Where the relay is compiled, this gains
nothing: `runs.pxd` says so, and the compiler leaves it out.
"""

from __future__ import annotations

WORTH = True
LEAST = 4  # frames in a row from which on the comparison pays
MOST = 1024  # frames compared at once
SHARE = 16  # frames of a row that take no longer than one that is scanned alone
# Frames scanned in one turn: 0.1 ms of Python. Compiled there are more, and they take less time.
FRAMES_PER_TURN = 128


def count_alike(data: bytes | bytearray, start: int, size: int, step: int, octets: int) -> int:
    """Count the frames in `data[start:size]` whose first octets are those of the first frame.

    They begin `step` octets apart. The last one may be incomplete after its first octets.
    """
    count = size
    for place in range(start, start + octets):
        column = data[place:size:step]
        count = min(count, len(column) - len(column.lstrip(column[:1])))
    return count
