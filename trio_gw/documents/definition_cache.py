"""Definitions that were read, by the digest of their bytes; bounded by the number of values."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

import msgspec

from trio_gw.documents.definition import WholeDefinition, read_definition

if TYPE_CHECKING:
    from trio_gw.errors import Problem

MOST_VALUES = 120_000  # of all definitions together; one has at most 100,000
MOST_DEFINITIONS = 64

_kept: OrderedDict[bytes, WholeDefinition] = OrderedDict()
_lock = Lock()


def definition_of(data: bytes, file: str) -> WholeDefinition:
    """Return the definition in these bytes; `file` is its name in problems.

    Raises `UnusableError` if it cannot be used.
    """
    key = hashlib.sha256(data).digest()
    with _lock:
        if (found := _kept.get(key)) is not None:
            _kept.move_to_end(key)
    if found is None:
        found = read_definition(data, file)
        with _lock:
            _kept[key] = found
            while len(_kept) > 1 and (_values() > MOST_VALUES or len(_kept) > MOST_DEFINITIONS):
                _kept.popitem(last=False)
    problems = tuple(_moved(problem, file) for problem in found.problems)
    return found._replace(problems=problems)


def _values() -> int:
    return sum(one.root.size for one in _kept.values())


def _moved(problem: Problem, file: str) -> Problem:
    return msgspec.structs.replace(problem, file=file)
