"""The syntax of the regular expressions of conditions, parsed to a tree. Pure; for `patterns`.

It is what conditions use: literals, `.`, classes, groups, `|`, `* + ? {m,n}`, `^`, `$`,
`\\d \\w \\s`. Look-around, backreferences and the like are refused.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    CharacterTest = Callable[[str], bool]

MAX_DEPTH = 30  # of groups
MAX_RANGES = 16  # and escapes of one class: each costs as much as a state

ANY, BEGIN, END = ".", "^", "$"


class UnsupportedPatternError(ValueError):
    """An expression that is wrong, too large, or uses what is not supported."""


class PatternPart:
    """A part of an expression: `kind` is ANY, BEGIN, END, "sequence", "choice" or "repeat".

    ANY is a character that passes `test`. A repetition has one part; `most` is -1 without a limit.
    """

    __slots__ = ("kind", "least", "most", "parts", "test")

    def __init__(
        self,
        kind: str,
        parts: list[PatternPart] | None = None,
        *,
        test: CharacterTest | None = None,
        least: int = 0,
        most: int = 0,
    ) -> None:
        self.kind = kind
        self.parts = parts or []
        self.test = test
        self.least, self.most = least, most


def parse(text: str) -> PatternPart:
    """Parse an expression. Raises UnsupportedPatternError."""
    parser = _Parser(text)
    node = parser.alternatives()
    if parser.at < len(text):
        raise UnsupportedPatternError("a group ends that has not begun")
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0
        self._depth = 0

    def _peek(self) -> str:
        return self._text[self.at] if self.at < len(self._text) else ""

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise UnsupportedPatternError("an expression ends too early")
        self.at += 1
        return character

    def alternatives(self) -> PatternPart:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnsupportedPatternError("groups are nested too deep")
        parts = [self._sequence()]
        while self._peek() == "|":
            self.at += 1
            parts.append(self._sequence())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else PatternPart("choice", parts)

    def _sequence(self) -> PatternPart:
        parts: list[PatternPart] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return PatternPart("sequence", parts)

    def _quantified(self, node: PatternPart) -> PatternPart:
        character = self._peek()
        bounds = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}.get(character)
        if bounds is not None:
            self.at += 1
        elif character == "{":
            bounds = self._bounds()
        else:
            return node
        if self._peek() == "?":
            self.at += 1  # lazy: the same answer to whether there is a match
        elif self._peek() in ("+", "*", "{") and self._peek():
            raise UnsupportedPatternError("possessive and double quantifiers are not supported")
        return PatternPart("repeat", [node], least=bounds[0], most=bounds[1])

    def _bounds(self) -> tuple[int, int]:
        end = self._text.find("}", self.at)
        inner = self._text[self.at + 1 : end] if end > 0 else ""
        least, comma, most = inner.partition(",")
        numbers = [number for number in (least, most) if number]
        if not least or not all(text.isascii() and text.isdigit() for text in numbers):
            raise UnsupportedPatternError("the bounds of a repetition are wrong")
        if any(len(text) > 4 for text in numbers):
            raise UnsupportedPatternError("an expression has too many states")
        self.at = end + 1
        first = int(least)
        last = first if not comma else (int(most) if most else -1)
        if 0 <= last < first:
            raise UnsupportedPatternError("the bounds of a repetition are wrong")
        return first, last

    def _atom(self) -> PatternPart:
        character = self._take()
        if character == "(":
            if self._peek() == "?":
                if self._text[self.at : self.at + 2] != "?:":
                    raise UnsupportedPatternError("this kind of group is not supported")
                self.at += 2
            node = self.alternatives()
            if self._take() != ")":
                raise UnsupportedPatternError("a group does not end")
            return node
        if character in "^$":
            return PatternPart(character)
        if character == ".":
            return PatternPart(ANY, test=lambda one: one not in "\n\r")
        if character == "[":
            return PatternPart(ANY, test=self._class())
        if character == "\\":
            return PatternPart(ANY, test=self._escape())
        if character in "*+?{":
            raise UnsupportedPatternError("a quantifier has nothing to repeat")
        return PatternPart(ANY, test=character.__eq__)

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
        self.at += inverted
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
            if self._peek() == "-" and self._text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
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
