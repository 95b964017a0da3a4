"""Rows of frames that look alike, told by their columns: what saves Python from looking at each.

Many small messages in one chunk are mostly of one size. Their headers then lie at equal distances,
and a slice with that step is one octet of each of them. Where the relay is compiled this gains
nothing; `runs.pxd` says so, and the compiler leaves it out.
"""

from __future__ import annotations

WORTH = True
LEAST = 4  # frames in a row for which it pays to look
MOST = 1024  # frames of which one look tells
SHARE = 16  # so many frames of a row take no longer than one that is looked at alone
# Frames that are looked at in one turn: 0.1 ms of Python; compiled they are more, and take less.
FRAMES_PER_TURN = 128


def count_alike(data: bytes | bytearray, start: int, size: int, step: int, octets: int) -> int:
    """Count the frames in `data[start:size]` whose first octets are those of the first frame.

    They begin `step` octets apart; the last one may be incomplete behind its first octets.
    """
    count = size
    for place in range(start, start + octets):
        column = data[place:size:step]
        count = min(count, len(column) - len(column.lstrip(column[:1])))
    return count
