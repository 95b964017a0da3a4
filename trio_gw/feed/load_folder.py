"""Loads a folder of API projects once, without watching it.

The command line uses it. It has no event loop. `folder_source` uses the same code to read a
project.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trio_gw.errors import Problem
from trio_gw.feed import project_files
from trio_gw.feed.examine import examine
from trio_gw.feed.walk import access_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.feed.project_state import Snapshot


def load_once(
    root: Path,
    *,
    label: str = "apis",
    only: Container[str] | None = None,
    identify: Callable[[Mapping[str, bytes]], None] = lambda digests: None,
) -> Snapshot:
    """Load the current projects of `root` with the same code as `follow`. Blocks.

    For the command line. `only` names the projects to load, None means all. A root that cannot be
    listed is a problem. `identify` is the same as for `follow`.
    """
    projects: dict[str, ApiProject] = {}
    digests: dict[str, bytes] = {}
    try:
        scan = project_files.scan(root, label=label, only=only)
        problems: list[Problem] = []
        for name in scan.projects:
            reading = examine(root, name, label, b"")
            if reading is not None and reading.result is not None:
                digests[name] = reading.digest
                problems += reading.result.problems
                if reading.result.project is not None:
                    projects[name] = reading.result.project
    except OSError as error:
        return projects, (root_problem(label, error),)
    identify(digests)
    return projects, tuple(problems)


def root_problem(label: str, error: OSError) -> Problem:
    """Return the problem that the root itself cannot be read."""
    what = f"the folder of API projects cannot be read ({os.strerror(error.errno or 0)})"
    hint = f"create it, or {access_hint(error)}; projects loaded earlier stay in use"
    return Problem(label, 0, 0, what, hint)
