"""A broken rule as a value, and what every group of rules shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyPath = tuple[str | int, ...]


class Fault(msgspec.Struct, frozen=True):
    """A broken rule: the path of its key, what is wrong, how to fix it."""

    path: KeyPath
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"


def dotted(path: KeyPath) -> str:
    """Write a key path as people do: `issuers[0].jwks`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def duplicates(table: str, key: str, values: list[str]) -> Iterator[Fault]:
    """Yield a fault for every entry of a list of tables whose key repeats an earlier one."""
    for index, value in enumerate(values):
        if value and (first := values.index(value)) < index:
            yield Fault(
                (*table.split("."), index, key),
                f"{table}[{index}].{key} repeats {value!r} of {table}[{first}]",
                "keep one of them",
            )
