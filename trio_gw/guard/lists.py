"""Files of the settings with one entry a line, which operators and their scripts write.

Read by `revocations` and `blocklist`. A `#` at the start of a line or after a space begins a
comment. An entry is urgent, removing one is not; so a file that is missing or cannot be read
removes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trio_gw.config import regular
from trio_gw.errors import Problem, UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COMMENT = re.compile(r"(?:^|\s)#")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read(path: Path, most: int, stays: str, spare: str, *, held: bool) -> bytes:
    """Read such a file. A missing file counts as empty, unless entries of it are `held`.

    `stays` says what remains in force, `spare` what may be removed from a file with more than
    `most` bytes. Raises UnusableError.
    """
    try:
        data = regular.read(path, most + 1)
    except FileNotFoundError:
        if not held:
            return b""
        hint = "put it back, or an empty file if there are no entries any more"
        raise UnusableError([Problem(str(path), 0, 0, f"is missing; {stays}", hint)]) from None
    except OSError as error:
        what = f"cannot be read ({error.strerror}); {stays}"
        hint = "let the gateway's user read it"
        raise UnusableError([Problem(str(path), 0, 0, what, hint)]) from None
    if len(data) > most:
        what = f"is larger than {most >> 20} MiB, so it is not read"
        raise UnusableError([Problem(str(path), 0, 0, what, f"leave out {spare}")])
    return data


def lines(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Yield the number, entry and comment of every line that has an entry."""
    for number, line in enumerate(data.decode("utf-8-sig", "replace").split("\n"), 1):
        entry, *comment = _COMMENT.split(line, maxsplit=1)
        if text := entry.strip():
            yield number, text, "".join(comment).strip()


def legible(text: str) -> bool:
    """Return whether an entry was UTF-8 without control characters."""
    return not _CONTROL.search(text) and "\ufffd" not in text
