"""Regular expressions of conditions, matched in bounded time. Pure.

The expressions come from API Manager, the texts that they are searched in from clients. `re` may
need exponential time for both, and would stop the event loop meanwhile. So the expressions are
compiled to a state machine that reads each character once (Thompson's construction). A `Budget`
bounds the steps of several searches together.

The syntax is that of `pattern_syntax`, with `(?i)` at the beginning.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from trio_gw.guard.pattern_syntax import BEGIN, END, UnsupportedPatternError, parse

if TYPE_CHECKING:
    from trio_gw.guard.pattern_syntax import CharacterTest, PatternPart

MAX_PATTERN = 512  # characters of an expression
MAX_STATES = 256  # of its machine, with repetitions written out
MAX_TEXT = 1024  # characters that are searched
STEPS = 20_000  # of one budget: some milliseconds

_SPLIT, _MATCH = "split", "match"


class Budget:
    """The steps that may still be spent."""

    __slots__ = ("left",)

    def __init__(self, steps: int = STEPS) -> None:
        self.left = steps


class Pattern:
    """A compiled expression. Raises UnsupportedPatternError."""

    def __init__(self, expression: str) -> None:
        if len(expression) > MAX_PATTERN:
            raise UnsupportedPatternError("an expression is too long")
        self._machine = _Compiler(expression)

    def found_in(self, text: str, budget: Budget) -> bool:
        """Return whether the expression matches a part of a text; False if the budget ends."""
        if len(text) > MAX_TEXT:
            return False
        machine = self._machine
        if machine.ignores_case:
            text = text.lower()
        current: set[int] = set()
        for at in range(len(text) + 1):
            current.add(machine.start)
            budget.left -= len(current)
            if budget.left < 0:
                return False
            if machine.expand(current, at == 0, at == len(text), budget):
                return True
            if at < len(text):
                current = machine.step(current, text[at])
        return False


@functools.lru_cache(maxsize=128)
def compiled(expression: str) -> Pattern | None:
    """Compile an expression; None if that is not possible."""
    try:
        return Pattern(expression)
    except (UnsupportedPatternError, RecursionError):
        return None


class _Compiler:
    """Turns an expression into states: (kind, test, next states)."""

    def __init__(self, expression: str) -> None:
        self.ignores_case = expression.startswith("(?i)")
        text = expression.removeprefix("(?i)")
        self._kinds: list[str] = []
        self._tests: list[CharacterTest | None] = []
        self._next: list[list[int]] = []
        last = self._state(_MATCH)
        self.start = self._build(parse(text.lower() if self.ignores_case else text), last)

    # -- matching ----------------------------------------------------------------------------

    def expand(self, current: set[int], begins: bool, ends: bool, budget: Budget) -> bool:
        """Add the states that need no character; returns whether the expression has matched."""
        kinds, waiting = self._kinds, list(current)
        while waiting:
            state = waiting.pop()
            kind = kinds[state]
            if kind == _MATCH:
                return True
            budget.left -= 1
            passes = kind == _SPLIT or (kind == BEGIN and begins) or (kind == END and ends)
            if passes:
                for other in self._next[state]:
                    if other not in current:
                        current.add(other)
                        waiting.append(other)
        return False

    def step(self, current: set[int], character: str) -> set[int]:
        """Return the states after a character."""
        found: set[int] = set()
        for state in current:
            test = self._tests[state]
            if test is not None and test(character):
                found.update(self._next[state])
        return found

    # -- the machine -------------------------------------------------------------------------

    def _state(self, kind: str, test: CharacterTest | None = None) -> int:
        if len(self._kinds) >= MAX_STATES:
            raise UnsupportedPatternError("an expression has too many states")
        self._kinds.append(kind)
        self._tests.append(test)
        self._next.append([])
        return len(self._kinds) - 1

    def _build(self, node: PatternPart, last: int) -> int:
        """Add the states of a node that goes on to the state `last`; returns its first one."""
        if node.kind == "sequence":
            for part in reversed(node.parts):
                last = self._build(part, last)
            return last
        if node.kind == "choice":
            state = self._state(_SPLIT)
            self._next[state] = [self._build(part, last) for part in node.parts]
            return state
        if node.kind == "repeat":
            return self._repeated(node, last)
        state = self._state(node.kind, node.test)
        self._next[state] = [last]
        return state

    def _repeated(self, node: PatternPart, last: int) -> int:
        (part,) = node.parts
        if node.most < 0:
            loop = self._state(_SPLIT)
            self._next[loop] = [self._build(part, loop), last]
            last = loop
        else:
            end = last
            for _ in range(node.most - node.least):
                state = self._state(_SPLIT)
                self._next[state] = [self._build(part, last), end]
                last = state
        for _ in range(node.least):
            states = len(self._kinds)
            last = self._build(part, last)
            if len(self._kinds) == states:
                break  # the part is empty, however often it is repeated
        return last
