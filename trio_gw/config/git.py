"""The table `[git]`, and addresses of repositories. Pure.

An address is a URL (`https://`, `http://`, `ssh://`, `file://`), the short form of SSH
(`git@host:path`) or the path of a repository on this machine. Other transports are not used:
some of them run programs.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

Scheme = Literal["https", "http", "ssh", "file"]

_SCHEMES: dict[str, Scheme] = {"https": "https", "http": "http", "ssh": "ssh", "file": "file"}
_SHORT = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>\[[0-9A-Fa-f:]+\]|[^/:@\[\]]+):(?P<path>.*)"
)
# git-check-ref-format(1): the names that may be requested from a server.
_NOT_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[-/.]|[/.]$|\.lock(?:/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class GitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A repository whose projects are served; off without `url`. Its repr hides the token.

    An empty `branch` means the default branch of the remote; `path` is the folder of the projects.
    `interval` and `timeout` in seconds, `max_size` in MiB. Relative paths are relative to the
    folder of the settings. `broken` is `reject` (ignore a commit with a broken project) or `skip`
    (ignore only the project).
    """

    url: str = ""
    branch: str = ""
    path: str = ""
    interval: float = 30.0
    timeout: float = 60.0  # for each run of git
    username: str = ""
    token: str = ""
    ssh_key: str = ""
    known_hosts: str = ""
    ca: str = ""
    folder: str = "git"
    broken: str = "reject"
    max_size: int = 128  # of what is fetched, and of what it holds

    def __repr__(self) -> str:
        return f"Git(url={self.url!r}, branch={self.branch!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("url", self.url), ("branch", self.branch)]


class Address(NamedTuple):
    """A parsed address; credentials are for its `origin`, `https://host:port`."""

    scheme: Scheme
    host: str
    origin: str


def parse(url: str) -> Address:
    """Parse an address. Raises ValueError with a text that says what is wrong."""
    if url.startswith("-"):
        raise ValueError("it begins with a hyphen")
    if _CONTROL.search(url):
        raise ValueError("it has a control character")
    if url.startswith("/"):
        return Address("file", "", "")
    if "://" in url:
        return _parse_url(url)
    if "::" in url.partition("/")[0].partition("[")[0]:
        raise ValueError("other transports than https, http, ssh and file are not used")
    found = _SHORT.fullmatch(url)
    if found is None or not found["path"]:
        raise ValueError("it is neither a URL nor an absolute path nor like git@host:path")
    host = found["host"]
    if host.startswith("-") or (found["user"] or "").startswith("-"):
        raise ValueError("its host begins with a hyphen")
    return Address("ssh", host, "")


def _parse_url(url: str) -> Address:
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("a file:// URL has three slashes and an absolute path")
        return Address("file", "", "")
    if scheme is None:
        raise ValueError("other transports than https, http, ssh and file are not used")
    if "?" in url or "#" in url:
        raise ValueError("it has a query or a fragment")
    if parts.password is not None or (parts.username is not None and scheme != "ssh"):
        raise ValueError("it has credentials")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"its port is wrong: {error}") from None
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        raise ValueError("it has no host")
    named = f"[{host}]" if ":" in host else host
    return Address(scheme, host, f"{scheme}://{named}" + (f":{port}" if port else ""))


def branch_fault(branch: str) -> bool:
    """Return whether this cannot be the name of a branch."""
    return len(branch.encode()) > 250 or _NOT_IN_BRANCH.search(branch) is not None


def path_fault(path: str) -> bool:
    """Return whether this cannot be a folder of a repository, relative to its root."""
    parts = path.split("/")
    return _CONTROL.search(path) is not None or any(one in ("", ".", "..") for one in parts)


def has_control(text: str) -> bool:
    """Return whether there is a control character in a text."""
    return _CONTROL.search(text) is not None
