"""The files of a served API, read again from where it came from: folder, zip or commit. Blocks.

The gateway keeps no files in memory. Which file is asked for never becomes a path: the files of
the whole project are read, by the code that reads projects, and one of them is chosen by name.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config import layout
from trio_gw.config.project import load
from trio_gw.documents.definition_cache import definition_of
from trio_gw.errors import Problem, UnusableError
from trio_gw.feed import archive, origins, project_files
from trio_gw.feed.commit_store import CommitStore, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.config.project import LoadedProject
    from trio_gw.config.settings import Settings
    from trio_gw.documents.definition import WholeDefinition

ATTEMPTS = 3  # a commit may be replaced while it is read
MOST_LOADED = 16  # projects that are kept as loaded

_loaded: OrderedDict[bytes, LoadedProject] = OrderedDict()
_lock = Lock()


class ProjectDocuments(NamedTuple):
    """The files of a project by path, and its definition.

    `path` is that of the definition, empty if there is none. `definition` is None if it cannot be
    read; `problems` say why, and `findings` are those of loading the project. `differs`: the files
    say something else than what is served: they were changed and are broken, or not loaded yet.
    """

    files: Mapping[str, bytes]
    path: str
    definition: WholeDefinition | None
    problems: tuple[Problem, ...]
    findings: tuple[Problem, ...]
    differs: bool


def read_documents(
    settings: Settings,
    base: Path,
    project: ApiProject,
    zip_of: Callable[[str], bytes | None] | None = None,
) -> ProjectDocuments:
    """Read the documents of a served project. Never raises for what the files hold.

    `zip_of` returns the zip of a project of the control plane; None if there is none.
    """
    try:
        if project.folder.startswith(f"{origins.CONTROL_PLANE}/"):
            files, problems = _unpack(project.folder, zip_of)
        else:
            files, problems = read_files(settings, base, project.folder)
    except OSError as error:
        what = f"cannot be read ({os.strerror(error.errno or 0)})"
        hint = "what was loaded before is still served"
        problem = Problem(project.folder, 0, 0, what, hint)
        return ProjectDocuments({}, "", None, (problem,), (), differs=False)
    path = definition_path(files)
    if not path:
        if not files:
            what = "its files are not at hand here, so only what is served can be shown"
            problems = problems or (Problem(project.folder, 0, 0, what, severity="warning"),)
        return ProjectDocuments(files, "", None, problems, (), differs=False)
    definition = None
    try:
        definition = definition_of(files[path], f"{project.folder}/{path}")
        problems = (*problems, *definition.problems)
    except UnusableError as error:
        problems = (*problems, *error.problems)
    loaded = _load(files, project.folder)
    differs = loaded.project is None or loaded.project.topics != project.topics
    return ProjectDocuments(files, path, definition, problems, loaded.problems, differs)


def read_files(
    settings: Settings, base: Path, folder: str
) -> tuple[Mapping[str, bytes], tuple[Problem, ...]]:
    """Read the files of the project that messages call `folder`; none if it has none here.

    Raises OSError.
    """
    label, _, name = folder.partition("/")
    if folder.startswith(f"{settings.deployed}/"):
        label, name = settings.deployed, folder.removeprefix(f"{settings.deployed}/")
    found = None
    if not name or "/" in name or name.startswith("."):
        return {}, ()
    if label == settings.deployed:
        found = project_files.read(base / settings.deployed, name, label=label)
    elif label == origins.GIT and settings.git.url:
        found = _read_commit(settings, base, name)
    elif label == origins.APIS:
        found = project_files.read(base / settings.apis, name, label=label)
    return ({}, ()) if found is None else (found.files, found.problems)


def _unpack(
    folder: str, zip_of: Callable[[str], bytes | None] | None
) -> tuple[Mapping[str, bytes], tuple[Problem, ...]]:
    """Unpack a zip of the control plane. Raises OSError."""
    try:
        data = None if zip_of is None else zip_of(folder)
        return ({}, ()) if data is None else (archive.unpack(data, folder), ())
    except UnusableError as error:
        return {}, error.problems
    except ValueError:
        return {}, (Problem(folder, 0, 0, "its zip is damaged", "it is fetched again"),)


def _read_commit(settings: Settings, base: Path, name: str) -> project_files.ProjectFiles | None:
    store = CommitStore(base / settings.git.folder)
    for attempt in range(ATTEMPTS):
        state = store.read(source_of(settings.git))
        if state is None or not state.tree:
            return None
        try:
            return project_files.read(store.root / state.tree, name, label=origins.GIT)
        except FileNotFoundError:
            if attempt + 1 == ATTEMPTS:
                raise
    return None


def definition_path(files: Mapping[str, bytes]) -> str:
    """Return the path of the definition: the one nearest to the root; empty without one."""
    names = [name for name in files if layout.kind(name) == "asyncapi"]
    return min(names, key=lambda name: (name.count("/"), name), default="")


def _load(files: Mapping[str, bytes], folder: str) -> LoadedProject:
    """Load a project as the gateway does, to compare; the last results are kept by digest."""
    digest = hashlib.sha256(folder.encode())
    for path, data in sorted(files.items()):
        digest.update(f"\0{path}\0{len(data)}\0".encode())
        digest.update(data)
    key = digest.digest()
    with _lock:
        found = _loaded.get(key)
    if found is None:
        found = load(files, folder, os.environ)
        with _lock:
            _loaded[key] = found
            while len(_loaded) > MOST_LOADED:
                _loaded.popitem(last=False)
    return found
