"""Rules of `[git]`: the address, the branch, the credentials that go with it."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING

from trio_gw.config import git
from trio_gw.config.addresses import is_loopback
from trio_gw.config.faults import SettingsFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

LEAST_INTERVAL = 1.0
MAX_SIZE = 1024


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of the git source; nothing is asked of one that is off."""
    table = settings.git
    if not table.url:
        if table != git.GitSettings():
            what = "git.url is not given, so [git] has no effect"
            yield SettingsFault(
                ("git",), what, "name the repository, or remove the table", "warning"
            )
        return
    try:
        address = git.parse(table.url)
    except ValueError as error:
        yield SettingsFault(
            ("git", "url"),
            # Not the address itself: there may be a password in it.
            f"git.url is not the address of a repository: {error}",
            "write https://host/path, ssh://git@host/path or /path; credentials go into other keys",
        )
    else:
        yield from _credentials(table, address)
    yield from _values(table)
    for name in ("apis", "deployed"):
        if PurePath(table.folder).is_relative_to(getattr(settings, name)):
            what = f"git.folder is the folder of {name}, or in it"
            yield SettingsFault(("git", "folder"), what, "name a folder of its own")


def _credentials(table: git.GitSettings, address: git.Address) -> Iterator[SettingsFault]:
    http = address.scheme in ("https", "http")
    for key, fits, where in (
        ("token", http, "https:// URLs"),
        ("username", http, "https:// URLs"),
        ("ca", address.scheme == "https", "https:// URLs"),
        ("ssh_key", address.scheme == "ssh", "ssh:// URLs"),
        ("known_hosts", address.scheme == "ssh", "ssh:// URLs"),
    ):
        if getattr(table, key) and not fits:
            yield SettingsFault(
                ("git", key), f"git.{key} is for {where}; git.url is not one", "remove it"
            )
    if table.username and not table.token:
        yield SettingsFault(
            ("git", "username"), "git.username is given without git.token", "give both"
        )
    if table.token and address.scheme == "http" and not is_loopback(address.host):
        what = "git.token would be sent unencrypted: git.url is http://"
        yield SettingsFault(("git", "url"), what, "use https://")
    for key in ("username", "token"):
        if git.has_control(getattr(table, key)):
            yield SettingsFault(("git", key), f"git.{key} has a control character in it")


def _values(table: git.GitSettings) -> Iterator[SettingsFault]:
    if table.branch and git.branch_fault(table.branch):
        what = f"git.branch: {table.branch!r} cannot be the name of a branch"
        yield SettingsFault(("git", "branch"), what, 'write it like "main", or leave it out')
    if table.path and git.path_fault(table.path):
        what = f"git.path: {table.path!r} is not a folder in a repository"
        yield SettingsFault(("git", "path"), what, 'write it like "gateway/apis", or leave it out')
    if not (math.isfinite(table.interval) and table.interval >= LEAST_INTERVAL):
        yield SettingsFault(
            ("git", "interval"), "git.interval must be 1 second or more, and finite"
        )
    if not (math.isfinite(table.timeout) and table.timeout > 0):
        yield SettingsFault(
            ("git", "timeout"), "git.timeout must be more than 0 seconds, and finite"
        )
    if not 1 <= table.max_size <= MAX_SIZE:
        yield SettingsFault(("git", "max_size"), f"git.max_size must be from 1 to {MAX_SIZE} (MiB)")
    if not table.folder:
        yield SettingsFault(
            ("git", "folder"), "git.folder is empty", "name a path, or leave the key out"
        )
    if table.broken not in ("reject", "skip"):
        what = f"git.broken: {table.broken!r} is not known"
        yield SettingsFault(("git", "broken"), what, 'use one of "reject", "skip"')
