"""Regular expressions of conditions, matched in bounded time. Pure.

The expressions come from API Manager, the texts that they are searched in from clients. `re` may
need exponential time for both, and would stop the event loop meanwhile. So the expressions are
compiled to a state machine that reads each character once (Thompson's construction). A `Budget`
bounds the steps of several searches together.

The syntax is what conditions use: literals, `.`, classes, groups, `|`, `* + ? {m,n}`, `^`, `$`,
`\\d \\w \\s` and `(?i)` at the beginning. Look-around, backreferences and the like are refused.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    CharacterTest = Callable[[str], bool]

MAX_PATTERN = 512  # characters of an expression
MAX_STATES = 256  # of its machine, with repetitions written out
MAX_RANGES = 16  # and escapes of one class: each costs as much as a state
MAX_TEXT = 1024  # characters that are searched
STEPS = 20_000  # of one budget: some milliseconds

_ANY, _BEGIN, _END, _SPLIT, _MATCH = ".", "^", "$", "split", "match"


class UnsupportedPatternError(ValueError):
    """An expression that is wrong, too large, or uses what is not supported."""


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
    """Parses an expression into states: (kind, test, next states)."""

    def __init__(self, expression: str) -> None:
        self.ignores_case = expression.startswith("(?i)")
        self._text = expression.removeprefix("(?i)")
        if self.ignores_case:
            self._text = self._text.lower()
        self._at = 0
        self._depth = 0
        self._kinds: list[str] = []
        self._tests: list[CharacterTest | None] = []
        self._next: list[list[int]] = []
        last = self._state(_MATCH)
        node = self._alternatives()
        if self._at < len(self._text):
            raise UnsupportedPatternError("a group ends that has not begun")
        self.start = self._build(node, last)

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
            passes = kind == _SPLIT or (kind == _BEGIN and begins) or (kind == _END and ends)
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

    def _build(self, node: _Part, last: int) -> int:
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

    def _repeated(self, node: _Part, last: int) -> int:
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

    # -- the syntax --------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise UnsupportedPatternError("an expression ends too early")
        self._at += 1
        return character

    def _alternatives(self) -> _Part:
        self._depth += 1
        if self._depth > 30:
            raise UnsupportedPatternError("groups are nested too deep")
        parts = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            parts.append(self._sequence())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else _Part("choice", parts)

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return _Part("sequence", parts)

    def _quantified(self, node: _Part) -> _Part:
        character = self._peek()
        bounds = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}.get(character)
        if bounds is not None:
            self._at += 1
        elif character == "{":
            bounds = self._bounds()
        else:
            return node
        if self._peek() == "?":
            self._at += 1  # lazy: the same answer to whether there is a match
        elif self._peek() in ("+", "*", "{") and self._peek():
            raise UnsupportedPatternError("possessive and double quantifiers are not supported")
        return _Part("repeat", [node], least=bounds[0], most=bounds[1])

    def _bounds(self) -> tuple[int, int]:
        end = self._text.find("}", self._at)
        inner = self._text[self._at + 1 : end] if end > 0 else ""
        least, comma, most = inner.partition(",")
        numbers = [number for number in (least, most) if number]
        if not least or not all(text.isascii() and text.isdigit() for text in numbers):
            raise UnsupportedPatternError("the bounds of a repetition are wrong")
        if any(len(text) > 4 for text in numbers):
            raise UnsupportedPatternError("an expression has too many states")
        self._at = end + 1
        first = int(least)
        last = first if not comma else (int(most) if most else -1)
        if 0 <= last < first:
            raise UnsupportedPatternError("the bounds of a repetition are wrong")
        return first, last

    def _atom(self) -> _Part:
        character = self._take()
        if character == "(":
            if self._peek() == "?":
                if self._text[self._at : self._at + 2] != "?:":
                    raise UnsupportedPatternError("this kind of group is not supported")
                self._at += 2
            node = self._alternatives()
            if self._take() != ")":
                raise UnsupportedPatternError("a group does not end")
            return node
        if character in "^$":
            return _Part(character)
        if character == ".":
            return _Part(_ANY, test=lambda one: one not in "\n\r")
        if character == "[":
            return _Part(_ANY, test=self._class())
        if character == "\\":
            return _Part(_ANY, test=self._escape())
        if character in "*+?{":
            raise UnsupportedPatternError("a quantifier has nothing to repeat")
        return _Part(_ANY, test=character.__eq__)

    def _escape(self) -> CharacterTest:
        character = self._take()
        if (test := _CLASSES.get(character)) is not None:
            return test
        if character in _CONTROLS:
            return _CONTROLS[character].__eq__
        if character.isalnum():
            raise UnsupportedPatternError("this escape is not supported")
        return character.__eq__

    def _class(self) -> CharacterTest:
        inverted = self._peek() == "^"
        self._at += inverted
        tests: list[CharacterTest] = []
        singles: set[str] = set()
        first = True
        while (character := self._take()) != "]" or first:
            first = False
            if character in "[&" and self._peek() in (":", "&"):
                raise UnsupportedPatternError("this kind of class is not supported")
            if character == "\\":
                tests.append(self._escape())
                continue
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                if (last := self._take()) == "\\":
                    last = self._take()
                if last < character or last.isalnum() != character.isalnum():
                    raise UnsupportedPatternError("the range of a class is wrong")
                tests.append(functools.partial(_within, character, last))
            else:
                singles.add(character)
        if len(tests) > MAX_RANGES:
            raise UnsupportedPatternError("a class has too many ranges")
        tests.append(singles.__contains__)
        return functools.partial(_one_of, tuple(tests), inverted)


class _Part:
    """A part of an expression."""

    __slots__ = ("kind", "least", "most", "parts", "test")

    def __init__(
        self,
        kind: str,
        parts: list[_Part] | None = None,
        *,
        test: CharacterTest | None = None,
        least: int = 0,
        most: int = 0,
    ) -> None:
        self.kind = kind
        self.parts = parts or []
        self.test = test
        self.least, self.most = least, most


def _within(first: str, last: str, character: str) -> bool:
    return first <= character <= last


def _one_of(tests: tuple[CharacterTest, ...], inverted: bool, character: str) -> bool:
    return any(test(character) for test in tests) != inverted


def _digit(character: str) -> bool:
    return "0" <= character <= "9"


def _word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _space(character: str) -> bool:
    return character in " \t\n\x0b\f\r"


_CLASSES: dict[str, CharacterTest] = {
    "d": _digit,
    "D": lambda one: not _digit(one),
    "w": _word,
    "W": lambda one: not _word(one),
    "s": _space,
    "S": lambda one: not _space(one),
}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
