"""The text files of a project that is being edited, and where their values are. Pure."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from trio_gw.config import layout, text_edit
from trio_gw.config.text_edit import JsonText, NotEditableError, YamlText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trio_gw.config.nodes import Plain

MOST_FILES = 64
MOST_BYTES = 2 << 20  # of all files together
LONGEST = 5.0  # seconds for all changes of one request
_PART = re.compile(r"[^\x00-\x1f\x7f\\/:]{1,120}")


class BadFilesError(Exception):
    """These files cannot be those of a project; the text gives the reason."""


def check_files(files: Mapping[str, str]) -> None:
    """Refuse files that cannot be those of a project. Raises `BadFilesError`."""
    if not files:
        raise BadFilesError("there are no files")
    if len(files) > MOST_FILES:
        raise BadFilesError(f"more than {MOST_FILES} files")
    for path in files:
        check_path(path)
    try:
        size = sum(len(text.encode()) for text in files.values())
    except UnicodeEncodeError:
        raise BadFilesError("a text holds half of a surrogate pair") from None
    if size > MOST_BYTES:
        raise BadFilesError(f"the files have more than {MOST_BYTES >> 20} MiB together")


def check_path(path: str) -> None:
    """Refuse a path that is no file of a project, or that leads out of it."""
    parts = path.split("/")
    sane = all(_PART.fullmatch(part) and part.strip(". ") for part in parts)
    if not sane or len(parts) > 6 or not path.isprintable():
        raise BadFilesError(f"{path[:80]!r} is no path of a file in a project")
    if layout.kind(path) is None:
        raise BadFilesError(
            f"{path[:80]!r} is not read by the gateway: a project has api.yaml,"
            " Definitions/asyncapi.yaml, deployment_environments.yaml and certificates"
        )


class DraftFiles:
    """The files, with an editor for each that is changed."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = dict(files)
        self._until = time.monotonic() + LONGEST
        self._editors: dict[str, YamlText | JsonText] = {}

    @property
    def texts(self) -> dict[str, str]:
        """The files with all changes."""
        return {**self._files, **{path: each.text for path, each in self._editors.items()}}

    def path_of(self, kind: layout.Kind) -> str:
        """Return the path of the file of a kind that the loader reads; empty without one."""
        names = [path for path in self._files if layout.kind(path) == kind]
        return min(names, key=lambda path: (path.count("/"), path), default="")

    def add(self, path: str, text: str) -> None:
        """Add a file, or replace one."""
        self._editors.pop(path, None)
        self._files[path] = text

    def editor(self, kind: layout.Kind) -> YamlText | JsonText:
        """Return the editor of the file of a kind. Raises `NotEditableError`."""
        path = self.path_of(kind)
        if not path:
            raise NotEditableError("there is no such file")
        if path not in self._editors:
            self._editors[path] = text_edit.editor(self._files[path], path)
        return self._editors[path]

    def why_not(self, kind: layout.Kind) -> str:
        """Return why the file of a kind cannot be edited by a form; empty if it can."""
        try:
            self.editor(kind)
        except NotEditableError as error:
            return str(error)
        return ""

    def value(self, kind: layout.Kind, *path: str) -> Any:  # noqa: ANN401 - a value of a file
        """Return the value at a path, None without one; keys are found regardless of case."""
        values: Any = self.editor(kind).values
        for key in spelled(values, path):
            values = values.get(key) if isinstance(values, dict) else None
        return values

    def set(self, kind: layout.Kind, path: Sequence[str], value: Plain) -> None:
        """Set the value at a path; None removes it. Each change reads the whole file again."""
        if time.monotonic() > self._until:
            raise NotEditableError(f"it took more than {LONGEST:g} s; change it in the text")
        editor = self.editor(kind)
        where = spelled(editor.values, path)
        if value is None:
            editor.delete(where)
        else:
            editor.set(where, value)


def spelled(values: object, path: Sequence[str]) -> list[str]:
    """Return a path with its keys as the file spells them."""
    found = []
    for key in path:
        name = key
        if isinstance(values, dict):
            if key not in values:
                same = (each for each in values if each.casefold() == key.casefold())
                name = next(same, key)
            values = values.get(name)
        found.append(name)
    return found
