"""Explain the messages of git: cause and hint. Pure."""

from __future__ import annotations

import re

_LENGTH = 200  # characters of git's own message that are repeated
_NOISE = re.compile(
    r"^(?:fatal|error|remote|warning|ssh): *|^(?:hint|Cloning|POST|From|\*|@).*"
    r"|^Please make sure you have.*|^and the repository exists.*"
)
_SAME = "Could not read from remote repository."  # git adds it to other messages

# Patterns in messages of git (the first match counts), the cause, and a hint.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"File size limit exceeded|signal 25|File too large",
        "the commit is larger than git.max_size",
        "remove large files, or increase git.max_size",
    ),
    (
        r"Out of memory|malloc failed|Cannot allocate",
        "the commit needs too much memory",
        "remove large files",
    ),
    (
        r"[Nn]o space left|Disk quota",
        "the disk is full",
        "free space for the folder git.folder",
    ),
    (
        r"Host key verification failed|No \w+ host key is known",
        "the SSH server's host key is not known",
        "check its fingerprint and add it to the file git.known_hosts (ssh-keyscan prints it)",
    ),
    (
        r"UNPROTECTED PRIVATE KEY|bad permissions",
        "ssh refuses the key because other users can read its file",
        "run chmod 600 on the file git.ssh_key",
    ),
    (
        r"Identity file .{0,4096}? not accessible",
        "the file git.ssh_key cannot be read",
        "set another file, or give the gateway's user read access",
    ),
    (
        r"Permission denied \(|Load key|Too many authentication failures",
        "the SSH server does not accept this key",
        "set git.ssh_key to a key without passphrase and add its public key to the server",
    ),
    (
        r"Authentication failed|HTTP Basic: Access denied|Invalid username or|returned error: 401",
        "the server does not accept the credentials",
        "check git.username and git.token",
    ),
    (
        r"could not read (?:Username|Password)|terminal prompts disabled",
        "the server asks for credentials",
        "set git.username and git.token, or check whether they are still valid",
    ),
    (
        r"returned error: 403",
        "the server denies access",
        "check the permissions of git.token: it must be able to read the repository",
    ),
    (
        r"dubious ownership",
        "the repository belongs to another user",
        "make the gateway's user its owner, or use https:// or ssh://",
    ),
    (
        r"[Rr]epository .{0,4096}?not found|not a git repository|returned error: 404"
        r"|does not appear to be a git repository|No such file or directory|valid repository",
        "the repository does not exist",
        "check git.url, and that the credentials give access to the repository",
    ),
    (
        r"SSL certificate|certificate (?:problem|verif)|server certificate|SSL: |gnutls_handshake",
        "the server's certificate is not trusted",
        "set git.ca to the file of its certificate authority, or renew the certificate",
    ),
    (
        r"Could not resolve|Name or service not known|Temporary failure in name resolution",
        "the server's name cannot be resolved",
        "check git.url and DNS",
    ),
    (
        r"Connection refused|Failed to connect|Couldn't connect|Connection timed out|No route to"
        r"|Network is unreachable|Connection reset|Operation too slow|hung up|early EOF"
        r"|Connection closed|Empty reply|returned error: 5\d\d|unexpected disconnect",
        "the server cannot be reached, or the connection broke",
        "check the network and the server",
    ),
    (
        r"transport '\w*' not allowed|Protocol .* not (?:supported|allowed)",
        "the server redirects to another kind of URL",
        "set git.url to the target of the redirect",
    ),
    (
        r"dumb http transport",
        "the server uses an old protocol that cannot fetch a single commit",
        "serve the repository with git http-backend or over SSH",
    ),
)


class GitError(Exception):
    """A git operation failed: the cause and a hint. Has no secrets.

    `temporary`: the cause may disappear, so the operation is tried again after a pause.
    """

    def __init__(self, what: str, hint: str, *, temporary: bool = True) -> None:
        self.what = what
        self.hint = hint
        self.temporary = temporary
        super().__init__(f"{what}; {hint}")


def explain(output: str, command: str, code: int) -> GitError:
    """Find the cause in the output of git; the error also quotes a part of the output."""
    if code < 0 and not output:
        output = f"ended by signal {-code}"
    quoted = _quote(output)
    for pattern, what, hint in _CAUSES:
        if re.search(pattern, output):
            shown = f"{what} ({quoted})" if quoted else what
            return GitError(shown, hint, temporary=not what.startswith("the commit "))
    return GitError(f"git {command} failed ({quoted or f'code {code}'})", "check git.url")


def _quote(output: str) -> str:
    """Return the first relevant lines of git's output as one printable line."""
    lines = []
    for line in output.splitlines():
        text = _NOISE.sub("", line.strip()).strip()
        if text and text != _SAME and text not in lines:
            lines.append(text)
            if len(lines) == 3:
                break
    joined = "; ".join(lines)
    shown = "".join(letter if letter.isprintable() else "?" for letter in joined)
    return shown if len(shown) <= _LENGTH else f"{shown[:_LENGTH]}…"
