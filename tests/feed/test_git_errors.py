"""Messages of git and ssh, and the causes and hints found for them."""

from __future__ import annotations

import pytest

from trio_gw.feed.git_errors import explain

READ = (
    "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access"
)
READ += " rights\nand the repository exists.\n"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("fatal: Authentication failed for 'https://h/a.git/'", "does not accept the credentials"),
        ("remote: HTTP Basic: Access denied.\nfatal: Authentication failed", "not accept the cred"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "asks for"),
        (
            "fatal: unable to access 'https://h/': The requested URL returned error: 403",
            "denies access",
        ),
        (
            "remote: Repository not found.\nfatal: repository 'https://h/a' not found",
            "does not exist",
        ),
        (f"ERROR: Repository not found.\n{READ}", "repository does not exist"),
        (
            "fatal: '/a' does not appear to be a git repository\n" + READ,
            "repository does not exist",
        ),
        ("fatal: detected dubious ownership in repository at '/a'", "belongs to another user"),
        (
            "fatal: unable to access 'https://h/': server certificate verification failed.",
            "trusted",
        ),
        ("fatal: unable to access 'https://h/': SSL certificate problem: expired", "not trusted"),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", "cannot be resolved"),
        ("fatal: unable to access 'https://h/': Failed to connect to h port 443", "reached"),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 502", "reached"),
        (
            "fatal: the remote end hung up unexpectedly",
            "cannot be reached, or the connection broke",
        ),
        (f"Host key verification failed.\n{READ}", "host key is not known"),
        (f"git@h: Permission denied (publickey).\n{READ}", "does not accept this key"),
        ("fatal: dumb http transport does not support shallow capabilities", "old protocol"),
        ("fatal: transport 'ext' not allowed", "another kind of URL"),
        ("fatal: write error: No space left on device", "the disk is full"),
    ],
)
def test_causes(said: str, cause: str) -> None:
    error = explain(said, "fetch", 128)
    assert cause in error.what
    assert error.hint
    assert error.temporary
    assert "Please make sure" not in error.what
    assert "Could not read from remote repository" not in error.what


@pytest.mark.parametrize(
    "said",
    ["fatal: write error: File too large", "fatal: Out of memory, malloc failed (tried 9 bytes)"],
)
def test_what_is_wrong_with_a_commit_does_not_pass(said: str) -> None:
    assert not explain(said, "fetch", 128).temporary
