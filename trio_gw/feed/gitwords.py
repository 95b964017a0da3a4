"""What git says, in words that name the cause and the remedy. Pure."""

from __future__ import annotations

import re

_LENGTH = 200  # characters of git's own words that are repeated
_NOISE = re.compile(
    r"^(?:fatal|error|remote|warning|ssh): *|^(?:hint|Cloning|POST|From|\*|@).*"
    r"|^Please make sure you have.*|^and the repository exists.*"
)
_SAME = "Could not read from remote repository."  # follows whatever went wrong

# Patterns in what git says, the first that is found counts; what that means, and what to do.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"File size limit exceeded|signal 25|File too large",
        "the commit is larger than git.max_size",
        "remove large files, or raise it",
    ),
    (
        r"Out of memory|malloc failed|Cannot allocate",
        "the commit needs too much memory",
        "remove large files",
    ),
    (
        r"[Nn]o space left|Disk quota",
        "the disk is full",
        "make room for the folder git.folder",
    ),
    (
        r"Host key verification failed|No \w+ host key is known",
        "the SSH server's host key is not known",
        "check its fingerprint, and add it to the file of git.known_hosts (ssh-keyscan prints it)",
    ),
    (
        r"UNPROTECTED PRIVATE KEY|bad permissions",
        "ssh refuses the key: others may read its file",
        "chmod 600 the file of git.ssh_key",
    ),
    (
        r"Identity file .* not accessible",
        "the file of git.ssh_key cannot be read",
        "name another one, or let the gateway's user read it",
    ),
    (
        r"Permission denied \(|Load key|Too many authentication failures",
        "the SSH server lets nobody in with this key",
        "see to git.ssh_key: a key without passphrase whose public half the server knows",
    ),
    (
        r"Authentication failed|HTTP Basic: Access denied|Invalid username or|returned error: 401",
        "the server does not accept the credentials",
        "see to git.username and git.token",
    ),
    (
        r"could not read (?:Username|Password)|terminal prompts disabled",
        "the server asks for credentials",
        "give git.username and git.token, or see whether they are still good",
    ),
    (
        r"returned error: 403",
        "the server forbids it",
        "see to what git.token may do: it needs to read the repository",
    ),
    (
        r"dubious ownership",
        "the repository belongs to another user",
        "let the gateway's user own it, or reach it by https:// or ssh://",
    ),
    (
        r"[Rr]epository .*not found|not a git repository|returned error: 404"
        r"|does not appear to be a git repository|No such file or directory|valid repository",
        "there is no such repository",
        "see to git.url, and whether the credentials may see it",
    ),
    (
        r"SSL certificate|certificate (?:problem|verif)|server certificate|SSL: |gnutls_handshake",
        "the server's certificate is not trusted",
        "name the authority's file in git.ca, or have the certificate renewed",
    ),
    (
        r"Could not resolve|Name or service not known|Temporary failure in name resolution",
        "the server's name cannot be resolved",
        "see to git.url and to DNS",
    ),
    (
        r"Connection refused|Failed to connect|Couldn't connect|Connection timed out|No route to"
        r"|Network is unreachable|Connection reset|Operation too slow|hung up|early EOF"
        r"|Connection closed|Empty reply|returned error: 5\d\d|unexpected disconnect",
        "the server cannot be reached, or gave up",
        "see to the network and the server",
    ),
    (
        r"transport '\w*' not allowed|Protocol .* not (?:supported|allowed)",
        "the server leads to another kind of address",
        "give the address it leads to in git.url",
    ),
    (
        r"dumb http transport",
        "the server speaks an old protocol that cannot give a single commit",
        "serve the repository with git http-backend, or by ssh",
    ),
)


class GitError(Exception):
    """Something could not be done with git: what, and how to fix it. Holds no secret.

    `passing`: it may be over by itself soon, so it is tried again with patience.
    """

    def __init__(self, what: str, hint: str, *, passing: bool = True) -> None:
        self.what = what
        self.hint = hint
        self.passing = passing
        super().__init__(f"{what}; {hint}")


def explain(said: str, command: str, code: int) -> GitError:
    """Find the cause in what git said; its own words follow it, shortened."""
    if code < 0 and not said:
        said = f"died of signal {-code}"
    words = _words(said)
    for pattern, what, hint in _CAUSES:
        if re.search(pattern, said):
            said_too = f"{what} ({words})" if words else what
            return GitError(said_too, hint, passing=not what.startswith("the commit "))
    return GitError(f"git {command} failed ({words or f'code {code}'})", "see to git.url")


def _words(said: str) -> str:
    """Pick what matters: the first lines that are git's own, on one line, of printable text."""
    lines = []
    for line in said.splitlines():
        text = _NOISE.sub("", line.strip()).strip()
        if text and text != _SAME and text not in lines:
            lines.append(text)
    joined = "; ".join(lines[:3])
    shown = "".join(letter if letter.isprintable() else "?" for letter in joined)
    return shown if len(shown) <= _LENGTH else f"{shown[:_LENGTH]}…"
