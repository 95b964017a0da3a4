"""Whose the ids, names and base paths are that are served, kept over restarts.

One process decides (`decides`): it writes the file, as a whole, by a rename. The other workers of
the same gateway, known by `writer`, read it whenever it has changed, so that all serve the same. At
the start everybody takes what is there. Without the file, or when it cannot be used, the order is
kept in memory; after a restart the order of origins and folders decides then. Blocks.
"""

from __future__ import annotations

import logging
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.routing.conflicts import Claim, Holder  # noqa: TC001 - needed to read the file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger("trio_gw.feed")

FILE = "precedence.json"
FILE_BYTES = 64 << 20
_COMING = ".coming-"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one project holds."""

    holder: Holder
    claims: tuple[Claim, ...]


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    writer: str = ""
    holders: tuple[_Entry, ...] = ()


class Mark(NamedTuple):
    """What tells one file from another."""

    inode: int
    modified: int
    size: int


class Precedence:
    """The file in `folder`; `label` stands for it in messages."""

    def __init__(self, folder: Path, label: str, *, writer: str = "", decides: bool = True) -> None:
        self.decides = decides
        self._path = folder / FILE
        self._label = f"{label}/{FILE}"
        self._writer = writer
        self._told = False

    def mark(self) -> Mark | None:
        """Return what the file is now; None if there is none."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return Mark(found.st_ino, found.st_mtime_ns, found.st_size)

    def read(self, *, first: bool) -> dict[Claim, Holder]:
        """Read whose the claims are; nothing if that is not known.

        Unless it is the `first` time, only what the own gateway wrote counts.
        """
        try:
            with open(self._path, "rb") as file:
                state = msgspec.json.decode(file.read(FILE_BYTES), type=_State)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            self._tell(f"cannot be read ({os.strerror(error.errno or 0)})")
            return {}
        except (msgspec.MsgspecError, ValueError) as error:
            self._tell(f"is damaged: {error}")
            return {}
        if not first and state.writer != self._writer:
            return {}
        return {claim: each.holder for each in state.holders for claim in each.claims}

    def write(self, held: Mapping[Claim, Holder]) -> None:
        """Replace the file; what cannot be written is kept in memory only."""
        by_holder: dict[Holder, list[Claim]] = {}
        for claim, holder in held.items():
            by_holder.setdefault(holder, []).append(claim)
        entries = tuple(_Entry(holder, tuple(claims)) for holder, claims in by_holder.items())
        coming = self._path.with_name(f"{_COMING}{secrets.token_hex(8)}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(coming, "xb") as file:
                    file.write(msgspec.json.encode(_State(self._writer, entries)) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(coming, self._path)
            except BaseException:
                coming.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._tell(f"cannot be written ({os.strerror(error.errno or 0)})")

    def _tell(self, what: str) -> None:
        """Warn, once."""
        if not self._told:
            self._told = True
            log.warning(
                "%s %s: which API was served first is not known after a restart;"
                " let the gateway's user write there",
                *(self._label, what),
            )
