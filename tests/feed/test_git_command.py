"""The program git: its environment, its limits, and how it ends."""

from __future__ import annotations

import os
import ssl
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from support.repositories import (
    TOKEN,
    USER,
    GitServer,
    Repository,
    all_end,
    git,
    relatives,
    start_git_server,
)
from support.secrets import secret, wrote
from trio_gw.config.git import GitSettings as Table
from trio_gw.feed import git_remote
from trio_gw.feed.git_command import GitCommand, environment
from trio_gw.feed.git_errors import GitError, explain

if TYPE_CHECKING:
    from pathlib import Path

CREDENTIALS = f"{USER}:{TOKEN}"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.project("pets", "ws://localhost:1")
    made.commit()
    return made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(tmp_path: Path, authority: trustme.CA) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.fixture
async def server(nursery: trio.Nursery, repository: Repository, authority: trustme.CA) -> GitServer:
    root = repository.bare.parent
    return await start_git_server(nursery, root, tls=context_of(authority), credentials=CREDENTIALS)


def context_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def head_of(url: str, base: Path, **more: Any) -> str:
    environ = more.pop("environ", os.environ)
    table = Table(url=url, **more)
    try:
        return (await git_remote.head(GitCommand(table, base, environ), table, base)).commit
    except GitError as error:
        wrote(str(error), "an error of git")
        raise


def holding(folder: Path, text: str) -> list[Path]:
    """Name the files below a folder that hold this text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]


async def test_https_with_a_token(
    server: GitServer, repository: Repository, tmp_path: Path, ca: str
) -> None:
    tip = git(repository.work, "rev-parse", "HEAD")
    assert await head_of(server.url, tmp_path, ca=ca, username=USER, token=TOKEN) == tip
    assert server.expected.decode() in server.credentials
    assert holding(tmp_path, TOKEN) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"token": secret("glpat-Ieph7ahy3ood5Ohghah9")}, "does not accept the credentials"),
        ({"token": TOKEN}, "does not accept the credentials"),  # another user
        ({}, "the server asks for credentials"),
        ({"username": USER, "token": TOKEN, "ca": ""}, "the server's certificate is not trusted"),
    ],
    ids=["wrong token", "wrong user", "no token", "no authority"],
)
async def test_https_refused(
    server: GitServer, tmp_path: Path, ca: str, more: dict[str, str], said: str
) -> None:
    with pytest.raises(GitError, match=said) as refused:
        await head_of(server.url, tmp_path, **{"ca": ca, **more})
    assert refused.value.temporary
    assert TOKEN not in str(refused.value)


async def test_the_token_is_shown_to_no_other_server(
    nursery: trio.Nursery,
    server: GitServer,
    repository: Repository,
    authority: trustme.CA,
    tmp_path: Path,
    ca: str,
) -> None:
    other = await start_git_server(
        nursery, repository.bare.parent, tls=context_of(authority), credentials="other:other"
    )
    server.open = True
    server.redirect = f"https://localhost:{other.port}"
    with pytest.raises(GitError, match="asks for credentials"):
        await head_of(server.url, tmp_path, ca=ca, username=USER, token=TOKEN)
    assert other.requests
    assert set(other.credentials) == {""}


async def test_a_server_cannot_lead_to_another_transport(
    server: GitServer, repository: Repository, tmp_path: Path, ca: str
) -> None:
    server.open = True
    server.redirect = f"file://{repository.bare.parent}"
    with pytest.raises(GitError) as refused:
        await head_of(server.url, tmp_path, ca=ca)
    assert "not supported" in str(refused.value) or "not allowed" in str(refused.value)


async def test_a_server_that_repeats_the_token(tmp_path: Path) -> None:
    table = Table(url="https://localhost/a", token="to/ken+secret-0123456789", username="u")
    runs = GitCommand(table, tmp_path, os.environ)
    said = b"remote: to/ken+secret-0123456789 to%2Fken%2Bsecret-0123456789"
    said += b" dTp0by9rZW4rc2VjcmV0LTAxMjM0NTY3ODk="
    assert runs.clean(said) == "remote: *** *** ***"


async def test_a_server_that_never_answers(server: GitServer, tmp_path: Path, ca: str) -> None:
    server.gate = trio.Event()
    with pytest.raises(GitError, match=r"git ls-remote took longer than 0\.5 s"):
        await head_of(server.url, tmp_path, ca=ca, username=USER, token=TOKEN, timeout=0.5)
    await all_end(ca)


async def test_cancelled_while_the_server_keeps_silent(
    server: GitServer, tmp_path: Path, ca: str
) -> None:
    server.gate = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, server, tmp_path, ca)
            await server.asked()
            lines = relatives(ca)
            assert len(lines) >= 2  # git and its helper for https
            assert all(TOKEN.encode() not in line for line in lines)
            nursery.cancel_scope.cancel()
    await all_end(ca)


async def ask(server: GitServer, base: Path, ca: str) -> None:
    await head_of(server.url, base, ca=ca, username=USER, token=TOKEN)


SSH = """#!{python}
import os, sys
with open("{log}", "a") as log:
    log.write(repr(sys.argv[1:]) + "\\n")
