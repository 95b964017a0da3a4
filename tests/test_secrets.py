"""The comparison at the end of the suite finds what it is there for."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from support.secrets import BOOK, Book

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4"
PASSWORD = "correct horse, battery staple"


def book(text: str) -> Book:
    made = Book(set(), set(), {})
    made.secret(TOKEN)
    made.secret(PASSWORD)
    made.secret("opaque-0123456789")
    made.secret("admin")
    made.wrote(text, "log")
    return made


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"token={TOKEN}&a=1",
        f"Bearer {TOKEN}: refused",
        "sig c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4",
        "cut c2lnbmF0dXJlLW9mLX…",
        f"user admin, password {PASSWORD!r}",
        "got opaque-0123456789!",
    ],
)
def test_a_secret_in_a_text_is_found_and_not_repeated(text: str) -> None:
    (leak,) = book(text).leaks()
    assert leak.startswith("log: ")
    for piece in ("c2lnbmF0", "battery", "opaque-0"):
        assert piece not in leak


@pytest.mark.parametrize("text", ["", "admin", "eyJhbGciOiJSUzI1NiJ9", "opaque-01234", "token"])
def test_other_texts_are_not(text: str) -> None:
    assert book(text).leaks() == []


def test_log_lines_below_info_are_kept(tmp_path: Path) -> None:
    logging.getLogger("trio_gw.anything").debug("a line that only %s could show", tmp_path)
    assert f"a line that only {tmp_path} could show" in BOOK.texts


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_leak_fails_the_run(tmp_path: Path, workers: str) -> None:
    tests = Path(__file__).parent
    (tmp_path / "conftest.py").write_text((tests / "conftest.py").read_text())
    (tmp_path / "test_leak.py").write_text(
        "from support.secrets import secret, wrote\n"
        f"def test_one(): wrote('GET /?t=' + secret({TOKEN!r}), 'log')\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", workers),
            *("-o", f"pythonpath={tests}", "test_leak.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 passed" in done.stdout
    assert "log: 'GET /?' and then a secret" in done.stdout
    assert TOKEN not in done.stdout
    assert done.returncode == 1
