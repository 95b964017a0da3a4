"""Read one project and load it, unless its files are already known. Blocks."""

from __future__ import annotations

import hashlib
import logging
import os

from trio_gw.config.project import load
from trio_gw.errors import Problem, has_errors
from trio_gw.feed import project_files
from trio_gw.feed.project_state import LoadResult, ProjectReading
from trio_gw.feed.walk import text

log = logging.getLogger("trio_gw.feed")


def examine(
    root: str | os.PathLike[str], name: str, label: str, known: bytes
) -> ProjectReading | None:
    """Read a project and load it, unless its digest is `known`; None if it is gone.

    Raises OSError if the root is gone.
    """
    contents = project_files.read(root, name, label=label)
    if contents is None:
        return None
    digest = _digest(contents)
    if digest == known or not contents.steady:
        return ProjectReading(contents.signature, contents.steady, digest, None)
    folder = f"{label}/{text(name)}"
    try:
        loaded = load(contents.files, folder, os.environ)
    except Exception:
        # `load` should never raise. If it does, the other projects must not be affected.
        log.exception("loading %s failed", folder)
        what = "cannot be loaded because of a bug in the gateway"
        problem = Problem(folder, 0, 0, what, "report the bug; the log has the details")
        result = LoadResult(None, (*contents.problems, problem), maybe_incomplete=False)
    else:
        # A file that cannot be read may become readable, like a missing file may appear. For the
        # loader an unreadable file is missing, so its problem about that is left out.
        broken = has_errors(contents.problems)
        incomplete = broken or loaded.incomplete
        project = None if incomplete else loaded.project
        more = () if broken and loaded.incomplete else loaded.problems
        result = LoadResult(project, (*contents.problems, *more), maybe_incomplete=incomplete)
    return ProjectReading(contents.signature, True, digest, result)


def _digest(contents: project_files.ProjectFiles) -> bytes:
    digest = hashlib.sha256()
    for path, data in sorted(contents.files.items()):
        digest.update(f"{len(path.encode())} {path} {len(data)} ".encode())
        digest.update(data)
    for problem in contents.problems:
        digest.update(str(problem).encode())
    return digest.digest()
