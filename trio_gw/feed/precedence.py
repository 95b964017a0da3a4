"""Which project holds which id, name and base path; kept on disk across restarts.

One process (`decides`) replaces the file as a whole. The other workers of the same gateway,
identified by `writer`, read it when it has changed, so that all serve the same. At the start every
worker reads it. If there is no usable file, the order is kept in memory only; after a restart the
order of origins and folders decides. Blocks.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import msgspec

from trio_gw.feed.atomic_file import file_version, replacing
from trio_gw.routing.conflicts import Claim, Holder  # noqa: TC001 - needed to decode the file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trio_gw.feed.atomic_file import FileVersion

log = logging.getLogger("trio_gw.feed")

FILE = "precedence.json"
FILE_BYTES = 64 << 20


class _HolderClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The claims of one project."""

    holder: Holder
    claims: tuple[Claim, ...]


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file."""

    writer: str = ""
    holders: tuple[_HolderClaims, ...] = ()


class Precedence:
    """The file in `folder`; `label` is the name of the folder in messages."""

    def __init__(self, folder: Path, label: str, *, writer: str = "", decides: bool = True) -> None:
        self.decides = decides
        self._path = folder / FILE
        self._label = f"{label}/{FILE}"
        self._writer = writer
        self._warned = False

    def version(self) -> FileVersion | None:
        """Return the version of the file; None if there is none."""
        try:
            return file_version(self._path)
        except OSError:
            return None

    def read(self, *, first: bool) -> dict[Claim, Holder]:
        """Read the holders of all claims; empty if they are not known.

        Only the `first` read accepts a file that another gateway wrote.
        """
        try:
            with open(self._path, "rb") as file:
                content = msgspec.json.decode(file.read(FILE_BYTES), type=_Content)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            self._warn(f"cannot be read ({os.strerror(error.errno or 0)})")
            return {}
        except (msgspec.MsgspecError, ValueError) as error:
            self._warn(f"is damaged: {error}")
            return {}
        if not first and content.writer != self._writer:
            return {}
        return {claim: each.holder for each in content.holders for claim in each.claims}

    def write(self, held: Mapping[Claim, Holder]) -> None:
        """Replace the file. If that fails, log a warning once."""
        by_holder: dict[Holder, list[Claim]] = {}
        for claim, holder in held.items():
            by_holder.setdefault(holder, []).append(claim)
        holders = tuple(_HolderClaims(holder, tuple(each)) for holder, each in by_holder.items())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file:
                file.write(msgspec.json.encode(_Content(self._writer, holders)) + b"\n")
        except OSError as error:
            self._warn(f"cannot be written ({os.strerror(error.errno or 0)})")

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "%s %s: after a restart it is not known which API was served first;"
                " give the gateway's user write access to it",
                *(self._label, what),
            )
