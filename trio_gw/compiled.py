"""The compiled form of the relay's hot path: found, or done without.

Where a C compiler was at hand when the gateway was installed, some modules lie in `_compiled/` as
extensions made from the very same sources (`hatch_build.py`). A file's name carries the
fingerprint of those sources: an extension that is not of these sources is not of this gateway, and
is left alone. `TRIO_GW_PURE=1` leaves all of them alone.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PURE = "TRIO_GW_PURE"
# In the order in which they need each other.
MODULES = ("relay/lane", "relay/pair", "relay/epoll_loop", "guard/counter", "guard/limiter")
SOURCES = (*(f"{module}.py" for module in MODULES), *(f"{module}.pxd" for module in MODULES),
           "relay/syscalls.pxd", "relay/runs.pxd", "guard/memory_barrier.pxd")  # fmt: skip
PACKAGE = Path(__file__).parent


def wanted() -> bool:
    """Tell whether compiled modules may be used, and made."""
    return os.environ.get(PURE, "") in ("", "0")


def files() -> dict[str, Path]:
    """Name the compiled modules of these sources, and the file each one has or would have."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((PACKAGE / source).read_bytes())
    tail = f"-{digest.hexdigest()[:16]}{EXTENSION_SUFFIXES[0]}"
    return {
        f"trio_gw.{module.replace('/', '.')}": PACKAGE / "_compiled" / f"{Path(module).name}{tail}"
        for module in MODULES
    }


class _Finder:
    """Puts compiled modules in the place of their sources: all of them, or none."""

    def __init__(self, known: dict[str, Path]) -> None:
        self._known = known

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._known:
            return None
        return spec_from_file_location(name, self._known[name])


def install() -> None:
    """Use the compiled modules from here on, if they are there and wanted."""
    if not wanted():
        return
    try:
        known = files()
    except OSError:  # sources were left out of this installation
        return
    if all(path.is_file() for path in known.values()):
        sys.meta_path.insert(0, _Finder(known))


def in_use() -> bool:
    """Tell whether `install` found what it wants to use."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def why_not() -> str:
    """Say in a few words why nothing compiled is in use."""
    if not wanted():
        return f"{PURE} is set"
    return "nothing was compiled from these sources; install again where there is a C compiler"
