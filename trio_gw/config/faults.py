"""Faults in declarations as values: for files of projects, and for settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyPath = tuple[str | int, ...]


def printable(text: str) -> str:
    """Escape a message for one line of a log; it may quote a file."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class WrongError(Exception):
    """A value that cannot be used: what is wrong with it, and how to fix it.

    Raised by code that knows the value but not its place; a caller that knows the place catches it.
    """

    def __init__(self, what: str, hint: str) -> None:
        self.what = what
        self.hint = hint
        super().__init__(what)


class SettingsFault(msgspec.Struct, frozen=True):
    """A broken rule: the path of its key, what is wrong, how to fix it."""

    path: KeyPath
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"


def dotted(path: KeyPath) -> str:
    """Write a key path in dotted form: `issuers[0].jwks`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def duplicates(table: str, key: str, values: list[str]) -> Iterator[SettingsFault]:
    """Yield a fault for every entry of a list of tables whose key repeats an earlier one."""
    for index, value in enumerate(values):
        if value and (first := values.index(value)) < index:
            yield SettingsFault(
                (*table.split("."), index, key),
                f"{table}[{index}].{key} repeats {value!r} of {table}[{first}]",
                "keep one of them",
            )