if "{fails}":
    sys.exit("{fails}")
os.execvp("sh", ["sh", "-c", sys.argv[-1]])
"""


def fake_ssh(folder: Path, fails: str = "") -> tuple[dict[str, str], Path]:
    """Put an `ssh` into the path that runs the command here, and notes how it was called."""
    (folder / "bin").mkdir()
    log = folder / "ssh.log"
    path = folder / "bin" / "ssh"
    path.write_text(SSH.format(python=sys.executable, log=log, fails=fails))
    path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}, log


@pytest.mark.parametrize("form", ["ssh://git@git.invalid:2222{path}", "git@git.invalid:{path}"])
async def test_ssh(tmp_path: Path, repository: Repository, form: str) -> None:
    environ, log = fake_ssh(tmp_path)
    url = form.format(path=repository.bare)
    more = {"ssh_key": "keys/deploy key", "known_hosts": "keys/known"}
    tip = git(repository.work, "rev-parse", "HEAD")
    assert await head_of(url, tmp_path, environ=environ, **more) == tip
    (called,) = log.read_text().splitlines()
    for word in (
        f"'-F', 'none', '-i', '{tmp_path}/keys/deploy key'",
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        f'UserKnownHostsFile="{tmp_path}/keys/known"',
        "git@git.invalid",
    ):
        assert word in called


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ("Host key verification failed.", "the SSH server's host key is not known"),
        ("git@h: Permission denied (publickey).", "does not accept this key"),
        ("ssh: Could not resolve hostname h: Name or service not known", "cannot be resolved"),
        ("ssh: connect to host h port 22: Connection refused", "cannot be reached"),
    ],
)
async def test_ssh_refused(tmp_path: Path, says: str, said: str) -> None:
    environ, _ = fake_ssh(tmp_path, says)
    with pytest.raises(GitError, match=said):
        await head_of("git@h:apis.git", tmp_path, environ=environ)


async def test_nobody_has_a_say_in_it(tmp_path: Path, repository: Repository) -> None:
    """Neither the gateway's user nor its environment, nor hooks of the repository."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[url "/nowhere"]\n\tinsteadOf = {repository.url}\n')
    steered = {"GIT_DIR": "/nowhere", "GIT_TRACE": "1", "GIT_ASKPASS": "/nowhere"}
    environ = {**os.environ, **steered, "HOME": str(home), "TRIO_GW_GIT_TOKEN": TOKEN}
    tip = git(repository.work, "rev-parse", "HEAD")
    assert await head_of(repository.url, tmp_path, environ=environ) == tip
    made = environment(Table(url=repository.url), tmp_path, environ)
    assert not set(made) & {*steered, "TRIO_GW_GIT_TOKEN"}
    assert TOKEN not in made.values()


async def test_without_git(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="the program git is not installed"):
        await head_of("/srv/apis.git", tmp_path, environ={"PATH": str(tmp_path)})


async def test_what_git_says_is_bounded(tmp_path: Path, repository: Repository) -> None:
    runs = GitCommand(Table(url=repository.url), tmp_path, os.environ)
    with pytest.raises(GitError, match="git cat-file has too much output"):
        await runs.run("cat-file", "-p", "HEAD", cwd=repository.bare, most=10)


def test_the_words_of_git_are_shortened_and_printable() -> None:
    said = explain("hint: x\nfatal: a\x1b[31m\u200bb\nerror: " + "c" * 300, "fetch", 128)
    assert said.what.startswith("git fetch failed (a?[31m?b; ccc")
    assert len(said.what) < 250
    assert explain("", "fetch", -9).what == "git fetch failed (ended by signal 9)"
    assert explain("", "fetch", 3).what == "git fetch failed (code 3)"
