"""A memory barrier for processes that share counters; `memory_barrier.pxd` is the C form."""

from __future__ import annotations


def full() -> None:
    """Make all writes visible to other processes before the next read.

    Nothing to do in Python: a call takes the interpreter longer than a write takes the processor.
    """
