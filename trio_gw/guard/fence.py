"""What processes that count together need of the processor; `fence.pxd` is its C form."""

from __future__ import annotations


def settle() -> None:
    """Let all processes see what was written before anything more is read.

    The interpreter takes longer for a call than the processor for a write.
    """
