"""`trio-gw hash-password` as a process: from a pipe, and from a terminal that shows nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.commands import environment, gw
from trio_gw.config import passwords

if TYPE_CHECKING:
    from pathlib import Path


def piped(folder: Path, data: bytes, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "trio_gw", "hash-password"],
        cwd=folder,
        env=environment(**more),
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("data", "password"),
    [
        (b"hunter2", b"hunter2"),
        (b"hunter2\n", b"hunter2"),
        (b"hunter2\r\n", b"hunter2"),
        (b" hunter 2 \nmore", b" hunter 2 "),
        ("pässword\n".encode(), "pässword".encode()),
    ],
)
def test_the_first_line_of_standard_input(tmp_path: Path, data: bytes, password: bytes) -> None:
    done = piped(tmp_path, data, LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert text.endswith("\n")
    assert password.decode() not in text
    assert passwords.parse(text.rstrip("\n")).matches(password)


def test_the_same_password_gives_another_hash_each_time(tmp_path: Path) -> None:
    assert piped(tmp_path, b"hunter2").stdout != piped(tmp_path, b"hunter2").stdout


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no password in its first line"),
        (b"\n", "no password in its first line"),
        (b"hunter2\xff\n", "not UTF-8"),
        (b"x" * 5000, "longer than 4096 bytes"),
    ],
)
def test_what_cannot_be_hashed(tmp_path: Path, data: bytes, what: str) -> None:
    done = piped(tmp_path, data)
    assert (done.returncode, done.stdout) == (1, b"")
    assert what in done.stderr.decode()
    assert b"hunter2" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "code", "what"),
    [
        (b"hunter2\nhunter2\n", 0, ""),
        (b"hunter2\nhunter3\n", 1, "the two passwords differ"),
        (b"\n\n", 1, "the password is empty"),
        (b"\x04", 1, "no password was given"),
    ],
)
def test_on_a_terminal(tmp_path: Path, typed: bytes, code: int, what: str) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "trio_gw", "hash-password"],
            cwd=tmp_path,
            env=environment(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal but the one it is given
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            said = b""
            for line in typed.splitlines(keepends=True):
                while not said.endswith(b": "):  # typed when asked, as echo is off by then
                    data = os.read(process.stderr.fileno(), 1024)
                    assert data, said
                    said += data
                terminal.write(line)
                said += b"|"
            out, rest = process.stdout.read(), process.stderr.read()
        os.set_blocking(theirs, False)
        os.set_blocking(ours, False)
        shown = terminal.read() or b""
        os.close(theirs)
    assert process.returncode == code, rest
    assert b"hunter" not in shown + said + rest
    assert what in rest.decode()
    assert passwords.parse(out.decode().strip()).matches(b"hunter2") if code == 0 else out == b""


def test_help_says_where_the_hash_goes(tmp_path: Path) -> None:
    done = gw(tmp_path, "hash-password", "--help")
    assert done.returncode == 0
    assert "[[testkey.users]]" in done.stdout
    assert "$scrypt$ln=14,r=8,p=5$" in done.stdout
