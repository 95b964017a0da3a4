"""The drafts of a user: files that are not deployed yet, kept so that a closed page loses nothing.

One file for each draft in `portal/drafts/`, replaced by rename. The tag of a draft changes with
every version, so that two pages that edit the same draft notice each other. Blocks.
spec: portal §2.8.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import regular
from trio_gw.feed.atomic_file import TEMPORARY, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST = 20  # drafts of one user
MOST_IN_ALL = 1000
MOST_KEY = 300  # characters
MOST_BYTES = 6 << 20  # of one file; its texts are escaped
OLD = 90 * 86400  # seconds after which a draft may make room for another
LOCK = 5.0  # seconds to wait for the lock
_LOCK_RETRY = 0.02


class Draft(msgspec.Struct, frozen=True):
    """A draft. `base` is the tag of what was served when it began, empty for a new API."""

    tag: str
    user: str
    key: str
    saved: float
    base: str
    files: dict[str, str]


class DraftChangedError(Exception):
    """The draft has changed meanwhile; `current` is its tag, empty if it is gone."""

    def __init__(self, current: str) -> None:
        super().__init__("the draft has changed meanwhile")
        self.current = current


class TooManyDraftsError(Exception):
    """There is no room for another draft."""


class Drafts:
    """The drafts in a folder, which may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "drafts"

    def read(self, user: str, key: str) -> Draft | None:
        """Return a draft; None without one, or if its file is damaged. Raises OSError."""
        return self._read(self._path(user, key))

    def write(self, user: str, key: str, base: str, files: dict[str, str], tag: str | None) -> str:
        """Keep a draft; return its new tag. `tag`: the version it follows, None for any.

        Raises `DraftChangedError`, `TooManyDraftsError`, and OSError.
        """
        path = self._path(user, key)
        draft = Draft(secrets.token_hex(8), user, key, time.time(), base, files)
        data = msgspec.json.encode(draft)
        with self._locked():
            before = self._read(path)
            _expect(tag, before)
            if before is None:
                self._make_room(path)
            with replacing(path) as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
        return draft.tag

    def delete(self, user: str, key: str, tag: str | None = None) -> bool:
        """Discard a draft; return whether there was one. Raises as `write` does."""
        path = self._path(user, key)
        if not self._folder.is_dir():
            return False
        with self._locked():
            before = self._read(path)
            _expect(tag, before)
            path.unlink(missing_ok=True)
        return before is not None

    def keys(self, user: str) -> list[str]:
        """List the keys of the drafts of a user, the latest first."""
        found = [self._read(path) for path in self._folder.glob(f"{_digest(user)}-*.json")]
        drafts = sorted(filter(None, found), key=lambda each: -each.saved)
        return [each.key for each in drafts if each.user == user]

    def _path(self, user: str, key: str) -> Path:
        return self._folder / f"{_digest(user)}-{_digest(key)}.json"

    def _read(self, path: Path) -> Draft | None:
        try:
            return msgspec.json.decode(regular.read(path, MOST_BYTES + 1), type=Draft)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def _make_room(self, path: Path) -> None:
        """Discard old drafts, of this user or of all, where there is no room for another."""
        names = sorted(self._folder.glob("*.json"), key=lambda each: each.stat().st_mtime)
        own = [each for each in names if each.name[:33] == path.name[:33]]
        for listed, most in ((own, MOST), (names, MOST_IN_ALL)):
            if len(listed) < most:
                continue
            if listed[0].stat().st_mtime > time.time() - OLD:
                raise TooManyDraftsError
            listed[0].unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._folder / ".lock", "ab", opener=regular.opener) as file:
            until = time.monotonic() + LOCK
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise TimeoutError from None
                    time.sleep(_LOCK_RETRY)
            for left in self._folder.glob(f"{TEMPORARY}*"):
                left.unlink(missing_ok=True)  # of a process that was killed
            yield


def _expect(tag: str | None, before: Draft | None) -> None:
    current = "" if before is None else before.tag
    if tag is not None and tag != current:
        raise DraftChangedError(current)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
