"""Find the compiled form of the relay's hot path.

Where a C compiler was available at installation, `_compiled/` contains some modules as extensions
(`hatch_build.py`), built from the same sources. A file name contains the fingerprint of these
sources. An extension whose fingerprint differs from the sources is ignored. `TRIO_GW_PURE=1`
ignores all extensions.
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
# In the order in which they import each other.
MODULES = ("relay/lane", "relay/pair", "relay/epoll_loop", "guard/counter", "guard/limiter",
           "telemetry/frame_queue")  # fmt: skip
SOURCES = (*(f"{module}.py" for module in MODULES), *(f"{module}.pxd" for module in MODULES),
           "relay/syscalls.pxd", "relay/runs.pxd", "guard/memory_barrier.pxd")  # fmt: skip
PACKAGE = Path(__file__).parent


def wanted() -> bool:
    """Return whether compiled modules may be used, and built."""
    return os.environ.get(PURE, "") in ("", "0")


def files() -> dict[str, Path]:
    """Map the names of the compiled modules to the files of these sources' fingerprint."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((PACKAGE / source).read_bytes())
    tail = f"-{digest.hexdigest()[:16]}{EXTENSION_SUFFIXES[0]}"
    return {
        f"trio_gw.{module.replace('/', '.')}": PACKAGE / "_compiled" / f"{Path(module).name}{tail}"
        for module in MODULES
    }


class _Finder:
    """Finds compiled modules instead of their sources."""

    def __init__(self, known: dict[str, Path]) -> None:
        self._known = known

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._known:
            return None
        return spec_from_file_location(name, self._known[name])


def install() -> None:
    """Use the compiled modules from here on, if all of them exist and may be used."""
    if not wanted():
        return
    try:
        known = files()
    except OSError:  # this installation has no sources
        return
    if all(path.is_file() for path in known.values()):
        sys.meta_path.insert(0, _Finder(known))


def in_use() -> bool:
    """Return whether compiled modules are in use."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def why_not() -> str:
    """Say in a few words why nothing compiled is in use."""
    if not wanted():
        return f"{PURE} is set"
    return "nothing was compiled from these sources; install again where there is a C compiler"
